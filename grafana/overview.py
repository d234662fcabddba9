"""All runs: what goes on, what is in trouble, what it costs, and where to look next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana.board import (
    OVERVIEW,
    Row,
    annotation,
    build,
    owner_variables,
    session_link,
)
from grafana.panels import (
    GREEN,
    NONE_IS_GOOD,
    ONE_IS_GOOD,
    PURPLE,
    RED,
    STATUS_COLOURS,
    UTILIZATION,
    YELLOW,
    Builder,
    Query,
    figure,
    graph,
    painted,
)
from grafana.promql import (
    CHOSEN,
    chosen,
    equal,
    grown,
    judged,
    number_of,
    owners,
    per_second,
    resource,
    running,
    select,
    usage_rate,
)
from grafana.tables import Column, rows, share
from otel_budget import semconv

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard

STATUS_TEXTS = {status: (status, colour) for status, colour in STATUS_COLOURS.items()}
VERDICT_TEXTS = {"1": ("continue", GREEN), "0": ("stop", RED)}


def overview() -> Dashboard:
    """Return the dashboard."""
    stop = equal(semconv.ACTION, "stop")
    stopped = f"{grown(semconv.VERDICT_CHANGES, '$__rate_interval', 'reason', stop)} > 0"
    return build(
        OVERVIEW,
        "otel-budget / Overview",
        "Every run a sidecar judges: which are near their limits, stopped or without data, and "
        "what is being spent. Begin here; a run's name leads to its own page.",
        variables=owner_variables(),
        annotations=[
            annotation("Stops", Query(stopped, "{{reason}}"), colour=RED, title="stop: {{reason}}")
        ],
        rows=[
            Row("Now", [*_counts(), *_troubles(), *_rates()]),
            Row("Runs", [_runs()]),
            Row("Over time", [*_graphs(), *_states()]),
        ],
    )


def _of_status(status: str) -> Query:
    return Query(number_of(judged(equal(semconv.STATUS, status))))


def _counts() -> list[Builder]:
    stopped = f"{judged()} and on (session_id) {select(semconv.VERDICT)} == 0"
    return [
        figure(
            "Running",
            "Runs that go on: judged by a sidecar, or seen by Prometheus.",
            Query(number_of(f"{judged()} or {running()}")),
            unit="none",
        ),
        figure(
            "Near a limit",
            "Past a warning line. They finish if nearly done, else stop with partial results. "
            "Raise a limit only if the table shows they deserve it.",
            _of_status("approaching"),
            unit="none",
            steps=((None, GREEN), (1, YELLOW)),
        ),
        figure(
            "At a limit",
            "Exceeded and still there. They should end within seconds; if not, see alert "
            "OtelBudgetStopNotObeyed.",
            _of_status("exceeded"),
            unit="none",
            steps=NONE_IS_GOOD,
        ),
        figure(
            "Told to stop",
            "Runs whose verdict is stop and that have not ended yet.",
            Query(number_of(stopped)),
            unit="none",
            steps=((None, GREEN), (1, YELLOW)),
        ),
    ]


def _troubles() -> list[Builder]:
    unjudged = f"{running()} unless on (session_id) {select(semconv.VERDICT)}"
    return [
        figure(
            "Without data",
            "The sidecar cannot tell what they used: the last action is held, then on_no_data "
            "applies. Look at Sidecar health.",
            _of_status("inconclusive"),
            unit="none",
            steps=((None, GREEN), (1, PURPLE)),
        ),
        figure(
            "Not judged",
            "Prometheus sees them run, no sidecar does: their outer limits do nothing. Check the "
            "sidecar's targets.",
            Query(number_of(unjudged)),
            unit="none",
            steps=NONE_IS_GOOD,
        ),
    ]


def _rates() -> list[Builder]:
    cost = f"{usage_rate(semconv.USAGE_COST, CHOSEN)} * 3600"
    return [
        figure(
            "Spend",
            "US dollars an hour at the present rate, known prices only.",
            Query(cost),
            unit="currencyUSD",
            decimals=2,
        ),
        figure(
            "Tokens a second",
            "Input and output, cached input included.",
            Query(usage_rate(semconv.USAGE_TOKENS, CHOSEN)),
            unit="short",
        ),
    ]


_COLUMNS = (
    Column(
        semconv.SESSION_ID,
        "run",
        link=("Open the run", session_link("${__value.text}")),
        width=230,
    ),
    Column(semconv.WORKFLOW, "workflow"),
    Column("team", "team"),
    Column(semconv.RUN_STATE, "state"),
    Column("C", "verdict", cell="colour", mappings=VERDICT_TEXTS, steps=ONE_IS_GOOD),
    Column(semconv.STATUS, "status", cell="colour", mappings=STATUS_TEXTS),
    Column(semconv.REASON, "reason", width=180),
    Column("D", "nearest limit", "percentunit", cell="colour", steps=UTILIZATION, decimals=0),
    share("E", "tokens", UTILIZATION),
    share("F", "cost", UTILIZATION),
    share("G", "calls", UTILIZATION),
    share("H", "time", UTILIZATION),
    share("I", "progress"),
    Column("J", "limit reached in", unit="dtdurations", decimals=0),
    Column("K", "calls left", decimals=0),
    share("L", "how soon"),
)
#: Seconds until a limit at which a run is half-way up in the column by which the table is sorted:
#: one that lists times would put those first of which none is known.
_HALF_SOON = 900


def _runs() -> Builder:
    def of_each(how: str, metric: semconv.Metric, *matchers: str) -> Query:
        return Query(chosen(f"{how} by (session_id) ({select(metric, *matchers)})"), table=True)

    why = f"max by (session_id, status, reason, run_state) ({semconv.VERDICT_INFO.name})"
    owner = f"max by (session_id, workflow, team) ({owners()})"
    shares = (semconv.TOKENS, semconv.COST, semconv.API_CALLS, semconv.DURATION)
    soonest = f"min by (session_id) ({semconv.EXHAUSTION.name})"
    soon = f"{_HALF_SOON} / ({_HALF_SOON} + {soonest})"
    return rows(
        "Runs, the first to reach a limit first",
        "One row for each run the sidecar knows, ended ones for 10 minutes. Shares are of the "
        "limit that counts; how soon: 1 is now, 0.5 a quarter of an hour. Click a name for its "
        "page; what to do is in the runbook of its alert.",
        [
            Query(chosen(why), table=True),
            Query(owner, table=True),
            of_each("min", semconv.VERDICT),
            of_each("max", semconv.UTILIZATION),
            *(of_each("max", semconv.UTILIZATION, resource(name)) for name in shares),
            of_each("max", semconv.PROGRESS),
            of_each("min", semconv.EXHAUSTION),
            Query(chosen(f"floor(min by (session_id) ({semconv.CALLS_LEFT.name}))"), table=True),
            Query(chosen(soon), table=True),
        ],
        _COLUMNS,
        sort="how soon",
        no_value="no run is known",
    )


def _graphs() -> list[Builder]:
    cost = f"{usage_rate(semconv.USAGE_COST, CHOSEN, by='workflow')} * 3600"
    return [
        graph(
            "Tokens a second, by workflow",
            "Where the tokens go, from the processes' own counters. A step up without a new run "
            "is worth a look.",
            [Query(usage_rate(semconv.USAGE_TOKENS, CHOSEN, by="workflow"), "{{workflow}}")],
            unit="short",
            stack=True,
            calcs=("lastNotNull", "max"),
        ),
        graph(
            "US dollars an hour, by workflow",
            "Known prices only; calls without a price are on Fleet and cost.",
            [Query(cost, "{{workflow}}")],
            unit="currencyUSD",
            stack=True,
            calcs=("lastNotNull", "max"),
        ),
    ]


def _states() -> list[Builder]:
    status = judged(by="session_id, status")
    nearest = f"max by (session_id) ({semconv.UTILIZATION.name})"
    changed = per_second(semconv.VERDICT_CHANGES, by="action, reason")
    return [
        graph(
            "Runs by status",
            "Live runs as judged. Purple is blind: data are missing.",
            [Query(f"count by (status) ({chosen(status)})", "{{status}}")],
            unit="none",
            stack=True,
            overrides=[painted(name, colour) for name, colour in STATUS_COLOURS.items()],
        ),
        graph(
            "The ten nearest to a limit",
            "Share of the limit that is nearest. A line that goes on past 100 % is a run that "
            "does not obey.",
            [Query(f"topk(10, {chosen(nearest)})", "{{session_id}}")],
            unit="percentunit",
            steps=((None, "transparent"), (0.8, YELLOW), (1.0, RED)),
        ),
        graph(
            "Verdicts that changed, a minute",
            "To what, and why. Many stale_data or source_error at once are the sidecar's "
            "trouble, not the runs'.",
            [Query(f"{changed} * 60", "{{action}}: {{reason}}")],
            unit="short",
            bars=True,
            stack=True,
            calcs=("max",),
            span=24,
        ),
    ]
