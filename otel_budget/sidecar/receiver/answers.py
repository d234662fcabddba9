"""What the receiver answers, in the encoding that it was asked in (OTLP, "OTLP/HTTP Response").

Success has an empty message, or one that says how much was refused: never an empty one for what was
dropped. An error has a ``google.rpc.Status``.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from starlette.responses import Response

from otel_budget import semconv

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON: Final = "application/json"
PROTOBUF: Final = "application/x-protobuf"
METRICS, LOGS, TRACES = "metrics", "logs", "traces"
#: What became of a request, as the metric of them says.
TAKEN, IGNORED, REFUSED, BUSY, UNSTORED = semconv.PUSH_OUTCOMES
#: Codes of gRPC by the status of HTTP.
_CODES: Final = {
    HTTPStatus.BAD_REQUEST: 3,
    HTTPStatus.UNAUTHORIZED: 16,
    HTTPStatus.NOT_FOUND: 5,
    HTTPStatus.METHOD_NOT_ALLOWED: 12,
    HTTPStatus.TOO_MANY_REQUESTS: 8,
    HTTPStatus.SERVICE_UNAVAILABLE: 14,
}
_OTHERWISE: Final = 3
#: In a number of protobuf, added to each byte but the last.
_MORE: Final = 128
_REJECTED: Final = {METRICS: "rejectedDataPoints", LOGS: "rejectedLogRecords"}
#: The connection of a request that was not read to its end is of no use any more.
CLOSE: Final = {"Connection": "close"}
NO_STORE: Final = {"Cache-Control": "no-store"}


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(
        self,
        status: HTTPStatus,
        words: str,
        headers: Mapping[str, str] | None = None,
        *,
        outcome: str = REFUSED,
    ) -> None:
        """words: for people, without anything of the request. outcome: as the metric has it."""
        super().__init__(words)
        self.status, self.words, self.headers = status, words, dict(headers or {})
        self.outcome = outcome


def taken(signal: str, kind: str, rejected: int = 0, words: str = "") -> Response:
    """Return the answer to what was taken. rejected: points or records that were not."""
    if kind == JSON:
        said: dict[str, object] = {}
        if rejected or words:
            said = {"partialSuccess": {_REJECTED[signal]: str(rejected), "errorMessage": words}}
        return Response(json.dumps(said), media_type=JSON, headers=NO_STORE)
    body = _partial(signal, rejected, words).SerializeToString() if rejected or words else b""
    return Response(body, media_type=PROTOBUF, headers=NO_STORE)


def refused(error: RefusedError, kind: str) -> Response:
    """Return the answer to what was not taken. kind: the media type of the request."""
    code = _CODES.get(error.status, _OTHERWISE)
    headers = {**NO_STORE, **error.headers}
    if kind == PROTOBUF:
        return Response(_status(code, error.words), error.status, headers, PROTOBUF)
    said = {"code": code, "message": error.words}
    return Response(json.dumps(said), error.status, headers, JSON)


def _partial(signal: str, rejected: int, words: str) -> Message:
    if signal == LOGS:
        logs = ExportLogsServiceResponse()
        logs.partial_success.rejected_log_records = rejected
        logs.partial_success.error_message = words
        return logs
    metrics = ExportMetricsServiceResponse()
    metrics.partial_success.rejected_data_points = rejected
    metrics.partial_success.error_message = words
    return metrics


def _status(code: int, words: str) -> bytes:
    """Return a google.rpc.Status: field 1 the code, field 2 the message."""
    text = words.encode()
    return b"\x08" + _varint(code) + b"\x12" + _varint(len(text)) + text


def _varint(number: int) -> bytes:
    found = bytearray()
    while number >= _MORE:
        found.append(number % _MORE + _MORE)
        number //= _MORE
    found.append(number)
    return bytes(found)
