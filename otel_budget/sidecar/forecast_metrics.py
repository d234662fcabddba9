"""What is left of each limited resource, as metrics: calls and seconds, each with its range.

What cannot be told is absent, never 0. So are the ends of a range that is none: time passes by
itself, and a limit on calls leaves so many calls; that would be three series for one number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.sidecar.metric_families import add_number, gauge

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import GaugeMetricFamily

    from otel_budget.core.forecast import Estimate, Forecast


_Families = tuple["GaugeMetricFamily", "GaugeMetricFamily", "GaugeMetricFamily"]


class Forecasts:
    """The families of all runs' forecasts."""

    def __init__(self) -> None:
        """Begin with none."""
        self._seconds = _families(
            semconv.EXHAUSTION, semconv.EXHAUSTION_LOW, semconv.EXHAUSTION_HIGH
        )
        self._calls = _families(semconv.CALLS_LEFT, semconv.CALLS_LEFT_LOW, semconv.CALLS_LEFT_HIGH)

    @property
    def families(self) -> Iterable[GaugeMetricFamily]:
        """All of them, in the order of ``semconv``."""
        return (*self._seconds, *self._calls)

    def add(self, labels: tuple[str, ...], forecast: Forecast) -> None:
        """Add one resource's. labels: session id and resource."""
        _add(self._calls, labels, forecast.calls_left)
        _add(self._seconds, labels, forecast.seconds_left)


def _families(value: semconv.Metric, low: semconv.Metric, high: semconv.Metric) -> _Families:
    return gauge(value), gauge(low), gauge(high)


def _add(families: _Families, labels: tuple[str, ...], estimate: Estimate | None) -> None:
    if estimate is None:
        return
    value, low, high = families
    add_number(value, labels, estimate.value)
    if estimate.low < estimate.high:
        add_number(low, labels, estimate.low)
        add_number(high, labels, estimate.high)
