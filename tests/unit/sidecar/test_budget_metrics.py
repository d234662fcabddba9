"""Budgets as metrics: the numbers of the report, nothing that is not known, no more series than
there are groups."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from otel_budget import semconv
from otel_budget.core.budget import Budget, Group, Mode, WhenLow, Window, WindowKind, WindowSpan
from otel_budget.core.budget_text import window_text
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import (
    BudgetResource,
    BudgetState,
    LimitStatus,
    ResourceState,
    Verdict,
)
from otel_budget.sidecar.budget_metrics import BudgetFamilies, bound_runs
from otel_budget.sidecar.budget_report import BudgetReport, GroupReport

if TYPE_CHECKING:
    from prometheus_client.core import Metric

Found = dict[str, dict[tuple[str, ...], float]]
MONTH = Window(WindowKind.CALENDAR, every="month", zone="Europe/Berlin")
BUDGET = Budget(
    "research-month", MONTH, {semconv.TOKENS: 1000, semconv.COST: Decimal(5)}, per=("user",),
    title="Research", when_low=WhenLow.FINISH_MOST, groups_max=50,
)  # fmt: skip


def resource(used: float, limit: float = 1000, **others: float) -> BudgetResource:
    """Return how a resource stands. others: top_up, carried."""
    more = {"top_up": 0, "carried": 0, **others}
    return BudgetResource(
        used=used, limit=limit, remaining=max(0, limit - used), ratio=used / limit,
        status=LimitStatus.EXCEEDED if used >= limit else LimitStatus.OK,
        base=limit - more["top_up"] - more["carried"], warning_at=limit * 0.8,
        top_up=more["top_up"], carried=more["carried"],
    )  # fmt: skip


def state(
    group: Group = ("ann",),
    *,
    span: WindowSpan = WindowSpan(100.0, 900.0, 900.0),  # noqa: B008 - a value that never changes
    binds: bool = False,
    **resources: BudgetResource,
) -> BudgetState:
    """Return how the budget stands for a group."""
    return BudgetState(
        BUDGET.name, BUDGET.group_labels(group), Mode.ENFORCE, span,
        resources or {semconv.TOKENS: resource(200)}, BUDGET.origin(group), binds,
    )  # fmt: skip


def report(*groups: GroupReport, budget: Budget = BUDGET) -> BudgetReport:
    """Return a budget with these groups."""
    return BudgetReport(budget, {one.group: one for one in groups}, 0.0, refused_groups=0)


def shown(families: Iterable[Metric]) -> Found:
    """Return the values by metric and label values, in the order of the contract's labels."""
    order = {
        metric.name.removesuffix("_total"): metric.labels for metric in semconv.SIDECAR_METRICS
    }
    return {
        family.name: {
            tuple(sample.labels[label] for label in order[family.name]): sample.value
            for sample in family.samples
        }
        for family in families
        if family.samples
    }


def test_a_group_shows_what_it_used_of_what_and_until_when() -> None:
    families = BudgetFamilies()
    ann = state(tokens=resource(200, 1500, top_up=300, carried=200))
    families.add(report(GroupReport(("ann",), ann, 50.0, 3, (), {semconv.TOKENS: 77.5})))
    budget, group = "research-month", "user=ann"
    one = (budget, group, "tokens", "tokens")
    assert shown(families.families) == {
        "otel_budget_budget_info": {
            (budget, "enforce", window_text(MONTH), "finish_most", "Research"): 1
        },
        "otel_budget_budget_used": {one: 200},
        "otel_budget_budget_limit": {one: 1500},
        "otel_budget_budget_warning_limit": {one: 1200},
        "otel_budget_budget_remaining": {one: 1300},
        "otel_budget_budget_utilization_ratio": {one: 200 / 1500},
        "otel_budget_budget_exhaustion_seconds": {one: 77.5},
        "otel_budget_budget_top_up": {one: 300},
        "otel_budget_budget_carried": {one: 200},
        "otel_budget_budget_reset_timestamp_seconds": {(budget, group): 900},
        "otel_budget_budget_window_start_timestamp_seconds": {(budget, group): 100},
        "otel_budget_budget_counted_from_timestamp_seconds": {(budget, group): 50},
        "otel_budget_budget_sessions": {(budget, group): 3},
        "otel_budget_budget_groups": {(budget,): 1},
        "otel_budget_budget_groups_max": {(budget,): 50},
        "otel_budget_budget_groups_refused": {(budget,): 0},
    }


