"""A run that is known already is told its limits before its next program starts.

They come with what the program pushes. But a hook would have stopped its first prompt by then, by
the limits that the last process had: after a raise as well.
"""

from __future__ import annotations

import http.client
import json
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A counter that presets read: nothing of it was used.
_METRIC: Final = "claude_code.token.usage"
_TIMEOUT: Final = 5.0


def announce(receiver: str, attributes: Mapping[str, str], headers: str = "") -> bool:
    """Push the run's limits, with no use; tell whether they were taken.

    attributes: of the resource. headers: as ``OTEL_EXPORTER_OTLP_HEADERS`` has them.
    """
    parts = urlsplit(receiver)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT)
    try:
        body = json.dumps(_request(attributes, time.time_ns()))
        sent = {"Content-Type": "application/json", **_headers(headers)}
        connection.request("POST", f"{parts.path}/v1/metrics", body, sent)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        return False  # a receiver that is not there is said by who follows the run
    finally:
        connection.close()
    return answer.status == http.client.OK


def _request(attributes: Mapping[str, str], now: int) -> dict[str, Any]:
    point = {
        "attributes": [_attribute("type", "input")],
        "startTimeUnixNano": str(now), "timeUnixNano": str(now), "asInt": "0",
    }  # fmt: skip
    metric = {
        "name": _METRIC, "unit": "tokens",
        "sum": {"aggregationTemporality": 1, "isMonotonic": True, "dataPoints": [point]},
    }  # fmt: skip
    resource = {"attributes": [_attribute(name, value) for name, value in attributes.items()]}
    return {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]}


def _attribute(name: str, value: str) -> dict[str, Any]:
    return {"key": name, "value": {"stringValue": value}}


def _headers(text: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in text.split(",") if "=" in pair)
    return {unquote(name.strip()): unquote(value.strip()) for name, _, value in pairs}
