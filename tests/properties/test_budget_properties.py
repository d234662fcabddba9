"""Invariants of budgets that runs share: the strictest decides, and more never loosens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from otel_budget import semconv
from otel_budget.core.budget import Budget, Mode, WhenLow, Window, WindowKind, WindowSpan
from otel_budget.core.reasons import Action
from otel_budget.policy.budgets import Pools, budget_state
from otel_budget.policy.finish_most import Candidate, choose
from otel_budget.policy.status import SEVERITY
from otel_budget.policy.verdicts import verdict_from_snapshot
from tests.properties.strategies import NOW, rules, snapshots

_LIMITED = (semconv.TOKENS, semconv.API_CALLS)
_SPAN = WindowSpan(NOW - 60, NOW + 60, NOW + 60)
amounts = st.fixed_dictionaries(dict.fromkeys(_LIMITED, st.integers(0, 12)))


@st.composite
def pools(draw: st.DrawFn, name: str) -> tuple[Budget, dict[str, int]]:
    """Return a budget, and what all used together."""
    budget = Budget(
        name, Window(WindowKind.CALENDAR, every="day"), draw(amounts),
        when_low=draw(st.sampled_from(WhenLow)), mode=draw(st.sampled_from(Mode)),
        warning_threshold=draw(st.sampled_from([0.3, 0.8, 1.0])),
    )  # fmt: skip
    return budget, draw(amounts)


several = st.tuples(*(pools(name) for name in "abc"))
chosen = st.frozensets(st.sampled_from("abc"))


def standing(
    shared: tuple[tuple[Budget, Any], ...], told: frozenset[str] = frozenset(), more: int = 0
) -> Pools:
    """Return them as they stand. more: used of each resource on top."""
    return Pools(
        [
            (budget, budget_state(budget, (), {r: n + more for r, n in used.items()}, _SPAN))
            for budget, used in shared
        ],
        told,
    )


@given(snapshots(), rules(), several, chosen)
def test_the_order_of_budgets_does_not_matter(
    run: Any, by: Any, shared: Any, told: frozenset[str]
) -> None:
    one = verdict_from_snapshot(run, by, NOW, standing(shared, told))
    other = verdict_from_snapshot(run, by, NOW, standing(shared[::-1], told))
    assert one == other
    assert one.decision_id == other.decision_id


@given(snapshots(), rules(), several, chosen)
def test_a_stop_without_budgets_is_one_with_them_and_so_with_each_more(
    run: Any, by: Any, shared: Any, told: frozenset[str]
) -> None:
    """No budget loosens what holds without it."""
    before = verdict_from_snapshot(run, by, NOW)
    for number in range(len(shared) + 1):
        verdict = verdict_from_snapshot(run, by, NOW, standing(shared[:number], told))
        if before.action is Action.STOP:
            assert verdict.action is Action.STOP
        before = verdict


@given(snapshots(), rules(), several, chosen, st.integers(0, 12))
def test_more_use_by_others_never_turns_a_stop_into_going_on(
    run: Any, by: Any, shared: Any, told: frozenset[str], more: int
) -> None:
    less = verdict_from_snapshot(run, by, NOW, standing(shared, told))
    verdict = verdict_from_snapshot(run, by, NOW, standing(shared, told, more))
    if less.action is Action.STOP:
        assert verdict.action is Action.STOP


@given(several, chosen)
def test_the_status_is_the_worst_of_those_that_are_enforced(
    shared: Any, told: frozenset[str]
) -> None:
    states = standing(shared, told)
    found = [s.status for s in states.states if s.mode is Mode.ENFORCE]
    assert SEVERITY[states.status] == max((SEVERITY[one] for one in found), default=0)


@given(snapshots(), rules(), several, chosen)
def test_budgets_in_shadow_change_nothing_of_what_holds(
    run: Any, by: Any, shared: Any, told: frozenset[str]
) -> None:
    shadows = tuple((replace(budget, mode=Mode.SHADOW), used) for budget, used in shared)
    with_them = verdict_from_snapshot(run, by, NOW, standing(shadows, told))
    without = verdict_from_snapshot(run, by, NOW)
    said = ("action", "status", "reason", "message", "limit_from", "headroom")
    assert [getattr(with_them, n) for n in said] == [getattr(without, n) for n in said]


rests = st.none() | st.fixed_dictionaries({semconv.TOKENS: st.integers(0, 30).map(float)})
candidates = st.dictionaries(st.sampled_from("abcdefgh"), rests, max_size=8)


@given(candidates, candidates, st.integers(0, 60), st.integers(0, 60))
def test_who_was_told_to_go_on_stays_whoever_comes_and_whatever_is_left(
    first: Any, later: Any, left: int, rest: int
) -> None:
    """As long as its own forecast did not grow; and what is promised at once fits."""
    limits = {semconv.TOKENS: 100.0}
    known = [Candidate(sid, {semconv.TOKENS: 5.0}, need) for sid, need in first.items()]
    told = choose(known, {semconv.TOKENS: float(left)}, limits, {})
    assert sum(first[sid][semconv.TOKENS] for sid in told) <= left * (1 + 1e-6)
    assert all(first[sid] is not None for sid in told)
    both = {**later, **first}
    again = [Candidate(sid, {semconv.TOKENS: 5.0}, need) for sid, need in both.items()]
    now = choose(again, {semconv.TOKENS: float(rest)}, limits, told)
    assert told.keys() <= now.keys()
    assert choose(again[::-1], {semconv.TOKENS: float(rest)}, limits, told) == now
