"""A run whose row was lost: what is known of it from elsewhere, and that it is not all.

Its last verdict has what it had used by then, and its limits; operators' orders are rows of their
own. So what was over its limit, or ordered to stop, stays stopped; the rest is "at least".
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.core.observation import RunAttributes
from otel_budget.core.override import NO_OVERRIDES, Overrides
from otel_budget.core.resources import COUNTED
from otel_budget.ledger.book_values import LostUse
from otel_budget.ledger.run import RunTotals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from otel_budget.core.budget import BudgetKey, Group
    from otel_budget.core.override import Override
    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import BudgetState, Verdict

#: It is not known how many calls there were of which nothing is known: some.
_SOME = {"unpriced_calls": 1, "unknown_usage_calls": 1}


def recovered(
    session_id: str,
    started_at: float | None,
    now: float,
    *,
    verdict: Verdict | None = None,
    used: Mapping[str, Number] | None = None,
    overrides: Sequence[Override] = (),
) -> RunTotals:
    """Return a run of which its own row is lost.

    now: Unix time. verdict: the last one on it. used: what it had used, if that is known beside.
    orders: all of its orders, the oldest first.
    """
    run = RunTotals(session_id, started_at, _began_at(started_at, now, verdict))
    run.unsure = dict(_SOME)
    run.overrides = reduce(Overrides.after, overrides, NO_OVERRIDES).holding(now)
    run.floor = dict(used or {})
    if verdict is None:
        run.attributes = RunAttributes(started_at=started_at)
        return run
    run.sampled_at = verdict.data_at
    states = verdict.resources
    run.floor |= {name: states[name].used for name in COUNTED if name in states}
    run.attributes = RunAttributes(
        started_at=started_at,
        limits={
            name: state.limit
            for name, state in states.items()
            if state.limit is not None and state.limit_from == "session"
        },
        completion_threshold=verdict.completion_threshold,
        progress=verdict.progress,
        state=None if verdict.run_state == semconv.VANISHED else verdict.run_state,
    )
    if verdict.run_state in semconv.ENDED_STATES:
        run.ended_at = verdict.data_at or verdict.evaluated_at
    return run


def raised(runs: Iterable[RunTotals], verdicts: Iterable[Verdict]) -> list[RunTotals]:
    """Return, and raise to what their last verdicts say, runs of which the newest row was lost.

    Both are written in one commit: a run that knows of less is older than its verdict.
    """
    known = {(v.session_id, v.started_at): v.resources for v in verdicts}
    behind = []
    for run in runs:
        states, totals = known.get((run.session_id, run.started_at), {}), run.totals()
        said = {name: states[name].used for name in COUNTED if name in states}
        more = {name: used for name, used in said.items() if used > totals.get(name, 0)}
        if more:
            run.floor |= more
            run.unsure = {**run.unsure, **_SOME}
            run.forget_sums()
            behind.append(run)
    return behind


def lost_use(key: BudgetKey, verdicts: Iterable[Verdict]) -> LostUse:
    """Return what a group of a budget used at least, by what was said of it in verdicts."""
    name, group = key
    found = LostUse(name, group)
    for verdict in verdicts:
        for state in verdict.budgets:
            if state.name != name or _group_of(state) != group:
                continue
            if found.at is None or verdict.evaluated_at >= found.at:
                used = {resource: one.used for resource, one in state.resources.items()}
                found = LostUse(name, group, used, verdict.evaluated_at)
    return found


def keys_of(verdicts: Iterable[Verdict]) -> list[BudgetKey]:
    """Return the budgets and groups that verdicts tell of."""
    return [(state.name, _group_of(state)) for verdict in verdicts for state in verdict.budgets]


def _group_of(state: BudgetState) -> Group:
    return None if state.origin.endswith("{other}") else tuple(state.group.values())


def _began_at(started_at: float | None, now: float, verdict: Verdict | None) -> float:
    """Return when the run began, as far as that is known: not later than it did."""
    if verdict is not None and semconv.DURATION in verdict.resources:
        return verdict.evaluated_at - float(verdict.resources[semconv.DURATION].used)
    return now if started_at is None else min(started_at, now)
