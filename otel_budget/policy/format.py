"""Numbers as people read them; one spelling for logs, verdicts and the terminal."""

from __future__ import annotations

import math
from decimal import ROUND_DOWN, Context, Decimal
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.resources import TIMES, quantity_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.forecast import Estimate, Forecast
    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import ResourceState, Verdict
    from otel_budget.core.wrap_up import WrapUp

#: Below the first a float's error in tenths of a percent is smaller by far than the second.
_SMALL, _SURELY = 1e3, 1e-6
_MINUTE = 60
#: Seconds of a unit, its name, and from how many seconds on people count in it.
_UNITS: Final = ((86_400, "d", 129_600), (3600, "h", 5400), (_MINUTE, "min", 90))
#: Beyond these nobody counts.
_MOST_CALLS, _LONGEST = 1_000_000, 31_536_000
_CUT = Context(prec=100, rounding=ROUND_DOWN)


def amount(resource: str, value: Number) -> str:
    """Say an amount of a resource: ``831,000``, ``512 s``, ``$1.25``; seconds are cut."""
    return quantity_of(resource).text(value)


def amounts(limits: Mapping[str, Number | None]) -> str:
    """Say limits by resource, those that there are: ``tokens 5,000, cost $2.50``."""
    given = {name: limit for name, limit in limits.items() if limit is not None}
    return ", ".join(f"{name} {amount(name, limit)}" for name, limit in given.items())


def minutes(seconds: float) -> str:
    """Say a time that somebody chose: ``45 s``, ``30 min``."""
    whole = seconds >= _MINUTE and seconds % _MINUTE == 0
    return f"{seconds / _MINUTE:g} min" if whole else f"{seconds:g} s"


def percent(ratio: float) -> str:
    """Say a ratio in percent with one decimal, cut and never rounded up to the next line.

    799,999 of 1,000,000 is 79.9 %, not 80.0 %: a number that looks past the line but is not
    would make every message about it wrong.
    """
    tenths = ratio * 1000
    cut = int(tenths)
    if ratio < _SMALL and _SURELY < tenths - cut < 1 - _SURELY:
        return f"{cut // 10}.{cut % 10}%"  # so far from a line that a float's error is no matter
    return f"{_CUT.multiply(Decimal(repr(ratio)), 100).quantize(Decimal('0.1'), context=_CUT)}%"


def describe(name: str, state: ResourceState) -> str:
    """Say one limited resource with both numbers."""
    at = "at least" if state.at_least else "at"
    at += " about" if state.estimated else ""
    if state.limit is None or state.ratio is None:
        if state.at_least and not state.used:
            return f"{name} not known, no limit"
        return f"{name} {at} {amount(name, state.used)}, no limit"
    used, limit = amount(name, state.used), amount(name, state.limit)
    return f"{name} {at} {percent(state.ratio)} ({used} of {limit})"


def time_left(seconds: float) -> str:
    """Say a time that is forecast: ``45 s``, ``12 min``, ``3.5 h``; it is cut."""
    if seconds >= _LONGEST:
        return "more than a year"
    for size, unit, counted_from in _UNITS:
        if seconds >= counted_from:
            tenths = math.floor(seconds / size * 10)
            whole = size == _MINUTE or tenths % 10 == 0
            return f"{tenths // 10 if whole else tenths / 10} {unit}"
    return f"{math.floor(seconds)} s"


def calls_left(calls: Estimate, *, ranged: bool = True) -> str:
    """Say how many calls fit as a whole: ``about 23 calls left (19 to 27)``.

    ranged: False where there is no room for the range.
    """
    low, value, high = (
        math.floor(min(end, _MOST_CALLS)) for end in (calls.low, calls.value, calls.high)
    )
    if value >= _MOST_CALLS:
        return "more than a million calls left"
    about = "" if calls.low == calls.high else "about "
    known = f" ({low:,} to {high:,})" if ranged and low < high else ""
    if not value:
        return f"less than 1 call left{known}" if calls.high else "no call left"
    return f"{about}{value:,} {'call' if value == 1 else 'calls'} left{known}"


def rest_of(forecast: Forecast) -> str:
    """Say what is left of a resource; empty if it cannot be told.

    ``about 23 calls left (19 to 27), 12 min``, or the time alone: ``about 12 min left``.
    """
    calls, seconds = forecast
    if calls is not None:
        known = calls_left(calls)
        return known if seconds is None else f"{known}, {time_left(seconds.value)}"
    if seconds is None:
        return ""
    about = "" if seconds.low == seconds.high else "about "
    return f"{about}{time_left(seconds.value)} left"


def last_calls(allowed: WrapUp) -> str:
    """Say what a run that is stopped may still use: ``1 call, 7,240 tokens, $0.02, 60 s at most``.

    What is not known of them is left out.
    """
    said = [] if allowed.tokens is None else [f"{allowed.tokens:,} tokens"]
    if allowed.cost is not None:
        said.append(amount(semconv.COST, allowed.cost))
    if allowed.seconds is not None:
        said.append(time_left(allowed.seconds))
    calls = f"{allowed.calls:,} {'call' if allowed.calls == 1 else 'calls'}"
    return ", ".join((calls, *said)) + (" at most" if said else "")


def first_to_end(verdict: Verdict) -> str:
    """Say in brief how much is left of what ends first; empty if it cannot be told.

    ``about 23 calls left``, or of what is measured in no calls the time: ``12 min left``.
    """
    state = verdict.resources.get(verdict.ends_first or "")
    if state is None or state.forecast is None:
        return ""
    calls, _ = state.forecast
    if verdict.ends_first in TIMES or calls is None:
        return rest_of(state.forecast._replace(calls_left=None))
    return calls_left(calls, ranged=False)
