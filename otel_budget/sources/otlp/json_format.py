"""OTLP in JSON, read leniently: what exporters write differs, and an unknown key is no error.

Numbers of 64 bits may be text, enums a number or a name, a value ``{}``, attributes absent. Only
names in lowerCamelCase are OTLP's.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from typing import TYPE_CHECKING, Any, Final

from otel_budget.sources.otlp import messages
from otel_budget.sources.otlp.attributes import Value, kept, taken
from otel_budget.sources.otlp.messages import (
    Metric,
    OtlpError,
    Point,
    Record,
    Resource,
    Room,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from otel_budget.sources.otlp.wanted import Wanted

_KINDS: Final = {
    "sum": messages.SUM,
    "gauge": messages.GAUGE,
    "histogram": messages.HISTOGRAM,
    "exponentialHistogram": messages.HISTOGRAM,
    "summary": messages.SUMMARY,
}
_DELTA: Final = (1, "1", "AGGREGATION_TEMPORALITY_DELTA")
#: Bit of a point's flags: there is no value in it.
_NO_VALUE: Final = 1
_DEEPEST: Final = 16
#: Objects and lists in a body, those in its texts counted with them: each takes memory.
_OBJECTS_MOST: Final = 2_000_000
_LONGEST_NUMBER: Final = 400
_WHOLE: Final = re.compile("-?[0-9]{1,20}")
_EMPTY: Final[Mapping[str, Any]] = {}


def load(body: bytes, wanted: str) -> list[Any]:
    """Return the list under a key of a body. Raises OtlpError."""
    if body.count(b"{") + body.count(b"[") > _OBJECTS_MOST:
        raise OtlpError("too many objects in one body")
    try:
        whole = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise OtlpError("the body is not JSON, or nested too deeply") from exc
    if not isinstance(whole, dict):
        raise OtlpError("the body is not a JSON object")
    if whole and wanted not in whole:
        raise OtlpError(f"the body has no {wanted}")
    return _list(whole, wanted)


def metrics(body: bytes, wanted: Wanted) -> Iterator[tuple[Resource, tuple[Metric, ...]]]:
    """Yield the resources of a request, with their metrics that are wanted. Raises OtlpError."""
    left = Room()
    for one in load(body, "resourceMetrics"):
        found: list[Metric] = []
        scopes = _list(one, "scopeMetrics")
        left.take(1 + len(scopes))
        for scoped in scopes:
            scope, many = _text(_dict(scoped, "scope"), "name"), _list(scoped, "metrics")
            left.take(len(many))
            for metric in many:
                _points(_object(metric), scope, wanted, left, found)
        yield _resource(one, wanted), tuple(found)


def logs(body: bytes, wanted: Wanted) -> Iterator[tuple[Resource, tuple[Record, ...]]]:
    """Yield the resources of a request, with their records that are wanted. Raises OtlpError."""
    left = Room()
    for one in load(body, "resourceLogs"):
        found: list[Record] = []
        scopes = _list(one, "scopeLogs")
        left.take(1 + len(scopes))
        for scoped in scopes:
            records = _list(scoped, "logRecords")
            left.take(len(records))
            found += filter(None, (_record(_object(each), wanted) for each in records))
        yield _resource(one, wanted), tuple(found)


def _resource(of: Any, wanted: Wanted) -> Resource:
    return Resource(*taken(_attributes(_dict(of, "resource")), wanted.keeps_of_resource))


def _points(
    metric: Mapping[str, Any], scope: str, wanted: Wanted, left: Room, found: list[Metric]
) -> None:
    """Add a metric to those that were found, if it is wanted."""
    name, unit = _text(metric, "name"), _text(metric, "unit")
    for key, kind in _KINDS.items():
        if key not in metric:
            continue
        data = _dict(metric, key)
        points, monotonic = _list(data, "dataPoints"), data.get("isMonotonic") is True
        left.take(len(points))
        if wanted.metric(name, unit, kind, monotonic=monotonic):
            counted = kind not in (messages.GAUGE, messages.SUMMARY)
            delta = counted and data.get("aggregationTemporality") in _DELTA
            read = _number_point if kind in (messages.SUM, messages.GAUGE) else _sum_point
            several = (read(_object(point), (name, scope), wanted) for point in points)
            here = tuple(point for point in several if point is not None)
            if kind == messages.SUMMARY:  # proto3 leaves out a sum of 0 there
                here = tuple(p if p.value is not None else p._replace(value=0.0) for p in here)
            found.append(Metric(name, unit, kind, delta, monotonic, scope, here))
        return


def _number_point(point: Mapping[str, Any], of: tuple[str, str], wanted: Wanted) -> Point | None:
    if _flags(point):
        return None
    value: float | int | None = None
    if "asDouble" in point:
        value = _float(point["asDouble"])
    elif "asInt" in point:
        value = _int(point["asInt"])
    attributes, stream = taken(_attributes(point), wanted.keeps_of_point, *of)
    return Point(attributes, stream, _int(point.get("startTimeUnixNano", 0)), value)


def _sum_point(point: Mapping[str, Any], of: tuple[str, str], wanted: Wanted) -> Point | None:
    if _flags(point):
        return None
    value = _float(point["sum"]) if "sum" in point else None
    attributes, stream = taken(_attributes(point), wanted.keeps_of_point, *of)
    start, count = _int(point.get("startTimeUnixNano", 0)), _int(point.get("count", 0))
    return Point(attributes, stream, start, value, count)


def _flags(point: Mapping[str, Any]) -> bool:
    """Tell whether a point says that it has no value."""
    return bool(_int(point.get("flags", 0)) & _NO_VALUE)


def _record(record: Mapping[str, Any], wanted: Wanted) -> Record | None:
    names: list[object] = [
        value for key, value in _attributes(record) if key == messages.EVENT_NAME
    ]
    names += [record.get("eventName"), _value(_dict(record, "body"))]
    found = tuple(name for name in names if isinstance(name, str) and name in wanted.events)
    if not found:
        return None
    return Record(found, kept(_attributes(record), wanted.keeps_of_record))


def _attributes(of: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    return _pairs(_list(of, "attributes"))


def _value(of: Mapping[str, Any], depth: int = 0) -> Value:
    """Return an attribute's value: a plain one, bytes, or nested ones as a tuple."""
    if depth > _DEEPEST:
        raise OtlpError("a value is nested too deeply")
    for key, value in of.items():
        if key in _PLAIN:
            return _PLAIN[key](value)
        if key == "arrayValue":
            values = _list(_object(value), "values")
            return tuple(_value(_object(each), depth + 1) for each in values)
        if key == "kvlistValue":
            return tuple(_pairs(_list(_object(value), "values"), depth + 1))
    return None


