"""Families of runs as OTLP data: the same names and numbers that a scrape of the page gives.

A counter is a cumulative monotonic sum without ``_total``, which whoever turns it into a Prometheus
series puts there; no metric has a unit, as its name says it, and none is then said twice. A run's
sums start when its process took it up, so a reader sees each restart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_budget import semconv
from otel_budget._version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client.metrics_core import Metric as Family

    from otel_budget.sdk.metrics.process_totals import Series

_SCOPE: Final = InstrumentationScope(semconv.SCOPE_NAME, __version__)
_NANO: Final = 1_000_000_000
_COUNTER: Final = "counter"


def run_metrics(families: Iterable[Family], now: int) -> list[Metric]:
    """Return the families of runs. now: nanoseconds since the Unix epoch."""
    known = list(families)
    starts = _starts(known)
    return [
        _metric(
            family.name,
            family.documentation,
            is_sum=family.type == _COUNTER,
            points=[
                NumberDataPoint(
                    sample.labels,
                    starts.get(sample.labels.get(semconv.SESSION_ID, ""), now),
                    now,
                    sample.value,
                )
                for sample in family.samples
            ],
        )
        for family in known
    ]


def process_metrics(series: Iterable[Series], since: int, now: int) -> list[Metric]:
    """Return the sums of the process. since, now: as in ``run_metrics``."""
    points: dict[semconv.Metric, list[NumberDataPoint]] = {}
    for metric, labels, value in series:
        points.setdefault(metric, []).append(NumberDataPoint(labels, since, now, float(value)))
    return [
        _metric(metric.name.removesuffix("_total"), metric.help, is_sum=True, points=found)
        for metric, found in points.items()
    ]


def metrics_data(resource: Resource, metrics: list[Metric]) -> MetricsData:
    """Return metrics as an exporter takes them."""
    scope = ScopeMetrics(_SCOPE, metrics, schema_url="")
    return MetricsData([ResourceMetrics(resource, [scope], schema_url="")])


def with_instance(resource: Resource, instance: str) -> Resource:
    """Return a resource that names its process: without that those of a service are one."""
    if resource.attributes.get(SERVICE_INSTANCE_ID):
        return resource
    return resource.merge(Resource({SERVICE_INSTANCE_ID: instance}))


def _starts(families: Iterable[Family]) -> Mapping[str, int]:
    """Return when its process took up each run, by session id; in nanoseconds."""
    return {
        sample.labels[semconv.SESSION_ID]: round(sample.value * _NANO)
        for family in families
        if family.name == semconv.INCARNATION_START.name
        for sample in family.samples
    }


def _metric(name: str, text: str, *, is_sum: bool, points: list[NumberDataPoint]) -> Metric:
    if is_sum:
        data: Sum | Gauge = Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True)
    else:
        data = Gauge(points)
    return Metric(name, text, "", data)
