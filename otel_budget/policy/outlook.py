"""What is asked for each limited resource of a run: how much longer it lasts.

It is told from the pace of the calls: in the process by its active time, in the sidecar by the time
of its samples. Of a run that counts no calls the sidecar knows how fast it spends: seconds, then,
and no calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from otel_budget import semconv
from otel_budget.core.forecast import NO_FORECAST, Estimate, Forecast
from otel_budget.policy.forecast import ends_first, exhaustion_seconds, forecast_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import ResourceState
    from otel_budget.ledger.call_pace import CallPace


#: Times by which what a rate foretells is off, to each side, in one case of ten: as the rate over
#: 60 s in docs/forecast.md, half way to the limit.
RATE_SPREAD: Final = 2.0


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
    """What the sidecar knows of how a run goes on, as of one moment."""

    pace: CallPace
    """Of its calls."""
    now: float
    """On the clock of its samples."""
    rates: Mapping[str, float]
    """Of a run that counts no calls, units per second; absent when it is not being spent."""
    is_active: bool
    """False while its active time stands still."""

    def of(self, resource: str, remaining: Number) -> Forecast | None:
        """Return what is left of a resource; None if nothing can be told."""
        if resource == semconv.ACTIVE_DURATION and not self.is_active:
            return None
        forecast = forecast_of(resource, remaining, self.pace, self.now)
        if self.rates and forecast.seconds_left is None:
            forecast = forecast._replace(seconds_left=self._by_rate(resource, remaining))
        return None if forecast == NO_FORECAST else forecast

    def _by_rate(self, resource: str, remaining: Number) -> Estimate | None:
        left = exhaustion_seconds(remaining, self.rates.get(resource))
        return None if left is None else Estimate(left, left / RATE_SPREAD, left * RATE_SPREAD)


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
