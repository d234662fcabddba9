"""OTLP in protobuf, by the official messages: the same values as from JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint, SummaryDataPoint

from otel_budget.sources.otlp import messages, wire
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
    from collections.abc import Iterable, Iterator

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
    from opentelemetry.proto.metrics.v1 import metrics_pb2
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage

    from otel_budget.sources.otlp.wanted import Wanted

_KINDS: Final = {
    "sum": messages.SUM,
    "gauge": messages.GAUGE,
    "histogram": messages.HISTOGRAM,
    "exponential_histogram": messages.HISTOGRAM,
    "summary": messages.SUMMARY,
}
_Request: TypeAlias = ExportMetricsServiceRequest | ExportLogsServiceRequest
_DELTA: Final = 1
_NO_VALUE: Final = 1


def metrics(body: bytes, wanted: Wanted) -> Iterator[tuple[Resource, tuple[Metric, ...]]]:
    """Yield the resources of a request, with their metrics that are wanted. Raises OtlpError."""
    request, left = ExportMetricsServiceRequest(), Room()
    _parse(request, body, wire.METRICS)
    for one in request.resource_metrics:
        left.take(1 + len(one.scope_metrics))
        found: list[Metric] = []
        for scoped in one.scope_metrics:
            left.take(len(scoped.metrics))
            for metric in scoped.metrics:
                _points(metric, scoped.scope.name, wanted, left, found)
        yield _resource(one.resource, wanted), tuple(found)


def logs(body: bytes, wanted: Wanted) -> Iterator[tuple[Resource, tuple[Record, ...]]]:
    """Yield the resources of a request, with their records that are wanted. Raises OtlpError."""
    request, left = ExportLogsServiceRequest(), Room()
    _parse(request, body, wire.LOGS)
    for one in request.resource_logs:
        left.take(1 + len(one.scope_logs))
        found: list[Record] = []
        for scoped in one.scope_logs:
            left.take(len(scoped.log_records))
            found += filter(None, (_record(each, wanted) for each in scoped.log_records))
        yield _resource(one.resource, wanted), tuple(found)


def _parse(request: _Request, body: bytes, fields: wire.Fields) -> None:
    wire.check(body, fields)
    try:
        request.ParseFromString(body)
    except DecodeError as exc:
        raise OtlpError("the body is not the protobuf message it should be") from exc


def _resource(of: ResourceMessage, wanted: Wanted) -> Resource:
    return Resource(*taken(_attributes(of.attributes), wanted.keeps_of_resource))


def _points(
    metric: metrics_pb2.Metric, scope: str, wanted: Wanted, left: Room, found: list[Metric]
) -> None:
    """Add a metric to those that were found, if it is wanted."""
    which = metric.WhichOneof("data")
    if which is None:
        return
    name, unit, kind = metric.name, metric.unit, _KINDS[which]
    data = getattr(metric, which)
    left.take(len(data.data_points))
    monotonic = kind == messages.SUM and data.is_monotonic
    if wanted.metric(name, unit, kind, monotonic=monotonic):
        counted = kind not in (messages.GAUGE, messages.SUMMARY)
        delta = counted and data.aggregation_temporality == _DELTA
        read = _number_point if kind in (messages.SUM, messages.GAUGE) else _sum_point
        several = (read(point, (name, scope), wanted) for point in data.data_points)
        here = tuple(point for point in several if point is not None)
        found.append(Metric(name, unit, kind, delta, monotonic, scope, here))


def _number_point(
    point: metrics_pb2.NumberDataPoint, of: tuple[str, str], wanted: Wanted
) -> Point | None:
    if point.flags & _NO_VALUE:
        return None
    which = point.WhichOneof("value")
    value = None if which is None else getattr(point, which)
    attributes, stream = taken(_attributes(point.attributes), wanted.keeps_of_point, *of)
    return Point(attributes, stream, point.start_time_unix_nano, value)


def _sum_point(
    point: HistogramDataPoint | SummaryDataPoint, of: tuple[str, str], wanted: Wanted
) -> Point | None:
    if point.flags & _NO_VALUE:
        return None
    has_sum = isinstance(point, SummaryDataPoint) or point.HasField("sum")
    attributes, stream = taken(_attributes(point.attributes), wanted.keeps_of_point, *of)
    start, value = point.start_time_unix_nano, point.sum if has_sum else None
    return Point(attributes, stream, start, value, point.count)


def _record(record: LogRecord, wanted: Wanted) -> Record | None:
    names = [
        pair.value.string_value for pair in record.attributes if pair.key == messages.EVENT_NAME
    ]
    names += [record.event_name, record.body.string_value]
    found = tuple(name for name in names if name in wanted.events)
    if not found:
        return None
    return Record(found, kept(_attributes(record.attributes), wanted.keeps_of_record))


def _attributes(pairs: Iterable[KeyValue]) -> Iterator[tuple[str, Value]]:
    for pair in pairs:
        yield pair.key, _value(pair.value)


def _value(of: AnyValue) -> Value:
    """Return an attribute's value: a plain one, bytes, or nested ones as a tuple."""
    which = of.WhichOneof("value")
    if which is None:
        return None
    value = getattr(of, which)
    if which == "array_value":
        return tuple(_value(each) for each in value.values)
    if which == "kvlist_value":
        return tuple(_attributes(value.values))
    return value  # type: ignore[no-any-return] # one of the plain types
