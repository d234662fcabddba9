"""How a budget that runs share stands, and what that means for one of them.

- One limit counts: ``base + top_up + carried``. Over is shown as over; status and warning line are
  those of any limit (status.py).
- A run is judged by all its budgets and by its own limits at once, and the strictest decides. More
  use, or another budget, never loosens that.
- ``when_low: stop``: the decision table, with the budget's status and the progress that the run
  reported. Others may have used what crossed the line, so that progress is not outgrown by it.
- ``when_low: finish_most``: from the warning line on those go on that were chosen
  (finish_most.py), and the others stop.
- A budget in shadow is listed, and decides nothing.
- What is unknown is no use: a budget whose runs fall silent is not smaller, and one with calls of
  unknown use is "at least". Such calls stop the run that made them, if rules or run ask for that
  and a budget limits what they use, and no other run.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.budget import WHOLE_WEIGHT, Mode, WhenLow
from otel_budget.core.quantities import Number
from otel_budget.core.resources import ZERO
from otel_budget.core.verdict import BudgetResource, BudgetState, LimitStatus, by_name
from otel_budget.policy.bounds import EXACT, bound
from otel_budget.policy.budget_words import describe_budget
from otel_budget.policy.decision_table import (
    FINISHING,
    LOW,
    WITHIN,
    WRAPPING_UP,
    decide,
    strictest,
)
from otel_budget.policy.status import SEVERITY, minus, ratio_of, remaining_of, status_of
from otel_budget.policy.unknown_usage import UNKNOWN_USAGE, UNPRICED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from otel_budget.core.budget import Budget, Group, WindowSpan
    from otel_budget.core.uncertainty import UsageUncertainty
    from otel_budget.ledger.run import RunTotals
    from otel_budget.policy.decision_table import Decision
    from otel_budget.policy.reserve import LastCalls

Outline = tuple[tuple[object, ...], ...]
"""Of each budget of a verdict what makes it another one."""

_NOTHING: Final[Mapping[str, Number]] = MappingProxyType({})
_NONE: Final[frozenset[str]] = frozenset()
#: What stops for the unknown, and the resources of which one is limited then.
_FOR_UNKNOWN: Final[Mapping[Decision, tuple[str, ...]]] = {
    UNKNOWN_USAGE: (semconv.TOKENS, semconv.COST),
    UNPRICED: (semconv.COST,),
}


def budget_state(
    budget: Budget,
    group: Group,
    used: Mapping[str, Number],
    span: WindowSpan,
    *,
    top_up: Mapping[str, Number] = _NOTHING,
    carried: Mapping[str, Number] = _NOTHING,
    at_least: frozenset[str] = _NONE,
) -> BudgetState:
    """Return how a budget stands for one group.

    used: in the present window, tokens as they are weighed; absent is nothing. top_up: what the
    grants that hold now add up to. carried: from the window before, below 0 for an overrun.
    at_least: resources of which part of the use is unknown.
    """
    origin = budget.origin(group)
    resources: dict[str, BudgetResource] = {}
    for resource, base in budget.limits.items():
        zero = ZERO[resource]
        more, kept = top_up.get(resource, zero), carried.get(resource, zero)
        limit = max(plus(plus(base, more), kept), zero)
        limited = bound(resource, limit, budget.warning_threshold, origin)
        amount = used.get(resource, zero)
        resources[resource] = BudgetResource(
            used=amount,
            limit=limited.limit,
            remaining=remaining_of(amount, limited.limit),
            ratio=ratio_of(amount, limited.limit),
            status=status_of(amount, limited),
            base=base,
            top_up=more,
            carried=kept,
            warning_at=limited.warning_at,
            at_least=resource in at_least,
        )
    return BudgetState(
        name=budget.name,
        group=budget.group_labels(group),
        mode=budget.mode,
        window=span,
        resources=resources,
        origin=origin,
        tz=budget.window.tz,
    )


def plus(one: Number, other: Number) -> Number:
    """Return the sum of two amounts of one resource; of money, whatever the context is."""
    if isinstance(one, Decimal):
        return EXACT.add(one, other)  # type: ignore[arg-type] # money is Decimal throughout
    return one + other  # type: ignore[operator] # both are of the resource's own type


class Pools:
    """The budgets of a run, as they stand: one object for all runs that have the same ones."""

    __slots__ = (
        "_bound", "_budgets", "_by_chosen", "_digest", "_enforced", "_has_shadows", "_outlines",
        "_shadow_status", "chosen", "headroom", "limited", "low", "states", "status",
        "used_up",
    )  # fmt: skip

    def __init__(
        self, budgets: Sequence[tuple[Budget, BudgetState]], chosen: frozenset[str] = _NONE
    ) -> None:
        """Take what a run shares. chosen: names of the budgets with ``finish_most`` that are low,
        and that have the run among those which finish.
        """
        self._budgets = sorted(budgets, key=lambda each: by_name(each[1].origin))
        self.states = tuple(state for _, state in self._budgets)
        """All of them, by name."""
        self.chosen = chosen
        self.low = frozenset(
            budget.name
            for budget, state in self._budgets
            if budget.when_low is WhenLow.FINISH_MOST and state.status is LimitStatus.APPROACHING
        )
        """Names of those in which some runs go on and others stop."""
        self._by_chosen: dict[frozenset[str], Pools] = {chosen: self}
        enforced = [each for each in self._budgets if each[1].mode is Mode.ENFORCE]
        self.status = worst(state.status for _, state in enforced)
        """The worst of those that are enforced."""
        self.limited = frozenset(name for _, state in enforced for name in state.resources)
        """Resources that one of these limits."""
        self.used_up = frozenset(
            name
            for _, state in enforced
            for name, one in state.resources.items()
            if one.status is LimitStatus.EXCEEDED
        )
        """Resources of which one of these has nothing left."""
        self.headroom = _headroom(enforced)
        """Per resource, how much more a run may use before one of these could have another
        status; tokens by the dearest kind, so never too many."""
        shadows = [state.status for _, state in self._budgets if state.mode is Mode.SHADOW]
        self._has_shadows, self._shadow_status = bool(shadows), worst(shadows)
        self._enforced: Pools | None = None
        self._digest: str | None = None
        self._bound: dict[tuple[bool, ...], tuple[BudgetState, ...]] = {}
        self._outlines: dict[int, tuple[tuple[BudgetState, ...], Outline]] = {}

    def __bool__(self) -> bool:
        """True if there is a budget."""
        return bool(self.states)

    def beside(self, others: Sequence[tuple[Budget, BudgetState]]) -> Pools:
        """Return these and others."""
        return Pools([*self._budgets, *others], self.chosen)

    def with_chosen(self, chosen: frozenset[str]) -> Pools:
        """Return the same for a run that is among those which finish in these."""
        known = self._by_chosen.get(chosen)
        if known is None:
            known = self._by_chosen[chosen] = Pools(self._budgets, chosen)
        return known

    def outline_of(self, states: tuple[BudgetState, ...]) -> Outline:
        """Return what makes a verdict with these states, by ``bound_by``, another one."""
        known = self._outlines.get(id(states))
        if known is None or known[0] is not states:
            known = self._outlines[id(states)] = states, outlines(states)
        return known[1]

    def limiting(self, own: Collection[str]) -> Collection[str]:
        """Return the resources that one of these limits, or the run's own bounds do."""
        return self.limited.union(own) if self.limited else own

    def would_matter(self, uncertainty: UsageUncertainty) -> bool:
        """Tell whether one in shadow could change a verdict. uncertainty: of the run's use."""
        past = self._shadow_status is not LimitStatus.OK
        return past or (self._has_shadows and bool(uncertainty.at_least))

    @property
    def enforced(self) -> Pools:
        """The same as if none were in shadow."""
        if self._enforced is None:
            budgets = [
                (replace(budget, mode=Mode.ENFORCE), replace(state, mode=Mode.ENFORCE))
                for budget, state in self._budgets
            ]
            self._enforced = Pools(budgets, self.chosen)
        return self._enforced

    def decide(self, progress: float | None, completion_threshold: float) -> Decision:
        """Return what the budgets alone say of a run; the strictest decides.

        progress: as the run reported it last.
        """
        if self.status is LimitStatus.OK:
            return WITHIN
        decision = WITHIN
        for budget, state in self._budgets:
            if state.mode is Mode.ENFORCE:
                by_it = self._decide_by(budget, state, progress, completion_threshold)
                decision = strictest(decision, by_it)
        return decision

    def _decide_by(
        self,
        budget: Budget,
        state: BudgetState,
        progress: float | None,
        completion_threshold: float,
    ) -> Decision:
        status = state.status
        if status is LimitStatus.APPROACHING and budget.when_low is WhenLow.FINISH_MOST:
            return FINISHING if budget.name in self.chosen else LOW
        return decide(status, progress, completion_threshold)

    def short_of(self, last_calls: LastCalls) -> frozenset[str]:
        """Return the origins of those of which less is left than a run keeps back for its end.

        A token that it keeps back counts whole, whatever it weighs.
        """
        return frozenset(
            state.origin
            for state in self.states
            if state.mode is Mode.ENFORCE
            and any(
                last_calls.is_short(name, one.remaining) for name, one in state.resources.items()
            )
        )

    def bound_by(
        self,
        decision: Decision,
        progress: float | None,
        completion_threshold: float,
        short: frozenset[str] = _NONE,
    ) -> tuple[BudgetState, ...]:
        """Return all budgets, with ``binds`` set on those that decided.

        short: origins of those of which less is left than is kept back for the last calls.
        """
        if short and decision == WRAPPING_UP:
            return self._with_binding(tuple(state.origin in short for state in self.states))
        if self.status is LimitStatus.OK and decision not in _FOR_UNKNOWN:
            return self.states
        return self._with_binding(tuple(
            state.mode is Mode.ENFORCE
            and self._is_behind(decision, budget, state, progress, completion_threshold)
            for budget, state in self._budgets
        ))  # fmt: skip

    def _with_binding(self, binding: tuple[bool, ...]) -> tuple[BudgetState, ...]:
        known = self._bound.get(binding)
        if known is None:
            known = self._bound[binding] = tuple(
                replace(state, binds=True) if binds else state
                for state, binds in zip(self.states, binding, strict=True)
            )
        return known

    def _is_behind(
        self,
        decision: Decision,
        budget: Budget,
        state: BudgetState,
        progress: float | None,
        completion_threshold: float,
    ) -> bool:
        unknown = _FOR_UNKNOWN.get(decision)
        if unknown is not None:
            return not state.resources.keys().isdisjoint(unknown)
        if state.status is LimitStatus.OK:
            return False
        return self._decide_by(budget, state, progress, completion_threshold) == decision

    @property
    def digest(self) -> str:
        """All that is decided by, as text; the same for the same."""
        if self._digest is None:
            parts = [
                f"{state.origin} {state.mode} {state.window.resets_at!r} "
                + " ".join(
                    f"{name}={one.used!r} {one.at_least} of {one.limit!r} from {one.warning_at!r}"
                    for name, one in state.resources.items()
                )
                for state in self.states
            ]
            self._digest = "\x1f".join([*parts, *sorted(self.chosen)])
        return self._digest

    def said_of(self, states: Sequence[BudgetState]) -> tuple[str, ...]:
        """Return those that decided, in words. states: of all of them, by name."""
        if states is self.states:
            return ()
        return tuple(
            describe_budget(state, budget.window)
            for state, (budget, _) in zip(states, self._budgets, strict=True)
            if state.binds
        )


