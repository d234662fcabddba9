"""Every expression of every dashboard, on a real Prometheus over real runs and a real sidecar."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest
import yaml

from grafana import grafana_rules, promql
from otel_budget import semconv
from otel_budget.demo import recordings
from tests.support.dashboards import (
    Target,
    boards,
    filled,
    legend_labels,
    panels,
    table_fields,
    targets,
)
from tests.support.fleet import CLEAN, RULES, UNJUDGED, Fleet

pytestmark = pytest.mark.real("prometheus")


def ask(fleet: Fleet, target: Target, at: float, session: str = CLEAN) -> list[dict[str, str]]:
    """Return the labels of each series that one query has at a moment."""
    expr = filled(target.query["expr"], session, at - fleet.began_at)
    return [row["metric"] for row in fleet.prometheus.vector(expr, at)]


@pytest.mark.parametrize("moment", ["healthy_at", "troubled_at"])
def test_no_panel_is_empty_or_fails(fleet: Fleet, moment: str) -> None:
    """When all is well, and when everything is wrong."""
    at = getattr(fleet, moment)
    empty = [target.name for target in targets() if not ask(fleet, target, at)]
    assert not empty


@pytest.mark.parametrize("moment", ["healthy_at", "troubled_at"])
def test_series_have_the_labels_that_their_legend_names(fleet: Fleet, moment: str) -> None:
    """Each of them in some series; and no two series of a panel have the same name."""
    at = getattr(fleet, moment)
    for target in targets():
        found = ask(fleet, target, at)
        labels = legend_labels(target.query)
        for label in labels:
            assert any(row.get(label) for row in found), (target.name, label)
        if target.query.get("format") != "table":
            names = [tuple(row.get(label) for label in labels) for row in found]
            assert len(names) == len(set(names)), (target.name, found)


def test_tables_have_the_columns_that_they_name(fleet: Fleet) -> None:
    """A column is a label of a query, or the number of one."""
    seen = 0
    for uid, board in boards().items():
        for panel in panels(board):
            fields = table_fields(panel)
            letters = {query["refId"] for query in panel["targets"]}
            known = {"Value"} if len(letters) == 1 else {f"Value #{letter}" for letter in letters}
            for query in panel["targets"] if fields else ():
                rows = ask(fleet, Target(uid, panel, query), fleet.troubled_at)
                known |= {label for row in rows for label in row}
            assert set(fields) <= known, (panel["title"], set(fields) - known)
            seen += bool(fields)
    assert seen >= 4


def test_rows_of_a_table_are_one_for_each_run(fleet: Fleet) -> None:
    """Every query has one row for a run, so that Grafana's merge makes one row of them."""
    (panel,) = [p for p in panels(boards()["otel-budget-overview"]) if p["type"] == "table"]
    for query in panel["targets"]:
        rows = ask(fleet, Target("overview", panel, query), fleet.troubled_at)
        runs = [row[semconv.SESSION_ID] for row in rows]
        assert len(runs) == len(set(runs)), query["expr"]
        assert set(runs) <= {CLEAN, "clean-2", "near-1", "over-1", "doubt-1", "lost-1", UNJUDGED}


def test_variables_have_values(fleet: Fleet) -> None:
    """With what they offer, as Grafana asks for it."""
    found: dict[str, set[str]] = defaultdict(set)
    for board in boards().values():
        for variable in board["templating"]["list"]:
            if variable["type"] == "datasource":
                continue
            query = filled(variable["query"]["query"], CLEAN, 60)
            match = re.fullmatch(r"label_values\((.+),\s*(\w+)\)", query)
            assert match, query
            span = fleet.began_at, fleet.troubled_at
            found[variable["name"]] |= set(fleet.prometheus.label_values(match[2], match[1], *span))
    assert found["workflow"] == {"coding", "research"}
    assert found["team"] == {"core", "search"}
    assert found["session"] >= {CLEAN, UNJUDGED, "lost-1"}
    assert found["budget"] == {"all", "agents", "low", "spent"}
    assert found["group"] >= {"agent=coder", "other"}
    assert found["sidecar"] == {fleet.sidecar.removeprefix("http://")}


