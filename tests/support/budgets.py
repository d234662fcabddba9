"""Shared budgets as tests want them: what is configured, and reports on how they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_budget import semconv
from otel_budget.core.budget import Budget, Group, TopUp, Window, WindowKind, WindowSpan
from otel_budget.core.verdict import BudgetResource, BudgetState, LimitStatus
from otel_budget.sidecar.budget_report import BudgetReport, GroupReport
from tests.support.sidecar_fixtures import START

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DAY = Window(WindowKind.CALENDAR, every="day")


def budget(name: str = "research", *per: str, tokens: int = 1000, **others: Any) -> Budget:
    """Return a budget of tokens a day."""
    return Budget(**{"name": name, "window": DAY, "limits": {semconv.TOKENS: tokens}, "per": per,
                     **others})  # fmt: skip


def group_report(
    of: Budget, group: Group = (), used: int = 0, *, top_ups: Iterable[TopUp] = (), **others: Any
) -> GroupReport:
    """Return how a group of a budget of tokens stands."""
    base = of.limits[semconv.TOKENS]
    assert isinstance(base, int)
    more = sum(int(one.amounts[semconv.TOKENS]) for one in top_ups)
    limit = base + more
    status = LimitStatus.EXCEEDED if used >= limit else LimitStatus.OK
    tokens = BudgetResource(
        used, limit, max(0, limit - used), used / limit, status, base, more, 0, limit * 8 // 10
    )
    span = WindowSpan(START, START + 86_400, START + 86_400)
    state = BudgetState(
        of.name, of.group_labels(group), of.mode, span, {semconv.TOKENS: tokens}, of.origin(group),
        tz=of.window.tz,
    )  # fmt: skip
    return GroupReport(group, state, START, sessions=1, top_ups=tuple(top_ups), **others)


def report(of: Budget, used: Mapping[Group, int]) -> BudgetReport:
    """Return how a budget of tokens stands, by what its groups used."""
    groups = {group: group_report(of, group, tokens) for group, tokens in used.items()}
    return BudgetReport(of, groups, START, sessions=len(groups))
