"""The sidecar itself: does it see, does it keep up, does anybody listen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana.board import SIDECAR, Row, build, label_variable
from grafana.panels import (
    GREEN,
    NONE_IS_GOOD,
    ONE_IS_GOOD,
    RED,
    YELLOW,
    Builder,
    Query,
    figure,
    graph,
    painted,
)
from grafana.promql import select, spent
from grafana.tables import Column, rows
from otel_budget import semconv
from otel_budget.core.reasons import NO_DATA

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard

ONE = 'instance=~"$sidecar"'


def sidecar() -> Dashboard:
    """Return the dashboard."""
    known = f"label_values({semconv.SIDECAR_SESSIONS.name},instance)"
    return build(
        SIDECAR,
        "otel-budget / Sidecar health",
        "Whether the sidecars see their sources, judge in time and reach the runs. Trouble here "
        "makes runs inconclusive: their last action is held, then on_no_data applies.",
        variables=[label_variable("sidecar", "Sidecar", known)],
        rows=[
            Row("Now", _figures()),
            Row("Does it see?", _seeing()),
            Row("Does it keep up?", _keeping_up()),
            Row("Does it reach the runs?", _heard()),
        ],
    )


def _figures() -> list[Builder]:
    failures = spent(semconv.TICK_FAILURES, ONE)
    return [
        figure(
            "Sources",
            "The worst of them. Down: no new data, runs become inconclusive after a few "
            "intervals. Check its address and its credentials.",
            Query(f"min({select(semconv.SOURCE_UP, ONE)})"),
            unit="none",
            mappings={"1": ("up", GREEN), "0": ("down", RED)},
            steps=ONE_IS_GOOD,
            span=4,
        ),
        figure(
            "Data age",
            "Of the newest sample, in the sidecar where it is oldest. It should stay below two "
            "scrape intervals while runs are live.",
            Query(f"max({select(semconv.DATA_AGE, ONE)})"),
            unit="s",
            span=4,
            steps=((None, GREEN), (15, YELLOW), (60, RED)),
            no_value="no run yet",
        ),
        figure(
            "Runs",
            "In the ledgers, ended ones for 10 minutes.",
            Query(f"sum({select(semconv.SIDECAR_SESSIONS, ONE)})"),
            unit="none",
            span=4,
        ),
        figure(
            "Subscribers",
            "Open verdict streams: these runs learn of a stop at once. Others poll.",
            Query(f"sum({select(semconv.SUBSCRIBERS, ONE)})"),
            unit="none",
            span=4,
        ),
        figure(
            "Failed ticks",
            "In the chosen range. A failed tick publishes nothing: see the log, most likely the "
            "disk.",
            Query(failures),
            unit="none",
            decimals=0,
            steps=NONE_IS_GOOD,
            span=4,
        ),
        figure(
            "Last reload",
            "Failed: the old configuration goes on. `otel-budget config check FILE` says what is "
            "wrong.",
            Query(f"min({select(semconv.RELOAD_OK, ONE)})"),
            unit="none",
            mappings={"1": ("ok", GREEN), "0": ("failed", RED)},
            steps=ONE_IS_GOOD,
            span=4,
        ),
    ]


def _seeing() -> list[Builder]:
    def per_minute(metric: semconv.Metric) -> list[Query]:
        grown = f"sum by (reason) (rate({select(metric, ONE)}[$__rate_interval]))"
        return [Query(f"{grown} * 60", "{{reason}}")]

    return [
        graph(
            "Source up",
            "1 if the last reading worked.",
            [Query(select(semconv.SOURCE_UP, ONE), "{{instance}} {{source}}")],
            unit="none",
            maximum=1,
            span=6,
        ),
        graph(
            "Age of the newest sample",
            "Grows while the source is silent; an idle fleet has no samples either.",
            [Query(select(semconv.DATA_AGE, ONE), "{{instance}} {{source}}")],
            unit="s",
            span=6,
        ),
        graph(
            "Became inconclusive, a minute",
            " ".join(f"{reason}: {reason.meaning}." for reason in NO_DATA),
            per_minute(semconv.INCONCLUSIVE),
            unit="short",
            span=6,
            calcs=("max",),
        ),
        graph(
            "Samples refused, a minute",
            "duplicate: two targets claim the same series. session_id: not a valid id. old_run: "
            "of a run that a newer one has replaced.",
            per_minute(semconv.DROPPED_SAMPLES),
            unit="short",
            span=6,
            calcs=("max",),
        ),
    ]


def _keeping_up() -> list[Builder]:
    bucket = select(semconv.TICK_DURATION, ONE, suffix="_bucket")
    rate = f"sum by (le) (rate({bucket}[$__rate_interval]))"
    grown = [
        Query(f"sum(rate({select(metric, ONE)}[$__rate_interval])) * 60", name)
        for metric, name in (
            (semconv.TICK_OVERRUNS, "too slow"),
            (semconv.TICK_FAILURES, "failed"),
            (semconv.RUN_FAILURES, "failed at a run"),
        )
    ]
    storage = [
        Query(spent(metric, ONE), name)
        for metric, name in (
            (semconv.UNREADABLE_ROWS, "rows not readable"),
            (semconv.STORAGE_RENEWALS, "recreated"),
            (semconv.UNKEPT_RUNS, "archived runs not kept"),
        )
    ]
    resets = f"sum by (reason) (rate({select(semconv.RESETS, ONE)}[$__rate_interval])) * 60"
    return [
        graph(
            "Duration of a tick",
            "Reading, accounting, judging, storing. Near the interval it begins to lag: fewer "
            "targets for each sidecar, or a longer interval.",
            [Query(f"histogram_quantile({q}, {rate})", f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)],
            unit="s",
            span=8,
        ),
        graph(
            "Ticks that went wrong, a minute",
            "Too slow: it outlasted its interval and delayed the next. Failed: nothing was "
            "published. Failed at a run: that run alone is inconclusive, the others are judged.",
            grown,
            unit="short",
            span=8,
            calcs=("max",),
        ),
        graph(
            "Counter resets, a minute",
            "incarnation: a run was resumed, as it should be. counter: a counter dropped without "
            "that, such as a foreign agent restarted.",
            [Query(resets, "{{reason}}")],
            unit="short",
            span=8,
            calcs=("max",),
        ),
        graph(
            "Storage trouble, in the chosen range",
            "Rows not readable: their runs' use is at least what is shown. Recreated: the file "
            "was moved, removed or damaged. Not kept: archived runs for which there was no room.",
            storage,
            unit="short",
            span=24,
            calcs=("lastNotNull",),
        ),
    ]


def _heard() -> list[Builder]:
    deaf = f"sum({semconv.SIDECAR_REACHABLE.name} == bool 0)"
    hearing = f"sum({semconv.SIDECAR_REACHABLE.name})"
    return [
        graph(
            "Runs that reach a sidecar",
            "As the runs see it. Those that do not reach it go on under their own limits "
            "once the lease of their last verdict is over.",
            [Query(hearing, "reach it"), Query(deaf, "cut off")],
            unit="none",
            stack=True,
            overrides=[painted("reach it", GREEN), painted("cut off", RED)],
            span=8,
            no_value="no run has a sidecar",
        ),
        graph(
            "Verdict streams",
            "Open connections, by sidecar.",
            [Query(select(semconv.SUBSCRIBERS, ONE), "{{instance}}")],
            unit="none",
            span=8,
        ),
        rows(
            "Sidecars",
            "Which version runs where.",
            [
                Query(
                    f"{select(semconv.BUILD_INFO, ONE)} and on (job, instance) "
                    f"{select(semconv.SIDECAR_SESSIONS, ONE)}",
                    table=True,
                )
            ],
            [
                Column("job", "job"),
                Column("instance", "instance"),
                Column(semconv.VERSION, "version"),
            ],
            sort="instance",
            hidden=("__name__",),
            span=8,
            height=8,
        ),
    ]
