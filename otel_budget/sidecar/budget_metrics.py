"""Budgets that runs share, as metrics: what each group used of what, until when, and whom it binds.

What must live here: how a report becomes families. What is unknown is absent, never 0. The series
are bounded: at most ``groups_max`` groups of a budget and the one past them, some ten for each
resource that it limits. A window of each run by itself has no group: its use is the run's own.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.budget_text import window_text
from otel_budget.core.reasons import Action
from otel_budget.core.resources import RESOURCES
from otel_budget.core.verdict import LimitStatus
from otel_budget.sidecar.metric_families import add_number, counter, gauge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client.core import GaugeMetricFamily, Metric

    from otel_budget.core.budget import BudgetKey
    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import BudgetResource, Verdict
    from otel_budget.sidecar.budget_report import BudgetReport, GroupReport

#: What a limit's origin begins with whose rest has no bound: a run's id, a group's labels.
_PARENT: Final = "parent"
#: Whose limits there are without any being asked for.
_OWN: Final = ("operator", "session", "sidecar")


class BudgetFamilies:
    """The families of all budgets."""

    def __init__(self) -> None:
        """Begin with none."""
        self._info = gauge(semconv.BUDGET_INFO)
        self._used, self._limit = gauge(semconv.BUDGET_USED), gauge(semconv.BUDGET_LIMIT)
        self._at_least = gauge(semconv.BUDGET_AT_LEAST)
        self._warning = gauge(semconv.BUDGET_WARNING)
        self._remaining = gauge(semconv.BUDGET_REMAINING)
        self._held = gauge(semconv.BUDGET_HELD)
        self._holds_refused = counter(semconv.BUDGET_HOLDS_REFUSED)
        self._utilization = gauge(semconv.BUDGET_UTILIZATION)
        self._exhaustion = gauge(semconv.BUDGET_EXHAUSTION)
        self._top_up, self._carried = gauge(semconv.BUDGET_TOP_UP), gauge(semconv.BUDGET_CARRIED)
        self._reset = gauge(semconv.BUDGET_RESET)
        self._start = gauge(semconv.BUDGET_WINDOW_START)
        self._counted_from = gauge(semconv.BUDGET_COUNTED_FROM)
        self._sessions = gauge(semconv.BUDGET_SESSIONS)
        self._groups = gauge(semconv.BUDGET_GROUPS)
        self._groups_max = gauge(semconv.BUDGET_GROUPS_MAX)
        self._refused = counter(semconv.BUDGET_GROUPS_REFUSED)

    @property
    def families(self) -> Iterable[Metric]:
        """All of them, in the order of ``semconv``."""
        return (
            self._info, self._used, self._at_least, self._limit, self._warning, self._remaining,
            self._held, self._holds_refused, self._utilization, self._exhaustion, self._top_up,
            self._carried, self._reset, self._start, self._counted_from, self._sessions,
            self._groups, self._groups_max, self._refused,
        )  # fmt: skip

    def add(self, report: BudgetReport) -> None:
        """Add a budget and its groups."""
        budget = report.budget
        window = window_text(budget.window)
        about = (str(budget.mode), window, str(budget.when_low), budget.title)
        self._info.add_metric((budget.name, *about), 1)
        if budget.per:
            add_number(self._groups, (budget.name,), sum(one is not None for one in report.groups))
            add_number(self._groups_max, (budget.name,), budget.groups_max)
            self._refused.add_metric((budget.name,), report.refused_groups)
        for group in report.groups.values():
            self._add_group(group)

    def add_held(
        self,
        held: Mapping[BudgetKey, Mapping[str, Number]],
        refused: Mapping[tuple[str, str], int],
        reports: Mapping[str, BudgetReport],
    ) -> None:
        """Add what is reserved of which group, and how many were refused, by budget and reason."""
        for (name, group), amounts in held.items():
            if name in reports:
                labels = (name, reports[name].budget.group_text(group))
                for resource, amount in amounts.items():
                    unit = RESOURCES[resource].unit
                    add_number(self._held, (*labels, resource, unit), amount)
        for of, count in sorted(refused.items()):
            self._holds_refused.add_metric(of, count)

    def _add_group(self, report: GroupReport) -> None:
        state = report.state
        group = (state.name, state.group_text)
        add_number(self._reset, group, state.window.resets_at)
        add_number(self._start, group, state.window.start)
        add_number(self._counted_from, group, report.counted_from)
        add_number(self._sessions, group, report.sessions)
        for resource, one in state.resources.items():
            labels = (*group, resource, RESOURCES[resource].unit)
            self._add_resource(labels, one)
            add_number(self._exhaustion, labels, report.exhaustion_seconds.get(resource))

    def _add_resource(self, labels: tuple[str, ...], one: BudgetResource) -> None:
        add_number(self._used, labels, one.used)
        add_number(self._at_least, labels, 1 if one.at_least else None)
        add_number(self._limit, labels, one.limit)
        add_number(self._warning, labels, one.warning_at)
        add_number(self._remaining, labels, one.remaining)
        add_number(self._utilization, labels, one.ratio)
        add_number(self._top_up, labels, one.top_up or None)
        add_number(self._carried, labels, one.carried or None)


def bound_runs(verdicts: Iterable[Verdict], budgets: Iterable[str]) -> Iterator[GaugeMetricFamily]:
    """Yield how many live runs a limit binds, by whose it is; 0 where it binds none.

    verdicts: those in force. budgets: names of those that are configured.
    """
    every = (*_OWN, *(f"budget:{name}" for name in budgets))
    counts = Counter({(whose, str(action)): 0 for whose in every for action in Action})
    counts.update(
        (_whose(origin), str(verdict.action))
        for verdict in verdicts
        if (verdict.status is not LimitStatus.OK or verdict.action is not Action.CONTINUE)
        and verdict.run_state not in semconv.OVER_STATES
        and (origin := verdict.limit_from) is not None
    )
    family = gauge(semconv.BOUND_RUNS)
    for labels, count in sorted(counts.items()):
        family.add_metric(labels, count)
    yield family


def _whose(origin: str) -> str:
    """Return an origin without what there may be any number of: ids of parents, groups."""
    kind, _, rest = origin.partition(":")
    return _PARENT if kind == _PARENT else f"{kind}:{rest.partition('{')[0]}" if rest else kind
