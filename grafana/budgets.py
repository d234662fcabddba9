"""Budgets that runs share: what is used of what, until when, by which group, whom they bind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana.board import BUDGETS, Row, annotation, build, label_variable
from grafana.budget_promql import EACH, burn, enforced, from_shadow
from grafana.panels import (
    BLUE,
    GREEN,
    NONE_IS_GOOD,
    PURPLE,
    RED,
    YELLOW,
    Builder,
    Query,
    figure,
    graph,
    meters,
    painted,
)
from grafana.panels import UTILIZATION as SHARES
from grafana.promql import equal, resource, select
from grafana.tables import Column, rows, share
from otel_budget import semconv
from otel_budget.core.budget import OTHER, Mode

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard

#: What the dashboard's variables choose.
_BUDGET = 'budget=~"$budget"'
_CHOSEN = f'{_BUDGET},group=~"$group"'
#: Most rows of the table: those closest to their limit.
_ROWS = 50
_NAMED = "{{budget}} {{group}} {{resource}}"
_MODES = {str(Mode.ENFORCE): ("enforce", GREEN), str(Mode.SHADOW): ("shadow", PURPLE)}


def budgets() -> Dashboard:
    """Return the dashboard."""
    known = f"label_values({semconv.BUDGET_INFO.name},budget)"
    groups = f"label_values({select(semconv.BUDGET_SESSIONS, _BUDGET)},group)"
    begun = _each(semconv.BUDGET_WINDOW_START, by="budget")
    resets = f"{begun} and on (budget) {semconv.BUDGET_RESET.name}"
    granted = f"sum by (budget, resource) ({select(semconv.BUDGET_TOP_UP, _BUDGET)})"
    before = f"sum by (budget, resource) ({select(semconv.BUDGET_TOP_UP, _BUDGET)} offset 1m)"
    none = f"sum by (budget, resource) ({select(semconv.BUDGET_LIMIT, _BUDGET)}) * 0"
    return build(
        BUDGETS,
        "otel-budget / Budgets",
        "What runs use together of the budgets they share: how much of each is left, until when "
        "it has to last, which group spends it, and which runs it stops. A budget in shadow stops "
        "nobody.",
        variables=[
            label_variable("budget", "Budget", known),
            label_variable("group", "Group", groups),
        ],
        annotations=[
            annotation(
                "Windows that began",
                Query(f"({resets}) * 1000", "{{budget}} begins at 0"),
                colour=BLUE,
                title="{{budget}}: new window",
                value_is_time=True,
            ),
            annotation(
                "Top-ups",
                Query(f"{granted} > ({before} or {none})", "{{budget}}: more {{resource}}"),
                colour=GREEN,
                title="{{budget}}: top-up",
            ),
        ],
        rows=[
            Row("Now", [*_counts(), *_troubles()]),
            Row("How they stand", [_standing(), _closest(), _about()]),
            Row("Over time", _graphs()),
            Row("Whom they bind", _bound()),
        ],
        time=("now-24h", "now"),
        refresh="1m",
    )


def _each(metric: semconv.Metric, *matchers: str, by: str = EACH) -> str:
    """Return a metric of what is chosen, once though several sidecars may show it."""
    return f"max by ({by}) ({select(metric, _CHOSEN, *matchers)})"


def _at(line: semconv.Metric) -> str:
    """Return what is at a line, or past it."""
    return f"max by ({EACH}) ({select(semconv.BUDGET_USED, _CHOSEN)} >= {select(line, _CHOSEN)})"


def _number(expr: str) -> Query:
    """Count series; 0 if there is none and a sidecar is there to say so."""
    return Query(f"count({expr}) or sum({semconv.SIDECAR_SESSIONS.name}) * 0")


def _counts() -> list[Builder]:
    over = enforced(_at(semconv.BUDGET_LIMIT))
    low = enforced(f"{_at(semconv.BUDGET_WARNING)} unless {_at(semconv.BUDGET_LIMIT)}")
    soon = f"{_each(semconv.BUDGET_EXHAUSTION)} > 0 and on (budget) {semconv.BUDGET_RESET.name}"
    return [
        figure(
            "Low",
            "Limits of groups that are past their warning line, and not used up. Runs that can "
            "say that they are nearly done finish, others stop; or those that can still finish "
            "go on (finish_most).",
            _number(low),
            unit="none",
            steps=((None, GREEN), (1, YELLOW)),
            span=4,
        ),
        figure(
            "Used up",
            "Limits of groups of which nothing is left: their runs are told to stop until the "
            "window ends, or somebody tops it up (`otel-budget budget raise`).",
            _number(over),
            unit="none",
            steps=NONE_IS_GOOD,
            span=4,
        ),
        figure(
            "Gone before the reset",
            "Limits of groups that will not last until their window ends, at the rate of late.",
            _number(soon),
            unit="none",
            steps=((None, GREEN), (1, YELLOW)),
            span=4,
        ),
    ]


def _troubles() -> list[Builder]:
    by_budget = select(semconv.BOUND_RUNS, 'limit_from=~"budget:.*"', 'action="stop"')
    crowd = select(semconv.BUDGET_SESSIONS, _BUDGET, equal(semconv.GROUP, OTHER))
    sessions = f"sum({semconv.SIDECAR_SESSIONS.name})"
    return [
        figure(
            "Runs stopped by a budget",
            "Live runs whose verdict is stop because of a budget, and not of a limit of their own.",
            Query(f"sum({by_budget}) or {sessions} * 0"),
            unit="none",
            steps=((None, GREEN), (1, YELLOW)),
            span=4,
        ),
        figure(
            "Runs without a group of their own",
            "There are more groups than groups_max: these runs share the group 'other'. Does "
            "somebody make up values of a label?",
            Query(f"sum({crowd}) or {sessions} * 0"),
            unit="none",
            steps=NONE_IS_GOOD,
            span=4,
        ),
        figure(
            "Runs that shadow would stop",
            "Runs that go on, and would be stopped if budgets and ceilings in shadow were "
            "enforced.",
            Query(f"count({_would_stop()}) or {sessions} * 0"),
            unit="none",
            steps=((None, GREEN), (1, PURPLE)),
            span=4,
        ),
    ]


def _would_stop() -> str:
    """Return the runs that go on, and would not if nothing were in shadow."""
    told = f"max by (session_id) ({semconv.VERDICT_WOULD.name} == 0)"
    return f"{told} and on (session_id) {semconv.VERDICT.name} == 1"


_COLUMNS = (
    Column(semconv.BUDGET, "budget"),
    Column(semconv.GROUP, "group"),
    Column(semconv.RESOURCE, "resource"),
    share("A", "used of it", SHARES),
    Column("B", "used", unit="short"),
    Column("C", "limit", unit="short"),
    Column("D", "left", unit="short"),
    Column("E", "used up in", unit="dtdurations", decimals=0),
    Column("F", "resets in", unit="dtdurations", decimals=0),
    Column("G", "runs", decimals=0),
    Column("H", "topped up", unit="short"),
    Column("I", "carried over", unit="short"),
)


def _standing() -> Builder:
    ratio = _each(semconv.BUDGET_UTILIZATION)

    def closest(expr: str) -> Query:
        return Query(f"({expr}) and topk({_ROWS}, {ratio})", table=True)

    def of_group(expr: str) -> Query:
        """Return a number of a group in the row of each of its resources."""
        return closest(f"{ratio} * 0 + on (budget, group) group_left () ({expr})")

    resets = f"{_each(semconv.BUDGET_RESET, by='budget, group')} - time()"
    none = f"{ratio} * 0"
    return rows(
        "Groups and limits, the closest to its limit first",
        f"One row for each limit of each group, the first {_ROWS}. Used up in: at the rate of "
        "late; empty where it lasts until the reset. Left, used up and resets are what a run's "
        "verdict says of its budgets.",
        [
            Query(f"topk({_ROWS}, {ratio})", table=True),
            closest(_each(semconv.BUDGET_USED)),
            closest(_each(semconv.BUDGET_LIMIT)),
            closest(_each(semconv.BUDGET_REMAINING)),
            closest(_each(semconv.BUDGET_EXHAUSTION)),
            of_group(resets),
            of_group(_each(semconv.BUDGET_SESSIONS, by="budget, group")),
            closest(f"{_each(semconv.BUDGET_TOP_UP)} or {none}"),
            closest(f"{_each(semconv.BUDGET_CARRIED)} or {none}"),
        ],
        _COLUMNS,
        sort="used of it",
        no_value="no budget is configured",
    )


def _closest() -> Builder:
    return meters(
        "The ten closest to their limit",
        "Share of the limit that is used, top-ups and what was carried over included.",
        Query(f"topk(10, {_each(semconv.BUDGET_UTILIZATION)})", _NAMED, instant=True),
        unit="percentunit",
        steps=SHARES,
        maximum=1,
        span=10,
        no_value="no budget is configured",
    )


def _about() -> Builder:
    of_budget = "budget, mode, window, when_low, title"
    info = f"max by ({of_budget}) ({select(semconv.BUDGET_INFO, _BUDGET)})"
    since = f"time() - min by (budget) ({select(semconv.BUDGET_COUNTED_FROM, _BUDGET)})"
    groups = f"max by (budget) ({select(semconv.BUDGET_GROUPS, _BUDGET)})"
    runs = f"sum by (budget) ({select(semconv.BUDGET_SESSIONS, _BUDGET)})"

    def beside(expr: str) -> Query:
        return Query(f"{info} * 0 + on (budget) group_left () ({expr})", table=True)

    return rows(
        "What they are",
        "As configured. Counted since: what was used before is in no book of this budget. A "
        "budget that nobody counts towards matches no run.",
        [Query(info, table=True), beside(since), beside(groups), beside(runs)],
        [
            Column(semconv.BUDGET, "budget"),
            Column(semconv.TITLE, "title", width=210),
            Column(semconv.MODE, "mode", width=80, cell="colour", mappings=_MODES),
            Column(semconv.WINDOW, "window", width=230),
            Column(semconv.WHEN_LOW, "when low"),
            Column("B", "counted since", unit="dtdurations", decimals=0),
            Column("C", "groups", width=70, decimals=0),
            Column("D", "runs", width=60, decimals=0),
        ],
        sort="runs",
        span=14,
        height=8,
        no_value="no budget is configured",
    )


def _graphs() -> list[Builder]:
    def window_by_window(name: str, title: str, unit: str) -> Builder:
        used = _each(semconv.BUDGET_USED, resource(name), by="budget, group")
        return graph(
            f"{title} used, window by window",
            "Rises to the end of a window, then begins at 0: the tops are what each closed window "
            "used. `otel-budget budget history` has them as numbers, late samples included.",
            [Query(f"topk(10, {used})", "{{budget}} {{group}}")],
            unit=unit,
            calcs=("lastNotNull", "max"),
        )

    ratio = _each(semconv.BUDGET_UTILIZATION)
    return [
        graph(
            "Used of the limit",
            "The ten closest. A line that bends down without a new window was topped up.",
            [Query(f"topk(10, {ratio})", _NAMED)],
            unit="percentunit",
            steps=((None, "transparent"), (0.8, YELLOW), (1.0, RED)),
        ),
        graph(
            "How many times faster than the window allows",
            "Spending of the last half hour. At 1 a budget lasts exactly as long as its window; "
            "at 6 it is gone in a sixth of it. Nothing where there is no window that ends.",
            [Query(f"topk(10, {burn('30m', _CHOSEN)})", _NAMED)],
            unit="short",
            steps=((None, "transparent"), (1.0, YELLOW), (6.0, RED)),
            calcs=("lastNotNull", "max"),
        ),
        window_by_window(semconv.TOKENS, "Tokens", "short"),
        window_by_window(semconv.COST, "US dollars", "currencyUSD"),
    ]


def _bound() -> list[Builder]:
    bound = f"max by (limit_from, action) ({semconv.BOUND_RUNS.name})"
    runs = f"sum by (budget) (max by (budget, group) ({select(semconv.BUDGET_SESSIONS, _CHOSEN)}))"
    none = f"{_each(semconv.BUDGET_LIMIT)} * 0"
    added = f"{_each(semconv.BUDGET_TOP_UP)} or {none}"
    carried = f"{_each(semconv.BUDGET_CARRIED)} or {none}"
    sessions = f"sum({semconv.SIDECAR_SESSIONS.name})"
    shadow = from_shadow(_each(semconv.BUDGET_UTILIZATION))
    return [
        graph(
            "Runs near a limit or stopped, by whose limit it is",
            "Live runs: continue is near, stop is told to stop. What a budget binds no limit of "
            "the run itself binds as hard.",
            [Query(bound, "{{limit_from}}: {{action}}")],
            unit="none",
            calcs=("lastNotNull", "max"),
        ),
        graph(
            "Runs that count towards each budget",
            "Live ones. None, for long, is a budget that matches nobody: look at its labels.",
            [Query(runs, "{{budget}}")],
            unit="none",
            calcs=("lastNotNull", "max"),
        ),
        graph(
            "Budgets in shadow, used of the limit",
            "Past 100 % the runs of the group would be stopped. Too often: the limit is too low, "
            "or the window too short.",
            [Query(f"topk(10, {shadow})", _NAMED)],
            unit="percentunit",
            steps=((None, "transparent"), (1.0, PURPLE)),
            calcs=("lastNotNull", "max"),
            no_value="no budget is in shadow",
        ),
        graph(
            "Runs that shadow would stop, over time",
            "Of those that are judged, how many go on only because a budget, or the sidecar's "
            "ceilings, is in shadow. Which, and by what: `otel-budget session show`.",
            [
                Query(f"count({_would_stop()}) or {sessions} * 0", "would be stopped"),
                Query(f"count({semconv.VERDICT.name} == 1) or {sessions} * 0", "go on"),
            ],
            unit="none",
            overrides=[painted("would be stopped", PURPLE), painted("go on", GREEN)],
            calcs=("lastNotNull", "max"),
        ),
        graph(
            "Topped up",
            "What top-ups that are in force add to the limits, in the limit's own unit. By whom "
            "and why: `otel-budget budget show`.",
            [Query(f"topk(10, {added})", _NAMED)],
            unit="short",
        ),
        graph(
            "Carried over",
            "What the window before left of its own, in the limit's own unit. Below 0 for an "
            "overrun that is carried.",
            [Query(f"topk(10, {carried})", _NAMED)],
            unit="short",
        ),
    ]
