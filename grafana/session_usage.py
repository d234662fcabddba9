"""One run, continued: what it used, and what it saved."""

from __future__ import annotations

from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models import dashboard as models

from grafana.panels import (
    GREEN,
    NONE_IS_GOOD,
    RED,
    YELLOW,
    Builder,
    Query,
    figure,
    graph,
    painted,
    with_queries,
)
from grafana.promql import SESSION as ONE
from grafana.promql import equal, or_zero, own_use, resource, select
from grafana.tables import Column, finished, rows
from otel_budget import semconv
from otel_budget.core.resources import FURTHER, RESOURCES

#: Unit of a resource to Grafana's.
_OF_GRAFANA = {"tokens": "short", "usd": "currencyUSD", "calls": "none", "seconds": "s"}
UNITS = {name: _OF_GRAFANA.get(row.unit, "none") for name, row in RESOURCES.items()}
TITLES = {name: row.title for name, row in RESOURCES.items()}
#: Those with a panel of their own. Further ones have series only where a run counts or limits them.
ORDER = (semconv.TOKENS, semconv.COST, semconv.API_CALLS, *FURTHER, semconv.DURATION)
#: The others that can be limited, too.
LIMITED = (*ORDER, *(name for name in RESOURCES if name not in ORDER))


def tokens() -> list[Builder]:
    """Return the panels of tokens: by type, phase and model."""

    def detail(kind: str) -> str:
        details = select(semconv.PHASE_TOKEN_DETAILS, ONE, f'detail=~"{kind}"')
        return or_zero(f"sum({details})")

    def typed(kind: str) -> str:
        of_type = select(semconv.PHASE_TOKENS, ONE, equal(semconv.TOKEN_TYPE, kind))
        return or_zero(f"sum({of_type})")

    parts = [
        Query(f"({typed('input')}) - ({detail('cache_read|cache_write')})", "input, new"),
        Query(detail("cache_write"), "input, written to the cache"),
        Query(detail("cache_read"), "input, from the cache"),
        Query(f"({typed('output')}) - ({detail('reasoning')})", "output"),
        Query(detail("reasoning"), "output, reasoning"),
        Query(typed(semconv.UNSPECIFIED), "not told apart"),
    ]
    by = select(semconv.PHASE_TOKENS, ONE)
    return [
        graph(
            "Tokens by type",
            "The parts add up to the tokens that count. Cached input is cheap but counts in full; "
            "a cache that suddenly shrinks costs money.",
            parts,
            unit="short",
            stack=True,
            span=8,
        ),
        graph(
            "Tokens by phase",
            "Which step of the work uses them.",
            [Query(f"sum by (phase) ({by})", "{{phase}}")],
            unit="short",
            stack=True,
            span=8,
        ),
        graph(
            "Tokens by model",
            "Which model uses them.",
            [Query(f"sum by (model) ({by})", "{{model}}")],
            unit="short",
            stack=True,
            span=8,
        ),
    ]


def calls() -> list[Builder]:
    """Return the panels of calls and money."""
    made, cost = select(semconv.PHASE_API_CALLS, ONE), select(semconv.PHASE_COST, ONE)
    doubts = (
        (semconv.UNPRICED_CALLS, "without a price"),
        (semconv.UNKNOWN_USAGE_CALLS, "without a token count"),
        (semconv.ESTIMATED_CALLS, "estimated"),
    )
    return [
        graph(
            "API calls",
            "Failed calls count like the others: they may have been paid for.",
            [Query(f"sum by (outcome) ({made})", "{{outcome}}")],
            unit="none",
            stack=True,
            span=8,
            overrides=[painted("ok", GREEN), painted("error", RED)],
        ),
        *(
            graph(
                f"{row.title} by phase",
                "Failed ones included. Only of a run that counts or limits them.",
                [Query(f"sum by (phase) ({select(row.by_phase, ONE)})", "{{phase}}")],
                unit=UNITS[name],
                stack=True,
                span=8,
                no_value="not counted, and not limited",
            )
            for name, row in FURTHER.items()
            if row.by_phase is not None
        ),
        graph(
            "Calls in doubt",
            'Above 0, cost or tokens are "at least": give the model a '
            "price, or have the provider send usage.",
            [Query(f"sum({select(metric, ONE)})", name) for metric, name in doubts],
            unit="none",
            span=8,
        ),
        graph(
            "Cost by model",
            "Known cost in US dollars.",
            [Query(f"sum by (model) ({cost}) or sum by (model) ({made}) * 0", "{{model}}")],
            unit="currencyUSD",
            stack=True,
            span=12,
        ),
        graph(
            "Cost by phase",
            "Known cost in US dollars.",
            [Query(f"sum by (phase) ({cost}) or sum by (phase) ({made}) * 0", "{{phase}}")],
            unit="currencyUSD",
            stack=True,
            span=12,
        ),
    ]


