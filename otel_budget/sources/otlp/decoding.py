"""From a body and its content type to a request: protobuf or JSON, all of it or an error."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from otel_budget.sources.otlp import json_format, protobuf
from otel_budget.sources.otlp.messages import Logs, Metrics, OtlpError

if TYPE_CHECKING:
    from types import ModuleType

    from otel_budget.sources.otlp.wanted import Wanted

JSON: Final = "application/json"
PROTOBUF: Final = "application/x-protobuf"
#: Content type to what reads it. A receiver answers others with 415.
CONTENT_TYPES: Final = {JSON: json_format, PROTOBUF: protobuf}


def media_type(content_type: str) -> str:
    """Return a content type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def decode_metrics(body: bytes, content_type: str, wanted: Wanted) -> Metrics:
    """Decode a request with metrics. Raises OtlpError. Pure: it may run in any thread."""
    read = _reader(content_type).metrics
    return Metrics(tuple(read(body, wanted)), _digest(body))


def decode_logs(body: bytes, content_type: str, wanted: Wanted) -> Logs:
    """Decode a request with log records. Raises OtlpError. Pure: it may run in any thread."""
    read = _reader(content_type).logs
    return Logs(tuple(read(body, wanted)), _digest(body))


def _reader(content_type: str) -> ModuleType:
    found = CONTENT_TYPES.get(media_type(content_type))
    if found is None:
        raise OtlpError(f"the content type is neither {PROTOBUF} nor {JSON}")
    return found


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).digest()
