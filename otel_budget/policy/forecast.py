"""What will be: how many calls and seconds are left until a limit, and whether the rest fits.

Of a run that reports no progress nobody can tell how much it will use in all; what is left until a
limit can be told from the size of its calls and their growth (``ledger.call_pace``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from otel_budget.core.forecast import NO_FORECAST, Estimate, Forecast
from otel_budget.core.resources import RESOURCES, TIMES
from otel_budget.core.uncertainty import NO_UNCERTAINTY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.core.uncertainty import UsageUncertainty
    from otel_budget.ledger.call_pace import CallPace, CallSize
    from otel_budget.policy.bounds import Bounds


#: Of a limit that is reached.
_NOTHING: Final = Estimate(0.0, 0.0, 0.0)
#: Share by which sums of floats may be off: what just fits does.
_ROUNDING: Final = 1e-9


def forecast_of(
    resource: str, remaining: Number, pace: CallPace, now: float | None = None
) -> Forecast:
    """Return what is left of one limited resource.

    remaining: units until its limit; what is not above 0 is reached, and nothing is left. now: on
    the clock of the samples; a run that has used nothing for ``IDLE_AFTER`` by then has no seconds
    left that could be told, except of a resource that passes by itself. None: it is in a call.
    """
    room, seconds = float(remaining), pace.seconds_per_call
    if room <= 0:
        return Forecast(_NOTHING, _NOTHING)
    if now is not None and pace.is_idle(now):
        seconds = None
    if resource in TIMES:
        left = Estimate(room, room, room)
        calls = None if not seconds else Estimate(*(3 * (room / seconds,)))
        return Forecast(calls, left)
    size = pace.size_of(resource)
    if size is None:
        return NO_FORECAST
    number = _calls_within(room, size)
    if number is None:
        return NO_FORECAST
    calls = Estimate(number, number, number)
    if seconds is None:
        return Forecast(calls)
    return Forecast(calls, Estimate(*(3 * (number * seconds,))))


def ends_first(forecasts: Mapping[str, Forecast]) -> str | None:
    """Return the resource whose limit is reached first; None if none can be told.

    By the seconds left where they are known of each; else by the calls left of those of which they
    are known. Of equals the first in the order of the table of resources.
    """
    order = [name for name in RESOURCES if name in forecasts]
    order += [name for name in forecasts if name not in RESOURCES]
    seconds = {name: left.value for name in order if (left := forecasts[name].seconds_left)}
    calls = {name: left.value for name in order if (left := forecasts[name].calls_left)}
    known = seconds if len(seconds) == len(forecasts) else calls or seconds
    return min(known, key=known.__getitem__, default=None)


def _calls_within(room: float, size: CallSize) -> float | None:
    """Return how many calls fit: those before the limit, and a part of the one that crosses it.

    The k-th call from now uses ``newest + k * growth``.
    """
    size_now, growth = max(size.newest, 0.0), max(size.growth, 0.0)
    if size_now + growth <= 0:
        return None
    if growth == 0:
        return room / size_now
    half = size_now + growth / 2
    number = math.floor((math.sqrt(half * half + 2 * growth * room) - half) / growth)
    used = number * size_now + growth * number * (number + 1) / 2
    return number + max(0.0, room - used) / (size_now + growth * (number + 1))


def completion_possible(
    used: Mapping[str, Number],
    bounds: Bounds,
    progress: float | None,
    uncertainty: UsageUncertainty = NO_UNCERTAINTY,
    pace: CallPace | None = None,
) -> bool | None:
    """Tell whether the rest of the run fits in every limit.

    Progress p is a share of the calls: n of them came to it, so n (1 - p) / p are still to come,
    and fit if no more of them than that are left until the limit (``forecast_of``). Where the calls
    left cannot be told, or there is no pace, the straight line: if p took u, all of it takes u / p.

    Returns None when it cannot be told: no progress yet, or unknown, or what is known would fit but
    part of what is used of a limited resource is unknown. A run with no limits always fits; one
    that is past a limit never does.
    """
    if any(used[name] > limited.limit for name, limited in bounds.items()):
        return False
    if not bounds:
        return True
    if not progress:
        return None
    fits = all(
        _fits(name, used[name], limited.limit, progress, pace) for name, limited in bounds.items()
    )
    return None if fits and not bounds.keys().isdisjoint(uncertainty.at_least) else fits


def _fits(name: str, used: Number, limit: Number, progress: float, pace: CallPace | None) -> bool:
    """Tell whether the rest fits in the limit of one resource, at a progress above 0."""
    if pace is not None and pace.tells_growth:
        left = forecast_of(name, limit - used, pace).calls_left  # type: ignore[operator] # of one type
        if left is not None:
            needed = pace.calls * (1 - progress) / progress
            return needed <= left.value * (1 + _ROUNDING)
    from fractions import Fraction  # seldom asked for: it takes its time to import

    share = Fraction(repr(progress))  # the decimal it was written as: 0.3 is 3/10
    return Fraction(used) <= Fraction(limit) * share


def exhaustion_seconds(remaining: Number | None, per_second: float | None) -> float | None:
    """Return seconds until nothing remains at the given rate; None if it is not being spent.

    A rate so small that the answer would be beyond any number is none.
    """
    if remaining is None or per_second is None or per_second <= 0:
        return None
    seconds = float(remaining) / per_second
    return seconds if math.isfinite(seconds) else None
