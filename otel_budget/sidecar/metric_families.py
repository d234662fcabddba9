"""Families out of the contract's table, and numbers that must not take a whole page with them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_budget import semconv


def gauge(metric: semconv.Metric) -> GaugeMetricFamily:
    """Return the family of a gauge, without samples."""
    return GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)


def counter(metric: semconv.Metric) -> CounterMetricFamily:
    """Return the family of a counter, without samples."""
    return CounterMetricFamily(metric.name, metric.help, labels=metric.labels)


def add_number(family: GaugeMetricFamily, labels: Iterable[str], value: object) -> None:
    """Add a number; one that is absent, not finite, or none at all is left out."""
    if value is None:
        return
    try:
        number = float(value)  # type: ignore[arg-type] # int, float or Decimal
    except (ArithmeticError, ValueError, TypeError):
        return  # one run's odd number must not take the page of all
    if math.isfinite(number):
        family.add_metric(tuple(labels), number)