def test_annotations_mark_what_happened(fleet: Fleet) -> None:
    """A checkpoint where it was written, a stop where it was decided."""
    seen = 0
    for uid, board in boards().items():
        for mark in board["annotations"]["list"]:
            session = "over-1" if mark["name"] == "Told to stop" else CLEAN
            expr = filled(mark["expr"], session, 60)
            assert mark["target"]["expr"] == mark["expr"]
            found = fleet.prometheus.matrix(expr, fleet.began_at, fleet.troubled_at, 0.5)
            assert found, (uid, mark["name"])
            if mark["useValueForTime"]:
                times = {float(v) / 1000 for row in found for _, v in row["values"]}
                assert all(fleet.began_at < t < fleet.troubled_at for t in times), times
            seen += 1
    assert seen >= 3


def test_a_run_can_be_looked_at_without_a_sidecar(fleet: Fleet) -> None:
    """What only a sidecar knows says so; everything else is there."""
    alone = [t for t in targets() if t.board == "otel-budget-session"]
    empty = {t.name for t in alone if not ask(fleet, t, fleet.troubled_at, UNJUDGED)}
    assert empty == {
        f"otel-budget-session / {name}"
        for name in (
            "Verdict / A", "Because / A", "Last calls / A", "Status, verdict and state / A",
            "Status, verdict and state / B", "Calls left / A",
            *(f"Runs out in / {query}" for query in "ABC"),
            *(f"Time to each limit, and to the end / {query}" for query in "ACD"),
            *(f"Calls left of each limit / {query}" for query in "ABC"),
        )
    }  # fmt: skip


def value(fleet: Fleet, title: str, at: float, **chosen: str) -> float:
    """Return what a panel of one number shows on the overview."""
    (panel,) = [p for p in panels(boards()["otel-budget-overview"]) if p["title"] == title]
    expr = filled(panel["targets"][0]["expr"], CLEAN, 60, **chosen)
    (row,) = fleet.prometheus.vector(expr, at)
    return float(row["value"][1])


def test_the_overview_counts_each_kind_of_trouble_once(fleet: Fleet) -> None:
    """And none of them while all is well."""
    kinds = ("Near a limit", "At a limit", "Without data", "Not judged")
    assert [value(fleet, kind, fleet.healthy_at) for kind in kinds] == [0, 0, 0, 0]
    assert [value(fleet, kind, fleet.troubled_at) for kind in kinds] == [1, 1, 1, 1]
    assert value(fleet, "Running", fleet.healthy_at) == 2
    assert value(fleet, "Running", fleet.troubled_at) == 7


def test_the_overview_shows_what_is_chosen(fleet: Fleet) -> None:
    """A program that names no workflow is in "All", and in no other choice."""
    at = fleet.healthy_at
    assert value(fleet, "Running", at, workflow="research") == 1
    assert value(fleet, "Running", at, workflow="research", team="core") == 0
    assert value(fleet, "Running", at, team="core|search") == 2


def test_a_run_that_fell_silent_is_still_its_workflows(fleet: Fleet) -> None:
    """Whoever looks at a workflow must see the run whose process died."""
    at = fleet.troubled_at
    assert value(fleet, "Without data", at, workflow="coding") == 1
    assert value(fleet, "Without data", at, workflow="research") == 0


# --- alerts ---------------------------------------------------------------------------------------
#: What the fleet's troubles are to be told as, before anything had to be waited for.
PENDING_OR_FIRING = {
    "OtelBudgetApproaching", "OtelBudgetExceeded", "OtelBudgetStopped", "OtelBudgetNoData",
    "OtelBudgetRunNotJudged", "OtelBudgetCheckpointFailed", "OtelBudgetUnpricedCalls",
    "OtelBudgetUnknownUsage", "OtelBudgetFastBurn", "OtelBudgetPoolNear",
    "OtelBudgetPoolExhausted", "OtelBudgetGroupsCapped", "OtelBudgetShadowWouldStop",
}  # fmt: skip


