"""What is asked for each limited resource of a run: how much longer it lasts.

In the process it is told from the pace of the calls alone. In the sidecar seconds are told only of
what is being spent: a run that made no call for minutes waits for somebody, and nobody knows for
how long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from otel_budget.core.forecast import NO_FORECAST, Estimate, Forecast
from otel_budget.policy.forecast import ends_first, exhaustion_seconds, forecast_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import ResourceState
    from otel_budget.ledger.call_pace import CallPace


class Foresight(Protocol):
    """What tells how much longer a resource lasts."""

    def of(self, resource: str, remaining: Number) -> Forecast | None:
        """Return what is left of a resource; None if nothing can be told.

        remaining: units until its limit, not negative.
        """


class OwnOutlook(NamedTuple):
    """What a process knows of how its own run goes on."""

    pace: CallPace
    """Of its calls, by its active time."""
    now: float
    """By the same clock."""

    def of(self, resource: str, remaining: Number) -> Forecast | None:
        """Return what is left of a resource; None if nothing can be told."""
        forecast = forecast_of(resource, remaining, self.pace, self.now)
        return None if forecast == NO_FORECAST else forecast


class Outlook(NamedTuple):
    """What is known of how a run goes on, as of one moment."""

    pace: CallPace
    """Of its calls."""
    rates: Mapping[str, float]
    """Per resource, units per second; absent when it is not being spent."""

    def of(self, resource: str, remaining: Number) -> Forecast | None:
        """Return what is left of a resource; None if nothing can be told.

        remaining: units until its limit, not negative.
        """
        rate = self.rates.get(resource)
        calls, seconds = forecast_of(resource, remaining, self.pace)
        if rate is None:
            seconds = None
        elif seconds is None:
            left = exhaustion_seconds(remaining, rate)
            seconds = None if left is None else Estimate(left, left, left)
        return None if calls is None and seconds is None else Forecast(calls, seconds)


def with_forecasts(
    resources: Mapping[str, ResourceState], foresight: Foresight
) -> dict[str, ResourceState]:
    """Return resources with the forecast of each that is limited."""
    told = {}
    for name, state in resources.items():
        forecast = None if state.remaining is None else foresight.of(name, state.remaining)
        seconds = None if forecast is None else forecast.seconds_left
        told[name] = state._replace(
            forecast=forecast, exhaustion_seconds=None if seconds is None else seconds.value
        )
    return told


def ending_first(resources: Mapping[str, ResourceState]) -> str | None:
    """Return the resource whose limit is forecast to be reached first; None if none can be told."""
    told = {name: s.forecast for name, s in resources.items() if s.forecast is not None}
    return ends_first(told) if told else None
