"""What the sidecar asks for each limited resource of a run: how much longer it lasts.

Calls are told from the run's pace. Seconds are told only of what is being spent: a run that made no
call for minutes waits for somebody, and nobody knows for how long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otel_budget.core.forecast import Estimate, Forecast
from otel_budget.policy.forecast import exhaustion_seconds, forecast_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.ledger.call_pace import CallPace


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
