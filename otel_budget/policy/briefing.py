"""What a model is told of its budget: a counter that it can see from the start.

Of several limits the least that is left of any counts. What is not known is said to be unknown; who
set a limit, and what a verdict says of it, is nothing to a model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.forecast import ends_first
from otel_budget.core.resources import TIMES
from otel_budget.policy.format import amount, time_left

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import ResourceState
    from otel_budget.core.wrap_up import WrapUp

_MINUTE, _HOUR = 60, 3600
#: Up to so many of the smaller unit people count in it.
_FEW: Final = 90
#: What a ratio in floats may lack of a whole percent.
_ROUNDING: Final = 1e-9
_WORDS: Final[Mapping[str, str]] = {
    semconv.TOKENS: " tokens",
    semconv.API_CALLS: " calls",
    semconv.TOOL_CALLS: " tool calls",
}
_NOTHING_KNOWN: Final = "It is not known yet how many calls remain"


@dataclass(frozen=True, slots=True)
class Briefing:
    """What remains of a run's budget; ``str`` of it is the sentence or two for the model."""

    calls_left: int | None
    """Whole calls to the model until a limit, or in a wrap-up those that are allowed; None: it
    cannot be told."""
    seconds_left: float | None
    """The same in seconds."""
    used: Mapping[str, Number]
    """Of each limited resource, by name: tokens, calls, US dollars or seconds."""
    limits: Mapping[str, Number]
    """How much of each may be used in all; of a budget that is shared, as much as is left of it and
    what the run itself used."""
    text: str

    def __str__(self) -> str:
        """Return the text."""
        return self.text


def briefing_of(
    resources: Mapping[str, ResourceState],
    *,
    kept: int = 0,
    last: WrapUp | None = None,
    stopped: bool = False,
) -> Briefing:
    """Return the briefing on a run.

    resources: with forecasts, each held against the least of its limits. kept: calls kept back for
    the end. last: what it may still use to wrap up. stopped: it may make no call.
    """
    limited = {name: s for name, s in resources.items() if s.limit is not None}
    seconds = _least_seconds(limited)
    if last is not None:
        calls: int | None = last.calls
        first = _last_calls(last.calls)
    elif stopped:
        calls, first = 0, "No call remains"
    else:
        calls = _least_calls(limited)
        first = _remaining(limited, calls, seconds) + _for_the_end(calls, kept)
    used = "; ".join(_used(name, limited[name]) for name in _worth_saying(limited))
    return Briefing(
        calls_left=calls,
        seconds_left=seconds,
        used={name: state.used for name, state in limited.items()},
        limits={name: state.limit for name, state in limited.items() if state.limit is not None},
        text=f"{first}; {used}." if used else f"{first}.",
    )


def allowance_in_words(allowed: WrapUp) -> str:
    """Say what last calls may use, or used: ``1 call, 7,240 tokens, $0.02, 60 s``."""
    calls, tokens, cost, seconds = allowed
    parts = [_number(calls, "call")]
    if tokens is not None:
        parts.append(f"{tokens:,} tokens")
    if cost is not None:
        parts.append(amount(semconv.COST, cost))
    if seconds is not None:
        parts.append(time_left(seconds))
    return ", ".join(parts)


def _last_calls(calls: int) -> str:
    return "This is the last call" if calls == 1 else f"These are the last {calls:,} calls"


def _for_the_end(calls: int | None, kept: int) -> str:
    if not kept or not calls:
        return ""
    if kept >= calls:
        return ", for the final answer"
    which = "the last of them" if kept == 1 else f"the last {kept:,} of them"
    return f", {which} for the final answer"


def _least_calls(limited: Mapping[str, ResourceState]) -> int | None:
    """Return the least number of whole calls that fit; None where none can be told."""
    forecasts = [state.forecast for state in limited.values() if state.forecast is not None]
    known = [calls for f in forecasts if (calls := f.whole_calls_left) is not None]
    return min(known, default=None)


def _least_seconds(limited: Mapping[str, ResourceState]) -> float | None:
    known = [
        state.forecast.seconds_left.value
        for state in limited.values()
        if state.forecast is not None and state.forecast.seconds_left is not None
    ]
    known += [
        float(state.remaining)
        for name, state in limited.items()
        if name in TIMES and state.remaining is not None
    ]
    return min(known, default=None)


def _remaining(
    limited: Mapping[str, ResourceState], calls: int | None, seconds: float | None
) -> str:
    """Return how many calls, or how much time, remain."""
    if not limited:
        return "This run has no limits"
    time = "" if seconds is None or seconds < 1 else _time(seconds)
    if calls is None:
        api_calls = limited.get(semconv.API_CALLS)
        if api_calls is not None and api_calls.remaining is not None:
            at_most = f"At most {_number(int(api_calls.remaining), 'call')}"
            return _with_time(at_most, time, int(api_calls.remaining))
        return f"{_NOTHING_KNOWN}{f'; at most {time} remain' if time else ''}"
    if not calls:
        return "Less than one call remains"
    return _with_time(f"About {_number(calls, 'call')}", time, calls)


def _with_time(words: str, time: str, calls: int) -> str:
    if time:
        return f"{words} or {time} remain"
    return f"{words} remain{'s' if calls == 1 else ''}"


def _worth_saying(limited: Mapping[str, ResourceState]) -> Iterator[str]:
    """Yield the resource whose limit comes first, and the one that is used up most."""
    if not limited:
        return
    first = ends_first({n: s.forecast for n, s in limited.items() if s.forecast is not None})
    order = sorted(limited, key=lambda name: name in TIMES)  # what is used before what passes
    most = max(order, key=lambda name: _whole_percent(limited[name]))
    if first is not None:
        yield first
    if most != first:
        yield most


def _whole_percent(state: ResourceState) -> int:
    return math.floor((state.ratio or 0.0) * 100 + _ROUNDING)


def _used(name: str, state: ResourceState) -> str:
    share = _whole_percent(state)
    least = "at least " if state.at_least else ""
    of = state.limit if state.limit is not None else 0
    if name in TIMES:
        words = f"{_time(float(of))} are"
    elif name == semconv.COST:
        words = f"{amount(name, of)} is"
    else:
        words = f"{amount(name, of)}{_WORDS.get(name, '')} are"
    return f"{least}{share} % of {words} used"


def _time(seconds: float) -> str:
    """Say a time in full words: ``45 seconds``, ``12 minutes``, ``3.5 hours``."""
    if seconds < _FEW:
        return _number(math.floor(seconds), "second")
    if seconds < _FEW * _MINUTE:
        return _number(math.floor(seconds / _MINUTE), "minute")
    tenths = math.floor(seconds / _HOUR * 10) / 10
    return f"{tenths:,g} hours"


def _number(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