def test_every_expression_of_every_alert_is_understood(fleet: Fleet) -> None:
    """Prometheus's, which read what is recorded, and Grafana's with each further number."""
    for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]:
        found = fleet.prometheus.vector(rule["expr"], fleet.troubled_at)
        assert found or "alert" in rule, rule
    for name, letter, expr in grafana_rules.expressions():
        found = fleet.prometheus.vector(expr, fleet.troubled_at)
        nobody_waits = semconv.WAITING_SINCE.name in expr  # its alert's other cases: alerts.yaml
        assert found or letter == "A" or nobody_waits, (name, letter, expr)


def test_the_metrics_of_every_alert_are_there_with_the_labels_it_asks_for(fleet: Fleet) -> None:
    """A selector that matches nothing, ever, is an alert that cannot fire."""
    seen = set()
    for name, _, expr in grafana_rules.expressions():
        for selector in re.findall(r"\botel_budget_\w+(?:{[^}]*})?", expr):
            inside = selector.partition("{")[2]
            # Which of the states there are depends on the moment; that the label is there does not.
            labels = re.findall(r"(\w+)(?:=~|!~|!=|=)\"", inside)
            metric = selector.partition("{")[0]
            if metric in (semconv.LIMIT_UNJUDGED.name, semconv.WAITING_SINCE.name):
                # Only of programs that are not ours: these export all that is limited; and only of
                # runs that wait until they may go on.
                continue
            anything = ",".join(f'{label}!=""' for label in labels)
            asked = f"last_over_time({metric}{{{anything}}}[5m])"
            assert fleet.prometheus.vector(asked, fleet.troubled_at), (name, selector)
            seen.add(metric)
    assert len(seen) > 25


def test_a_healthy_fleet_has_no_alert_and_a_troubled_one_each_that_it_should(fleet: Fleet) -> None:
    """By the rules as they are shipped, evaluated over real metrics."""
    # A machine that is busy for some seconds makes a tick late, and several runs inconclusive at
    # once, which is remembered: both may be told at any time. That they are is tested elsewhere.
    of_a_busy_machine = {"OtelBudgetTickOverrun", "OtelBudgetInconclusive"}

    def alerts(at: float) -> set[str]:
        found = fleet.prometheus.vector("max by (alertname) (ALERTS)", at)
        return {row["metric"]["alertname"] for row in found} - of_a_busy_machine

    assert alerts(fleet.healthy_at) <= {"OtelBudgetRunNotJudged"}
    assert alerts(fleet.troubled_at) == PENDING_OR_FIRING


def test_grafanas_conditions_hold_where_prometheuss_do(fleet: Fleet) -> None:
    """The same labels from both, for whatever is told."""
    for name, letter, expr in grafana_rules.expressions():
        if letter != "A":
            continue
        mine = fleet.prometheus.vector(expr, fleet.troubled_at)
        theirs = fleet.prometheus.vector(f'ALERTS{{alertname="{name}"}}', fleet.troubled_at)
        own = {"__name__", "alertname", "alertstate", "severity"}
        told = [{k: v for k, v in row["metric"].items() if k not in own} for row in theirs]
        labels = [row["metric"] for row in mine]
        assert all(one in labels for one in told), (name, labels, told)


def recorded_tokens() -> int:
    """Return the tokens of all runs of the fleet, from the recordings that they replay."""

    def of(recording: str, calls: int | None = None) -> int:
        return sum(c.input_tokens + c.output_tokens for c in recordings.load(recording)[:calls])

    half = round(len(recordings.load("codex")) * 0.5)
    return 5 * of("claude") + of("codex") + of("codex", half) + 1000


def test_what_was_spent_is_what_was_recorded(fleet: Fleet) -> None:
    """Also of runs shorter than any window, of a process that is gone, and exactly."""
    window = f"{fleet.troubled_at - fleet.began_at + 5:.0f}s"
    expr = promql.spent(semconv.USAGE_TOKENS, window=window)
    (row,) = fleet.prometheus.vector(expr, fleet.troubled_at)
    assert float(row["value"][1]) == recorded_tokens()