def test_what_is_not_there_is_absent_and_no_zero() -> None:
    """No reset, no top-up, nothing carried, nothing spent; an overrun that is carried is there."""
    families = BudgetFamilies()
    total = WindowSpan(100.0, math.inf, None)
    families.add(
        report(GroupReport(("ann",), state(span=total, cost=resource(2, 4, carried=-1)), 1))
    )
    found = shown(families.families)
    assert found["otel_budget_budget_carried"] == {
        ("research-month", "user=ann", "cost", "usd"): -1
    }
    assert found["otel_budget_budget_sessions"] == {("research-month", "user=ann"): 0}
    assert not found.keys() & {
        "otel_budget_budget_reset_timestamp_seconds",
        "otel_budget_budget_exhaustion_seconds",
        "otel_budget_budget_top_up",
    }


def test_use_that_is_known_in_part_is_marked() -> None:
    families = BudgetFamilies()
    partly = resource(2, 4)._replace(at_least=True)
    families.add(report(GroupReport(("ann",), state(tokens=resource(1), cost=partly), 1)))
    assert shown(families.families)["otel_budget_budget_at_least"] == {
        ("research-month", "user=ann", "cost", "usd"): 1
    }


def test_no_budget_has_no_series() -> None:
    assert shown(BudgetFamilies().families) == {}


def test_a_group_past_the_cap_is_none_of_those_counted_apart() -> None:
    families = BudgetFamilies()
    families.add(report(GroupReport(("ann",), state(), 0.0), GroupReport(None, state(None), 0.0)))
    found = shown(families.families)
    assert found["otel_budget_budget_groups"] == {("research-month",): 1}
    assert found["otel_budget_budget_sessions"].keys() == {
        ("research-month", "user=ann"), ("research-month", "other"),
    }  # fmt: skip


def test_what_each_run_uses_by_itself_is_in_no_series_of_the_budget() -> None:
    """There are as many groups as runs."""
    families = BudgetFamilies()
    each = Budget("each", Window(WindowKind.RUN), {semconv.TOKENS: 5})
    families.add(BudgetReport(each, {}))
    assert shown(families.families) == {
        "otel_budget_budget_info": {("each", "enforce", "each run by itself", "stop", ""): 1}
    }


@pytest.mark.parametrize(
    ("group", "want"),
    [
        (("ann",), "user=ann"),
        (("",), "user="),
        ((r"a,b={c}%",), "user=a%2Cb%3D%7Bc%7D%25"),
        (None, "other"),
    ],
)
def test_a_group_is_named_as_in_limit_from(group: Group, want: str) -> None:
    assert state(group).group_text == want == BUDGET.group_text(group)


def test_a_budget_for_all_has_a_group_without_a_name() -> None:
    alone = Budget("all", MONTH, {semconv.TOKENS: 5})
    stands = BudgetState("all", {}, Mode.ENFORCE, WindowSpan(0.0), {}, alone.origin(()))
    assert stands.group_text == ""


def verdict(
    session: str,
    *,
    action: Action = Action.STOP,
    status: LimitStatus = LimitStatus.EXCEEDED,
    limit_from: str | None = None,
    budgets: tuple[BudgetState, ...] = (),
    run_state: str = "running",
) -> Verdict:
    """Return a verdict that one limit decided."""
    own = ResourceState(10, 10, 0, 1.0, status, limit_from)
    return Verdict(
        session_id=session, action=action, status=status, reason=Reason.LIMIT_EXCEEDED, message="",
        resources={} if limit_from is None else {semconv.TOKENS: own}, evaluated_at=0.0,
        budgets=budgets, run_state=run_state,
    )  # fmt: skip


def test_whom_a_limit_binds_is_counted_by_whose_it_is() -> None:
    """By kind and budget: neither ids of parents nor groups, of which there may be any number."""
    calm = verdict("a", action=Action.CONTINUE, status=LimitStatus.OK)
    near = verdict(
        "b", action=Action.CONTINUE, status=LimitStatus.APPROACHING, limit_from="session"
    )
    families = bound_runs(
        [
            calm, near,
            verdict("c", budgets=(state(("ann",), binds=True),)),
            verdict("d", budgets=(state(("bob",), binds=True), state(("cy",)))),
            verdict("e", limit_from="parent:x1"), verdict("f", limit_from="parent:x2"),
            verdict("g", limit_from="sidecar", run_state="completed"),
        ],
        ["research-month", "calm"],
    )  # fmt: skip
    found = shown(families)["otel_budget_sidecar_bound_runs"]
    assert {labels: count for labels, count in found.items() if count} == {
        ("budget:research-month", "stop"): 2,
        ("parent", "stop"): 2,
        ("session", "continue"): 1,
    }
    assert found["budget:calm", "stop"] == found["operator", "stop"] == 0
