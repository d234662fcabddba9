"""What was used of each shared budget in a replay, over all its windows and groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otel_budget import semconv
from otel_budget.core.budget import WHOLE_WEIGHT
from otel_budget.core.resources import ZERO
from otel_budget.core.verdict import LimitStatus
from otel_budget.replay.json_numbers import numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_budget.core.budget import Budget, Group
    from otel_budget.core.quantities import Number
    from otel_budget.ledger.book_values import ClosedWindow
    from otel_budget.sidecar.budget_report import BudgetReport


class BudgetUse(NamedTuple):
    """One budget."""

    name: str
    mode: str
    groups: int
    """Those that used something."""
    windows: int
    """Of all groups, those in which something was used; of one that rolls, or never ends, the
    present one."""
    exhausted: int
    """Those of them in which a limit was reached."""
    used: Mapping[str, Number]
    """Per limited resource, over all the time. Tokens as they are weighed."""


class BudgetTally:
    """Adds it up, window by window. Without budgets there is nothing to add."""

    def __init__(self, budgets: Iterable[Budget]) -> None:
        """Begin with nothing."""
        self._budgets = {budget.name: budget for budget in budgets}
        self._closed: dict[str, dict[str, Number]] = {}
        """What was used in windows that are over; tokens in thousandths."""
        self._counts: dict[str, list[int]] = {}
        """Windows that are over, and those of them that were exhausted."""
        self._groups: dict[str, set[Group]] = {}

    def close(self, closings: Iterable[ClosedWindow]) -> None:
        """Take windows that are over, or late use of such; tokens in thousandths."""
        for each in closings:
            budget = self._budgets.get(each.budget)
            if budget is None:
                continue
            counts = self._counts.setdefault(budget.name, [0, 0])
            if each.limits:
                counts[0] += any(each.used.get(name) for name in budget.limits)
                counts[1] += any(
                    _whole(name, each.used.get(name, ZERO[name])) >= limit
                    for name, limit in each.limits.items()
                )
            self._add(budget, each.group, each.used)

    def uses(self, report: Mapping[str, BudgetReport]) -> tuple[BudgetUse, ...]:
        """Return all of it by name. report: how they stand at the end."""
        return tuple(self._use(name, report.get(name)) for name in sorted(self._budgets))

    def _add(self, budget: Budget, group: Group, used: Mapping[str, Number]) -> None:
        total = self._closed.setdefault(budget.name, {})
        for name in budget.limits:
            amount = used.get(name)
            if amount:
                total[name] = total.get(name, ZERO[name]) + amount  # type: ignore[operator] # of one type
                self._groups.setdefault(budget.name, set()).add(group)

    def _use(self, name: str, report: BudgetReport | None) -> BudgetUse:
        budget = self._budgets[name]
        windows, exhausted = self._counts.get(name, [0, 0])
        before = self._closed.get(name, {})
        used: dict[str, Number] = {
            each: _whole(each, before.get(each, ZERO[each])) for each in budget.limits
        }
        groups = set(self._groups.get(name, ()))
        for group, one in (report.groups if report is not None else {}).items():
            state = one.state
            present = {each: state.resources[each].used for each in budget.limits}
            if any(present.values()):
                groups.add(group)
                windows += 1
                exhausted += state.status is LimitStatus.EXCEEDED
            for each, amount in present.items():
                used[each] = used[each] + amount  # type: ignore[operator] # of one type
        return BudgetUse(name, str(budget.mode), len(groups), windows, exhausted, used)


def _whole(resource: str, amount: Number) -> Number:
    """Return an amount as it is told: tokens whole, rounded up."""
    return -(-int(amount) // WHOLE_WEIGHT) if resource == semconv.TOKENS else amount


def as_json(
    use: BudgetUse, stopped: Mapping[str, int], would: Mapping[str, int]
) -> dict[str, object]:
    """Return what was used as JSON types; money is a number.

    stopped, would: ``limit_from`` to the runs that were stopped by it, or would have been.
    """
    return {
        "name": use.name, "mode": use.mode, "groups": use.groups, "windows": use.windows,
        "exhausted": use.exhausted, "used": numbers(use.used),
        "stopped": stops_of(use.name, stopped), "would_stop": stops_of(use.name, would),
    }  # fmt: skip


def stops_of(name: str, by: Mapping[str, int]) -> int:
    """Return how many runs were stopped by a budget, in any of its groups. by: as in as_json."""
    origin = f"budget:{name}"
    return sum(runs for each, runs in by.items() if each.partition("{")[0] == origin)