def checkpoints() -> list[Builder]:
    """Return the panels of what is on disk."""
    last, interval = select(semconv.LAST_CHECKPOINT, ONE), select(semconv.CHECKPOINT_INTERVAL, ONE)
    began = select(semconv.INCARNATION_START, ONE)
    running = f"max({select(semconv.SESSION_STATE, ONE, equal(semconv.STATE, 'running'))}) == 1"
    age = f"time() - (max({last}) or max({began}))"
    return [
        figure(
            "Since the last checkpoint",
            "What a crash would lose. Red is more than twice the interval: see alert "
            "OtelBudgetCheckpointOverdue.",
            Query(f"(({age}) / max({interval})) and on () {running}"),
            unit="percentunit",
            decimals=0,
            steps=((None, GREEN), (1.5, YELLOW), (2, RED)),
            no_value="not running, or saves none",
            span=4,
            height=8,
        ),
        figure(
            "Checkpoints that failed",
            "Disk full, or not writable: the run goes on, but could not be resumed from here.",
            Query(f"sum({select(semconv.CHECKPOINT_FAILURES, ONE)})"),
            unit="none",
            steps=NONE_IS_GOOD,
            span=4,
            height=8,
        ),
        _checkpoint_table(),
    ]


def _checkpoint_table() -> Builder:
    """One row for each checkpoint seen, with what had been used when it was first seen."""
    exists = f"max({select(semconv.LAST_CHECKPOINT, ONE)})"
    panel = with_queries(
        table.Panel(),
        "Checkpoints",
        "Each checkpoint that Prometheus saw, with the usage at the first scrape after it. Resume "
        "from the newest with ResourceMonitor.resume(run, folder).",
        [
            Query(f"{exists} * 1000", "checkpoint"),
            # Nothing before the first one: a row without a checkpoint is none.
            *(Query(f"{own_use(name)} and on () {exists}", TITLES[name].lower()) for name in ORDER),
        ],
    )
    names = [TITLES[name].lower() for name in ORDER]
    fields = {
        "checkpoint": {"aggregations": [], "operation": "groupby"},
        **{name: {"aggregations": ["firstNotNull"], "operation": "aggregate"} for name in names},
    }
    for name, options in (
        ("joinByField", {"byField": "Time", "mode": "outer"}),
        ("groupBy", {"fields": fields}),
        ("organize", {"renameByName": {f"{name} (firstNotNull)": name for name in names}}),
    ):
        panel.with_transformation(models.DataTransformerConfig(id_val=name, options=options))
    columns = [
        Column("checkpoint", "checkpoint"),
        *(Column("x", TITLES[name].lower(), unit=UNITS[name]) for name in ORDER),
    ]
    finished(panel, columns, sort="checkpoint", span=16, height=8, no_value="no checkpoint yet")
    time = [models.DynamicConfigValue("unit", "dateTimeAsIso")]
    return panel.override_by_name("checkpoint", time)


def about() -> Builder:
    """Return the table of the processes that carry the run."""
    carried = select(semconv.CARRIED_OVER, ONE, resource(semconv.TOKENS))
    return rows(
        "Processes that carry it",
        "Where the run is. Several rows: it was resumed, or two processes claim the same run.",
        [
            Query(f"{select(semconv.INCARNATION_START, ONE)} * 1000", table=True),
            Query(f"{select(semconv.SESSION_START, ONE)} * 1000", table=True),
            Query(select(semconv.SESSION_TOKENS, ONE), table=True),
            Query(f"sum without (resource, unit) ({carried})", table=True),
        ],
        [
            Column("job", "job"),
            Column("instance", "instance"),
            Column("B", "run began", unit="dateTimeAsIso"),
            Column("A", "taken up", unit="dateTimeAsIso"),
            Column("C", "tokens here", unit="short"),
            Column("D", "tokens carried over", unit="short"),
        ],
        sort="taken up",
        hidden=(semconv.SESSION_ID, "__name__"),
        height=6,
    )