def outlines(states: Sequence[BudgetState]) -> Outline:
    """Return what makes budgets of a verdict others: not what was used, but what that amounts to.

    Times to the millisecond, as a verdict has them.
    """
    return tuple([outline_of(state) for state in states])


def outline_of(state: BudgetState) -> tuple[object, ...]:
    """Return the same of one."""
    resets_at = state.window.resets_at
    return (
        state.origin, state.mode, state.binds, None if resets_at is None else round(resets_at, 3),
        [(name, one.limit, one.status, one.at_least) for name, one in state.resources.items()],
    )  # fmt: skip


def weighed(budget: Budget, run: RunTotals) -> dict[str, Number]:
    """Return what one run used, its tokens as the budget weighs them, rounded up."""
    used = dict(run.totals())
    if budget.weights and semconv.TOKENS in used:
        used[semconv.TOKENS] = -(-_thousandths(budget, run) // WHOLE_WEIGHT)
    return used


def _thousandths(budget: Budget, run: RunTotals) -> int:
    tokens, kinds = int(run.totals()[semconv.TOKENS]), run.token_kinds()
    by_kind = (number * budget.weights.get(kind, WHOLE_WEIGHT) for kind, number in kinds.items())
    return sum(by_kind) + (tokens - sum(kinds.values())) * WHOLE_WEIGHT


def weight_of(budget: Budget, run: RunTotals) -> Callable[[dict[str, float]], dict[str, float]]:
    """Return how tokens of a run are weighed that are not of any kind yet: as those it used."""
    tokens = run.totals().get(semconv.TOKENS)
    if not budget.weights or not tokens:
        return lambda amounts: amounts
    weight = _thousandths(budget, run) / WHOLE_WEIGHT / int(tokens)
    return lambda amounts: {
        name: amount * weight if name == semconv.TOKENS else amount
        for name, amount in amounts.items()
    }


def worst(statuses: Iterable[LimitStatus]) -> LimitStatus:
    """Return the worst of some statuses, of which none is INCONCLUSIVE; OK of none."""
    return max(statuses, key=SEVERITY.__getitem__, default=LimitStatus.OK)


def least(own: dict[str, Number], shared: Mapping[str, Number]) -> dict[str, Number]:
    """Return the least room per resource, of the run's own limits and its budgets'."""
    for name, room in shared.items():
        own[name] = min(room, own.get(name, room))
    return own


def _headroom(enforced: Sequence[tuple[Budget, BudgetState]]) -> dict[str, Number]:
    """Return per resource the least that a run may use before a status could change."""
    room: dict[str, Number] = {}
    for budget, state in enforced:
        for name, one in state.resources.items():
            if one.status is LimitStatus.EXCEEDED:
                continue
            mark = one.warning_at if one.status is LimitStatus.OK else one.limit
            rest = minus(mark, one.used)
            if name == semconv.TOKENS and budget.weights:
                rest = _unweighed(budget, int(rest))
            room[name] = min(rest, room.get(name, rest))
    return room


def _unweighed(budget: Budget, tokens: int) -> int:
    """Return how many tokens, at least, it takes to weigh as much, above 0, in what is rounded up.

    Those that nobody splits count whole, however cheap all kinds are.
    """
    dearest = max(WHOLE_WEIGHT, *budget.weights.values())
    return (tokens - 1) * WHOLE_WEIGHT // dearest + 1


#: Of a run that shares none.
NO_POOLS: Final = Pools(())
