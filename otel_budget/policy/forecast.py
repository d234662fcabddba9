"""What will be: how many calls and seconds are left until a limit, and whether the rest fits.

Of a run that reports no progress nobody can tell how much it will use in all; what is left until a
limit can be told from the size of its calls and their growth (``ledger.call_pace``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.forecast import NO_FORECAST, Estimate, Forecast
from otel_budget.core.resources import TIMES
from otel_budget.core.uncertainty import NO_UNCERTAINTY
from otel_budget.core.validation import MAX_COUNT

if TYPE_CHECKING:
    from otel_budget.core.quantities import Number
    from otel_budget.core.uncertainty import UsageUncertainty
    from otel_budget.ledger.call_pace import CallPace, CallTime
    from otel_budget.ledger.size_trend import CallSize
    from otel_budget.policy.bounds import Bounds

#: Of a limit that is reached.
_NOTHING: Final = Estimate(0.0, 0.0, 0.0)
#: Share by which sums of floats may be off: what just fits does.
_ROUNDING: Final = 1e-9
#: A size below this is what is left of a sum that has faded.
_TINY: Final = 1e-30
#: More calls or seconds than this are no forecast.
_MOST: Final = float(MAX_COUNT)
#: What a run's pace changes by later on, as a share of it, squared; and how many times more the
#: mean of some gaps scatters than if each were by itself. These and those below are chosen on one
#: half of the runs in evaluation/data/mini_swe_runs.csv.
_OTHER_PACE: Final = 0.06
_GAPS_TOGETHER: Final = 3.5
#: Standard deviations to each side of 80 % of what came: calls rather become slower than faster.
_FASTER, _SLOWER = 0.65, 1.4
#: What makes a call dear makes it slow, too: of the seconds until a limit on cost less is chance.
_DEAR_AND_SLOW: Final = 0.75


def forecast_of(
    resource: str, remaining: Number, pace: CallPace, now: float | None = None
) -> Forecast:
    """Return what is left of one limited resource.

    remaining: units until its limit; what is not above 0 is reached, and nothing is left. now: on
    the clock of the samples; a run that has made no call for five minutes by then has no seconds
    left that could be told, except of a resource that passes by itself. None: it is in a call.
    """
    room = float(remaining)
    if room <= 0:
        return Forecast(_NOTHING, _NOTHING)
    time = None if now is not None and pace.is_idle(now) else pace.call_time()
    if resource in TIMES:
        return Forecast(_calls_in(room, time), Estimate(room, room, room))
    size = pace.size_of(resource)
    if size is None:
        return NO_FORECAST
    number = _calls_within(room, size.newest, size.growth, size.top, size.bottom)
    if number is None:
        return NO_FORECAST
    variance = _variance_of_calls(number, size)
    off = size.spread * math.sqrt(variance)
    calls = _between(number, off, off)
    if calls is None or time is None:
        return Forecast(calls)
    seconds = time_of_calls(number, time)
    seconds /= _above_median(number, time)
    variance += _variance_of_time(number, time)
    off = math.sqrt(variance) * (_DEAR_AND_SLOW if resource == semconv.COST else 1.0)
    return Forecast(calls, _between(seconds, _FASTER * off, _SLOWER * off))


def _calls_in(room: float, time: CallTime | None) -> Estimate | None:
    """Return how many calls can be made in so many seconds."""
    number = None if time is None else _calls_within(room, time.newest, time.growth)
    if time is None or number is None:
        return None
    number *= _above_median(number, time)
    off = math.sqrt(_variance_of_time(number, time))
    return _between(number, _SLOWER * off, _FASTER * off)


def _above_median(number: float, time: CallTime) -> float:
    """Return by how much the mean of the seconds of so many calls is above their median.

    Most gaps are short and a few are long: as a log-normal distribution has it.
    """
    return math.sqrt(1 + _GAPS_TOGETHER * time.scatter / max(number, 1.0))


def _between(value: float, below: float, above: float) -> Estimate | None:
    """Return an estimate that may be too high or too low by shares; None past any number."""
    high = value * (1 + above)
    if not high <= _MOST:
        return None
    return Estimate(value, value / (1 + below), high)


def _variance_of_calls(number: float, size: CallSize) -> float:
    """Return by how much calls left may be off, as a share of them, squared.

    What n calls use is off by the noise of each (n times), by how surely the newest size is known
    (n of it), by what each call grows by beside the mean (the k-th of it n - k times: n^3 / 3 in
    all), and by how surely that mean is known (n^2 / 2 of it). So many units are as many calls of
    the size at the limit.
    """
    many = max(number, 1.0)
    variance = size.noise / many + size.newest_variance
    variance += many * (size.walk / 3 + many * size.growth_variance / 4)
    last = size.newest + max(size.growth, 0.0) * number
    if size.top > 0:
        last = min(last, max(size.newest, size.top))
    return variance / (last * last) if last > _TINY else math.inf


def _variance_of_time(number: float, time: CallTime) -> float:
    """Return by how much the seconds of so many calls may be off, as a share of them, squared."""
    few = 1 / max(number, 1.0) + 1 / time.seen
    return _OTHER_PACE + _GAPS_TOGETHER * time.scatter * few


def _calls_within(
    room: float, newest: float, growth: float, top: float = 0.0, bottom: float = 0.0
) -> float | None:
    """Return how many calls fit: those before the limit, and a part of the one that crosses it.

    The k-th call from now uses ``newest + k * growth``; calls that became smaller are not taken to
    go on so. A context that was compacted at a size will be again: past that calls are of the mean
    size between top and bottom. None if they use nothing.
    """
    growth = max(growth, 0.0)
    if newest + growth <= 0:
        return None
    if growth * room <= _ROUNDING * newest * newest:
        return _bounded(room / newest)
    half, number = newest + growth / 2, 0.0
    if top > 0:
        number = max(0.0, (top - newest) / growth)
        used = number * (half + growth * number / 2)
        if used < room:
            return _bounded(number + 2 * (room - used) / (top + bottom))
    number = float(math.floor(2 * room / (math.sqrt(half * half + 2 * growth * room) + half)))
    used = number * (half + growth * number / 2)
    part = (room - used) / (newest + growth * (number + 1))
    return _bounded(number + min(1.0, max(0.0, part)))


def use_of_calls(number: float, size: CallSize) -> float:
    """Return what so many calls from now will use: what ``_calls_within`` turns round."""
    growth = max(size.growth, 0.0)
    newest = max(size.newest, 0.0)
    if size.top > 0 and growth > 0:
        until = max(0.0, (size.top - newest) / growth)
        if number > until:
            used = until * (newest + growth / 2 + growth * until / 2)
            return used + (number - until) * (size.top + size.bottom) / 2
    return number * (newest + growth / 2 + growth * number / 2)


def most_of_calls(number: float, size: CallSize) -> float:
    """Return what so many calls from now will hardly use more than: the high end of the range."""
    off = size.spread * math.sqrt(_variance_of_calls(number, size))
    return use_of_calls(number, size) * (1 + off)


def least_of_calls(number: float, size: CallSize) -> float:
    """Return what so many calls from now will hardly use less than: the low end of the range."""
    off = size.spread * math.sqrt(_variance_of_calls(number, size))
    return use_of_calls(number, size) / (1 + off)


def time_of_calls(number: float, time: CallTime) -> float:
    """Return the seconds that so many calls from now will take, one after the other."""
    return number * (time.newest + max(time.growth, 0.0) * (number + 1) / 2)


def most_time_of_calls(number: float, time: CallTime) -> float:
    """Return the seconds that they will hardly take more than: the high end of the range."""
    off = _SLOWER * math.sqrt(_variance_of_time(number, time))
    return time_of_calls(number, time) * (1 + off)


def _bounded(number: float) -> float | None:
    """Return a number of calls; None of more than anybody counts."""
    return number if number <= _MOST else None


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