def _pairs(pairs: Iterable[Any], depth: int = 0) -> Iterator[tuple[str, Value]]:
    for pair in pairs:
        key, value = _object(pair).get("key"), pair.get("value")
        if type(key) is not str:
            key = _text(pair, "key")
        yield key, None if value is None else _value(_object(value), depth)


def _bytes(value: object) -> bytes:
    try:
        return base64.b64decode(value if isinstance(value, str) else "", validate=True)
    except (binascii.Error, ValueError) as exc:
        raise OtlpError("a value is not base64") from exc


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise OtlpError("something is not a JSON object that should be")
    return value


def _dict(of: object, key: str) -> Mapping[str, Any]:
    value = _object(of).get(key)
    return _EMPTY if value is None else _object(value)


def _list(of: object, key: str) -> list[Any]:
    value = _object(of).get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise OtlpError(f"{key} is not a list")
    return value


def _text(of: object, key: str) -> str:
    value = _object(of).get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise OtlpError(f"{key} is not text")
    return value


def _int(value: object) -> int:
    """Return a whole number of 64 bits, which may be text."""
    found: object = value
    if (isinstance(value, str) and _WHOLE.fullmatch(value)) or (
        isinstance(value, float) and value.is_integer()
    ):
        found = int(value)
    if type(found) is not int or not -(2**63) <= found < 2**64:
        raise OtlpError("a whole number of 64 bits is none")
    return found


def _float(value: object) -> float:
    """Return a number, which may be text; not even infinity and NaN are errors."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise OtlpError("a number is none")
    if isinstance(value, str) and len(value) > _LONGEST_NUMBER:
        raise OtlpError("a number is none")
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except ValueError as exc:
        raise OtlpError("a number is none") from exc


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise OtlpError("text is none")
    return value


def _bool(value: object) -> bool:
    if not isinstance(value, bool) and value not in ("true", "false"):
        raise OtlpError("neither true nor false where one should be")
    return value is True or value == "true"


#: Key of a value to what reads it.
_PLAIN: Final[Mapping[str, Callable[[object], Value]]] = {
    "stringValue": _string,
    "intValue": _int,
    "doubleValue": _float,
    "boolValue": _bool,
    "bytesValue": _bytes,
}
