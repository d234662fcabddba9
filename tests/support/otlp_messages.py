"""OTLP requests of any shape, written as a test says them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.otlp_fixtures import Request


def attributes(pairs: Mapping[str, object]) -> list[dict[str, Any]]:
    """Return attributes as OTLP's JSON has them; a value that is a dict stands as it is."""
    return [{"key": key, "value": _value(value)} for key, value in pairs.items()]


def _value(value: object) -> object:
    if isinstance(value, dict):
        return value
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}


def point(value: object, start: int = 0, **labels: object) -> dict[str, Any]:
    """Return a point; in the names of its attributes ``__`` is a dot."""
    named = {name.replace("__", "."): value for name, value in labels.items()}
    key = "asDouble" if isinstance(value, float | str) else "asInt"
    return {key: value, "startTimeUnixNano": str(start), "attributes": attributes(named)}


def counter(name: str, *points: dict[str, Any], delta: bool = False, unit: str = "") -> Any:
    """Return a sum that only grows."""
    data = {
        "dataPoints": list(points),
        "aggregationTemporality": 1 if delta else 2,
        "isMonotonic": True,
    }
    return {"name": name, "unit": unit, "sum": data}


def gauge(name: str, *points: dict[str, Any], unit: str = "") -> Any:
    """Return a gauge."""
    return {"name": name, "unit": unit, "gauge": {"dataPoints": list(points)}}


def metrics(*of: Any, scope: str = "s", **resource: object) -> Request:
    """Return a request with the metrics of one resource; ``__`` as in ``point``."""
    scoped = [{"scope": {"name": scope}, "metrics": list(of)}]
    return _request("/v1/metrics", "resourceMetrics", "scopeMetrics", scoped, resource)


def record(event: str, **fields: object) -> dict[str, Any]:
    """Return a log record of an event; ``__`` as in ``point``."""
    named = {name.replace("__", "."): value for name, value in fields.items()}
    return {"attributes": attributes({"event.name": event, **named})}


def logs(*records: dict[str, Any], **resource: object) -> Request:
    """Return a request with the log records of one resource; ``__`` as in ``point``."""
    scoped = [{"scope": {}, "logRecords": list(records)}]
    return _request("/v1/logs", "resourceLogs", "scopeLogs", scoped, resource)


def _request(
    path: str, top: str, middle: str, scoped: Sequence[object], resource: Mapping[str, object]
) -> Request:
    named = {name.replace("__", "."): value for name, value in resource.items()}
    one = {"resource": {"attributes": attributes(named)}, middle: scoped}
    return Request(path, json.dumps({top: [one]}).encode(), "application/json")
