"""What is asked for each limited resource of a run: how much longer it lasts.

It is told from the pace of the calls: in the process by its active time, in the sidecar by the time
of its samples. Of a run that counts no calls the sidecar knows how fast it spends: seconds, then,
and no calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from otel_budget import semconv
from otel_budget.core.forecast import NO_FORECAST, Estimate, Forecast
from otel_budget.ledger.call_pace import CallPace
from otel_budget.policy.forecast import exhaustion_seconds, forecast_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import ResourceState
    from otel_budget.ledger.snapshot import RunSnapshot


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
        if state.remaining is None and state.forecast is None and state.exhaustion_seconds is None:
            told[name] = state  # as it is with most resources: to make another one takes time
            continue
        forecast = None if state.remaining is None else foresight.of(name, state.remaining)
        seconds = None if forecast is None else forecast.seconds_left
        told[name] = state._replace(
            forecast=forecast, exhaustion_seconds=None if seconds is None else seconds.value
        )
    return told


class Foretold(Mapping[str, "ResourceState"]):
    """Resources as judged, with their forecasts, which are worked out when somebody looks.

    Every run that spends is judged at every tick, and hardly any of these verdicts is read: that
    takes a third of the time of a tick. What they follow from is kept as it is now.
    """

    __slots__ = ("_now", "_pace", "_rates", "_states", "_still")

    def __init__(
        self, judged: Mapping[str, ResourceState], snapshot: RunSnapshot, now: float
    ) -> None:
        """Keep what is known of how a run goes on. now: on the clock of its samples."""
        self._states = judged
        self._pace: tuple[Any, ...] | None = snapshot.pace.kept()
        self._now, self._rates = now, snapshot.rates
        self._still = snapshot.attributes.state not in ("running", None)

    @property
    def judged(self) -> Mapping[str, ResourceState]:
        """The resources, of which nothing may be forecast yet."""
        return self._states

    def _told(self) -> Mapping[str, ResourceState]:
        # By two threads at once it is done twice, and comes out the same.
        state = self._pace
        if state is not None:
            pace = CallPace.of_kept(state)
            outlook = Outlook(pace, self._now, self._rates, not self._still)
            self._states = with_forecasts(self._states, outlook)
            self._pace = None
        return self._states

    def __getitem__(self, resource: str) -> ResourceState:
        """Return what is known of a resource."""
        return self._told()[resource]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._states)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._states)

    def __repr__(self) -> str:
        """Show them as a dict shows its items."""
        return repr(dict(self._told()))
