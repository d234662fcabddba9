"""What is kept back for a run's last calls, and what these may use.

The rules, of a run that keeps N calls back (``wrap_up_calls``):

- The reserve of a limit is what the next N + 1 calls use: an ordinary one, and the N last ones that
  must still fit when it has been. Of API calls a call is 1, of times the time from one call to the
  next; calls of tools have no reserve, for the last calls use none. Where the size of a call is not
  known yet there is none.
- A run with less left than the reserve is to stop and wrap up. What is just enough is enough.
- Its warning line is there, if that is lower: the limit is near.
- The allowance is what the last calls may use: those that were kept back, or one, as large as such
  calls hardly ever are, and never past a limit. Where not even one more call fits, as small as they
  hardly ever are, there is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from decimal import ROUND_UP, Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.budget import Mode
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.resources import FURTHER, RESOURCES, TIMES
from otel_budget.core.verdict import LimitStatus
from otel_budget.core.wrap_up import WrapUp
from otel_budget.policy.bounds import EXACT, Bound, Bounds
from otel_budget.policy.forecast import (
    least_of_calls,
    most_of_calls,
    most_time_of_calls,
    time_of_calls,
    use_of_calls,
)
from otel_budget.policy.status import minus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import BudgetState, ResourceState, Verdict
    from otel_budget.ledger.call_pace import CallPace
    from otel_budget.policy.decision_table import Decision

#: Stops before a limit, after which a run may still make its last calls.
GRACEFUL: Final = frozenset(
    {Reason.APPROACHING_LIMIT, Reason.WRAP_UP, Reason.BUDGET_LOW, Reason.OPERATOR_STOP}
)
#: Seconds that a last answer may take at least, where no limit is nearer: it is longer than a step.
LAST_ANSWER: Final = 60.0
#: Share by which sums of floats may be off: what just fits does.
_ROUNDING: Final = 1e-9
#: Share of its expected size that a call may have at least: few calls that were alike do not show
#: by how much they scatter.
_SMALLER: Final = 0.85
_LESS: Final = Decimal(repr(1 - _ROUNDING))
#: Of what is allowed in money: nobody is billed less.
_SMALLEST: Final = Decimal("0.000001")
_NO_LINES: Final[Mapping[str, Number]] = MappingProxyType({})


class Reserved(NamedTuple):
    """Bounds with what is kept back from them."""

    bounds: Bounds
    """Their warning lines where the reserve begins, if that is lower."""
    lines: Mapping[str, Number] = _NO_LINES
    """Per resource with a reserve, the smallest use at which the run is to wrap up."""

    def is_reached(self, used: Mapping[str, Number]) -> bool:
        """Tell whether less is left than is kept back."""
        return any(name in used and used[name] >= line for name, line in self.lines.items())

    def room(self, used: Mapping[str, Number]) -> dict[str, Number]:
        """Return, per resource with a reserve, how much more may be used until it is reached."""
        return {
            name: minus(line, used[name])
            for name, line in self.lines.items()
            if name in used and used[name] < line
        }


class LastCalls(NamedTuple):
    """What a verdict needs to know of a run to keep its last calls back."""

    calls: int
    """How many are kept back; 0: none."""
    pace: CallPace
    """Of its calls so far."""

    def reserve(self, bounds: Bounds) -> Reserved:
        """Return bounds with what is kept back from them."""
        return with_reserve(bounds, self.calls, self.pace)

    def is_short(self, resource: str, left: Number) -> bool:
        """Tell whether less is left of a budget than is kept back of a resource."""
        kept = reserve_of(resource, self.calls, self.pace)
        return kept is not None and float(left) < kept * (1 - _ROUNDING)

    def short(self, budgets: Iterable[BudgetState]) -> tuple[BudgetState, ...]:
        """Return the budgets with less left than the reserve, as what binds.

        Their resources that are short of it are near the limit.
        """
        if self.calls <= 0:
            return ()
        states = (self._short_of(budget) for budget in budgets if budget.mode is Mode.ENFORCE)
        return tuple(state for state in states if state.binds)

    def _short_of(self, budget: BudgetState) -> BudgetState:
        """Return a budget that binds where less is left than is kept back."""
        resources, binds = dict(budget.resources), False
        for name, one in budget.resources.items():
            kept = reserve_of(name, self.calls, self.pace)
            if kept and one.used >= _line(name, one.limit, kept):
                binds = True
                if one.status is LimitStatus.OK:
                    resources[name] = one._replace(status=LimitStatus.APPROACHING)
        return replace(budget, resources=resources, binds=binds)

    def allowance(self, decision: Decision, remaining: Mapping[str, Number]) -> WrapUp | None:
        """Return what a run may still use after a decision; None of all but a graceful stop.

        remaining: per limited resource the least over all limits (``least_remaining``).
        """
        action, reason = decision
        if action is not Action.STOP or reason not in GRACEFUL:
            return None
        return allowance(self.calls, self.pace, remaining)


def reserve_of(resource: str, calls: int, pace: CallPace) -> float | None:
    """Return what is kept back of a resource, in its units; None: nothing.

    calls: how many are kept back.
    """
    if calls <= 0 or resource in FURTHER:
        return None
    return _use_of(resource, calls + 1, pace)


def with_reserve(bounds: Bounds, calls: int, pace: CallPace) -> Reserved:
    """Return bounds with what is kept back from them. calls: how many; with 0 nothing changes."""
    if calls <= 0:
        return Reserved(bounds)
    moved, lines = dict(bounds), {}
    for name, limited in bounds.items():
        reserve = reserve_of(name, calls, pace)
        if not reserve:
            continue
        line = lines[name] = _line(name, limited.limit, reserve)
        if line < limited.warning_at:
            moved[name] = Bound(limited.limit, line, limited.origin)
    return Reserved(moved, lines)


def allowance(calls: int, pace: CallPace, remaining: Mapping[str, Number]) -> WrapUp | None:
    """Return what the last calls may use; None where not even one more fits.

    calls: how many are kept back; where none are, it is one. remaining: per limited resource, the
    least that is left of any limit.
    """
    number = max(1, calls)
    for name, left in remaining.items():
        if name in FURTHER:
            continue
        if left <= 0 or least_call(name, pace) > float(left) * (1 + _ROUNDING):
            return None
        if name == semconv.API_CALLS:
            number = min(number, int(left))
    tokens, cost = remaining.get(semconv.TOKENS), remaining.get(semconv.COST)
    most, dearest = (_most_of(name, number, pace) for name in (semconv.TOKENS, semconv.COST))
    return WrapUp(
        number,
        None if most is None else math.ceil(most if tokens is None else min(most, tokens)),
        None if dearest is None else _money(dearest, cost),
        _seconds(number, pace, [float(remaining[name]) for name in TIMES if name in remaining]),
    )


def forbids_wrap_up(verdict: Verdict) -> bool:
    """Tell whether after a stop no last calls may be made, whatever is left.

    Of a sidecar's: any but a graceful one, and an operator's that says so.
    """
    if verdict.reason not in GRACEFUL:
        return not verdict.should_continue
    ordered = verdict.reason == Reason.OPERATOR_STOP and verdict.knows_wrap_up
    return ordered and verdict.wrap_up is None


def larger(allowed: WrapUp, other: WrapUp) -> WrapUp:
    """Return an allowance with the larger amounts of both; what the other does not know stays."""

    def most(one: Any, two: Any) -> Any:
        return one if one is None or two is None else max(one, two)

    calls, *amounts = allowed
    return WrapUp(calls, *map(most, amounts, other[1:]))


def within(allowed: WrapUp | None, remaining: Mapping[str, Number]) -> WrapUp | None:
    """Return what of an allowance is within what is left; None: nothing. remaining: as above."""
    if allowed is None or any(n not in FURTHER and left <= 0 for n, left in remaining.items()):
        return None
    calls, tokens, cost, seconds = allowed
    most: Mapping[str, Any] = remaining
    times = [float(remaining[name]) for name in TIMES if name in remaining]
    return WrapUp(
        min(calls, most.get(semconv.API_CALLS, calls)),
        None if tokens is None else min(tokens, most.get(semconv.TOKENS, tokens)),
        None if cost is None else min(cost, most.get(semconv.COST, cost)),
        None if seconds is None else min([seconds, *times]),
    )


def least_remaining(
    resources: Mapping[str, ResourceState], budgets: Iterable[BudgetState] = ()
) -> dict[str, Number]:
    """Return per limited resource the least that remains of a run's limits and its budgets.

    budgets: those in shadow do not count. A budget's tokens are taken as they are weighed.
    """
    least = {name: s.remaining for name, s in resources.items() if s.remaining is not None}
    for budget in budgets:
        if budget.mode is Mode.ENFORCE:
            for name, one in budget.resources.items():
                least[name] = min(one.remaining, least.get(name, one.remaining))
    return least


def _use_of(resource: str, number: int, pace: CallPace) -> float | None:
    """Return what so many calls from now use of a resource; None: not known."""
    if resource == semconv.API_CALLS:
        return float(number)
    if resource in TIMES:
        time = pace.call_time()
        return None if time is None else time_of_calls(number, time)
    size = pace.size_of(resource)
    return None if size is None else use_of_calls(number, size)


def least_call(resource: str, pace: CallPace) -> float:
    """Return what the next call hardly uses less than; 0 where that is not known."""
    if resource in TIMES or resource == semconv.API_CALLS:
        return _use_of(resource, 1, pace) or 0.0
    size = pace.size_of(resource)
    if size is None:
        return 0.0
    least = min(least_of_calls(1, size), use_of_calls(1, size) * _SMALLER)
    return least if math.isfinite(least) else 0.0


def _line(resource: str, limit: Number, reserve: float) -> Number:
    """Return the smallest use at which less is left of a limit than the reserve."""
    quantity = RESOURCES[resource].quantity
    if not math.isfinite(reserve):
        return quantity.zero
    if resource == semconv.API_CALLS:
        return max(0, int(limit) + 1 - int(reserve))
    exact = limit if isinstance(limit, Decimal) else Decimal(repr(limit))
    kept = EXACT.multiply(Decimal(repr(reserve)), _LESS)
    return quantity.at_least(max(EXACT.subtract(exact, kept), Decimal(0)))


def _most_of(resource: str, number: int, pace: CallPace) -> float | None:
    """Return what so many calls hardly use more than; None: not known, or they use none of it."""
    size = pace.size_of(resource)
    if size is None or not use_of_calls(number, size) > 0:
        return None
    most = most_of_calls(number, size)
    return most if math.isfinite(most) else None


def _seconds(number: int, pace: CallPace, left: list[float]) -> float | None:
    time = pace.call_time()
    if time is None:
        return None
    return min([max(most_time_of_calls(number, time), LAST_ANSWER), *left])


def _money(wanted: float, left: Number | None) -> Decimal:
    """Return an amount in millionths of a dollar, rounded up, and no more than is left."""
    exact = Decimal(repr(wanted)).quantize(_SMALLEST, rounding=ROUND_UP, context=EXACT)
    return exact if left is None else min(exact, Decimal(left))
