"""What a call under way holds of its run's limits, and what is said where it does not fit.

The rules:

- A call holds what the next call is forecast to use; while the size of the run's calls is unknown,
  what it is expected to use by its request, or else all that is left.
- Held and used together stay within each limit, less what is kept back for the last calls. Beside
  others under way, forecasts have to fit with a margin, for they may all be too low; what is left
  over comes back when they are over. One that is alone fits if its forecast does.
- A call that would fit if nobody held anything is to wait; one that would not is refused.
"""

from __future__ import annotations

import math
from decimal import ROUND_UP, Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.policy.bounds import EXACT
from otel_budget.policy.forecast import use_of_calls
from otel_budget.policy.format import amount
from otel_budget.policy.reserve import least_call

if TYPE_CHECKING:
    from otel_budget.core.quantities import Number
    from otel_budget.ledger.call_pace import CallPace
    from otel_budget.ledger.size_trend import CallSize

#: Standard deviations that forecasts of calls at once must fit with: exceeded in one of 20 cases.
MARGIN: Final = 1.645
#: Calls of which nobody can tell how they scatter, and by how much calls may then: a share of their
#: size. It makes calls wait for each other near a limit, no more.
_FEW, _FEW_SPREAD = 4.0, 1.0
#: Share by which sums of floats may be off: what just fits does.
_ROUNDING: Final = 1e-9
_SMALLEST: Final = Decimal("0.000001")


class Next(NamedTuple):
    """What the next call is forecast to use; None: nothing is known of it."""

    tokens: int | None = None
    cost: Decimal | None = None
    """US dollars."""
    tokens_variance: float = 0.0
    """Of one call about that."""
    cost_variance: float = 0.0
    tokens_doubt: float = 0.0
    """Variance of that itself, as a share of it, squared: all calls at once may be larger."""
    cost_doubt: float = 0.0
    tokens_kept: int = 0
    """What is kept back for the last calls, of each limit."""
    cost_kept: Decimal = Decimal(0)
    tokens_least: float = 0.0
    """What it hardly uses less than: a last call that is offered has to have so much."""
    cost_least: Decimal = Decimal(0)


UNKNOWN: Final = Next()


def next_call(pace: CallPace, last_calls: int) -> Next:
    """Return what the next call will use, and what is kept back for so many last ones after it."""
    tokens, cost = pace.size_of(semconv.TOKENS), pace.size_of(semconv.COST)
    if tokens is None and cost is None:
        return UNKNOWN
    return Next(
        None if tokens is None else _whole(use_of_calls(1, tokens)),
        None if cost is None else money(use_of_calls(1, cost)),
        _variance(tokens, pace.calls),
        _variance(cost, pace.calls),
        _doubt(tokens, pace.calls),
        _doubt(cost, pace.calls),
        0 if tokens is None else _whole(_kept(last_calls, tokens)),
        Decimal(0) if cost is None else money(_kept(last_calls, cost)),
        least_call(semconv.TOKENS, pace),
        money(least_call(semconv.COST, pace)),
    )


def margin(variance: float, held: float, doubt: float) -> float:
    """Return by how much forecasts of calls at once have to fit better than they do.

    variance: the sum of their variances. held: the sum of the forecasts. doubt: of their size.
    """
    return MARGIN * math.sqrt(max(0.0, variance) + held * held * doubt)


def money(dollars: float) -> Decimal:
    """Return an amount in millionths of a dollar, rounded up."""
    exact = Decimal(repr(dollars * (1 - _ROUNDING)))
    return exact.quantize(_SMALLEST, rounding=ROUND_UP, context=EXACT)


def _variance(size: CallSize | None, calls: float) -> float:
    """Return how calls scatter: what was seen, and while those were few what may be."""
    if size is None:
        return 0.0
    seen, guess = size.noise + size.walk + size.newest_variance, _FEW_SPREAD * size.newest
    return (seen * calls + guess * guess * _FEW) / (calls + _FEW)


def _doubt(size: CallSize | None, calls: float) -> float:
    """Return how surely the mean of so many calls is known, as a share of it, squared."""
    if size is None or size.newest <= 0 or calls <= 0:
        return 0.0
    return _variance(size, calls) / (calls * size.newest * size.newest)


def _kept(calls: int, size: CallSize) -> float:
    return use_of_calls(calls + 1, size) - use_of_calls(1, size) if calls > 0 else 0.0


def _whole(tokens: float) -> int:
    return math.ceil(tokens * (1 - _ROUNDING))


class Lack(NamedTuple):
    """Why a call does not fit: one limit, with all its numbers."""

    resource: str
    limit: Number
    used: Number
    wanted: Number
    """What the call is to use, as it asked or by the forecast."""
    held: Number
    """By calls under way."""
    calls: int
    """How many those are."""
    kept: Number
    """For the last calls of the run."""
    is_held: bool
    """It would fit if nobody held anything: those under way may give something back."""
    whose: str = ""
    """Session id of the run above it whose limit that is; empty: its own."""
    asked: bool = False
    """The amount was asked for, and is no forecast."""

    @property
    def is_whole(self) -> bool:
        """True if it asks for more than the limit is in all."""
        return self.asked and self.wanted > self.limit

    @property
    def message(self) -> str:
        """One line for people, with the numbers."""

        def say(value: Number) -> str:
            return amount(self.resource, value)

        whose = f" of run {self.whose}" if self.whose else ""
        if self.is_whole:
            return (
                f"{self.resource}: {say(self.wanted)} asked for, and the whole limit{whose} is "
                f"{say(self.limit)}: ask for less, or raise it"
            )
        verb = "was asked for" if self.asked else "is what a call is expected to use"
        words = f"{self.resource}{whose} at {say(self.used)} of {say(self.limit)}"
        if self.held:
            words += f", {say(self.held)} held by {_calls(self.calls)} under way"
        if self.kept:
            words += f", {say(self.kept)} kept back for the last calls"
        words += f"; {say(self.wanted)} {verb}"
        if self.is_held:
            return f"{words}: it fits when they are over and have used less, or never"
        return f"{words}: stop and wrap up, it does not fit"


def _calls(number: int) -> str:
    return "1 call" if number == 1 else f"{number:,} calls"
