"""One run: what it uses, what was decided and why, when it runs out, what it saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana.board import SESSION, Row, annotation, build, label_variable
from grafana.panels import (
    BLUE,
    GREEN,
    GREY,
    ONE_IS_GOOD,
    PURPLE,
    RED,
    YELLOW,
    Builder,
    Query,
    dashed,
    figure,
    graph,
    painted,
    timeline,
)
from grafana.promql import SESSION as ONE
from grafana.promql import equal, limit, select, used, warning
from grafana.session_forecast import forecast, outlook
from grafana.session_usage import ORDER, TITLES, UNITS, about, calls, checkpoints, tokens
from otel_budget import semconv

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard

#: The numbers that stand for states in the timeline, and what they mean.
STATES = {
    "0": ("ok", GREEN), "1": ("approaching", YELLOW), "2": ("exceeded", RED),
    "3": ("inconclusive", PURPLE), "10": ("stop", RED), "11": ("continue", GREEN),
    "20": ("running", BLUE), "21": ("paused", GREY), "22": ("waiting", PURPLE),
    "23": ("completed", GREEN), "24": ("stopped", YELLOW), "25": ("failed", RED),
}  # fmt: skip
#: Of Grafana's own measure, and panels beside one another.
_WIDTH, _IN_A_LINE = 24, 3
_STATUSES = ("ok", "approaching", "exceeded", "inconclusive")


def session() -> Dashboard:
    """Return the dashboard."""
    known = f'{{__name__=~"{semconv.VERDICT.name}|{semconv.SESSION_TOKENS.name}"}}'
    run = label_variable("session", "Run", f"label_values({known},session_id)", several=False)
    saved = f"max({select(semconv.LAST_CHECKPOINT, ONE)}) * 1000"
    stops = f"max({select(semconv.VERDICT, ONE)} == bool 0) > 0"
    return build(
        SESSION,
        "otel-budget / Run",
        "One run, chosen above or linked from the overview: use against limits, the verdict and "
        "why, when it runs out, and what it has saved. Works without a sidecar, too, but for the "
        "verdict.",
        variables=[run],
        annotations=[
            annotation(
                "Checkpoints",
                Query(saved, "usage and state are on disk"),
                colour=BLUE,
                title="checkpoint",
                value_is_time=True,
            ),
            annotation(
                "Told to stop", Query(stops, "the verdict is stop"), colour=RED, title="stop"
            ),
        ],
        rows=[
            Row("Now", [*_decision(), *outlook()]),
            Row("Used against the limit", _against_limits()),
            Row("Will it finish?", forecast()),
            Row("What was decided", [_states()]),
            Row("Tokens", tokens()),
            Row("Calls and cost", calls()),
            Row("Checkpoints", checkpoints()),
            Row("About it", [about()]),
        ],
    )


def _decision() -> list[Builder]:
    info = select(semconv.VERDICT_INFO, ONE)
    renamed = f'label_replace({info}, "state", "$1", "run_state", "(.+)")'
    return [
        figure(
            "Verdict",
            "What the sidecar tells the run. It obeys the stricter of this and its own limits.",
            Query(f"min({select(semconv.VERDICT, ONE)})"),
            unit="none",
            mappings={"1": ("continue", GREEN), "0": ("stop", RED)},
            steps=ONE_IS_GOOD,
            span=4,
            no_value="no verdict",
        ),
        figure(
            "Because",
            "Status and reason of the verdict. Each reason is explained in the docs.",
            Query(f"max by (status, reason) ({info})", "{{status}}: {{reason}}", instant=True),
            unit="none",
            text="name",
            span=6,
            no_value="no verdict now",
        ),
        figure(
            "Last calls",
            "Calls that a run which is told to stop may still make, to finish with what it has.",
            Query(
                f"max({select(semconv.VERDICT_LAST_CALLS, ONE)}) or "
                f"0 * max({select(semconv.VERDICT, ONE)})"
            ),
            unit="none",
            span=2,
            no_value="no verdict",
        ),
        figure(
            "State",
            "What the run last said it was doing.",
            Query(
                f"max by (state) ({renamed}) or max by (state) "
                f"({select(semconv.SESSION_STATE, ONE)} == 1)",
                "{{state}}",
                instant=True,
            ),
            unit="none",
            text="name",
            span=4,
            no_value="gone",
        ),
    ]


def _against_limits() -> list[Builder]:
    lines = [ORDER[at : at + _IN_A_LINE] for at in range(0, len(ORDER), _IN_A_LINE)]
    return [_against(name, _WIDTH // len(line)) for line in lines for name in line]


def _against(name: str, span: int) -> Builder:
    return graph(
        f"{TITLES[name]}: used, warning line and limit",
        f"{TITLES[name]} of this run, all its processes together. Between the dashed lines it is "
        "approaching; at the upper one it is stopped. No lines: no limit.",
        [
            Query(used(name), "used"),
            Query(warning(name), "warning line"),
            Query(limit(name), "limit"),
        ],
        unit=UNITS[name],
        overrides=[dashed("warning line", YELLOW), dashed("limit", RED), painted("used", BLUE)],
        no_value="not counted, and not limited",
        span=span,
    )


def _states() -> Builder:
    def coded(metric: semconv.Metric, label: str, values: tuple[str, ...], first: int) -> str:
        parts = [
            f"(max({select(metric, ONE, equal(label, value))} == 1) * 0 + {code})"
            for code, value in enumerate(values, start=first)
        ]
        return " or ".join(parts)

    return timeline(
        "Status, verdict and state",
        "What was decided, and when. A verdict that flickers between stop and continue means that "
        "progress hovers around its threshold.",
        [
            Query(coded(semconv.VERDICT_INFO, semconv.STATUS, _STATUSES, 0), "status"),
            Query(f"min({select(semconv.VERDICT, ONE)}) + 10", "verdict"),
            Query(coded(semconv.SESSION_STATE, semconv.STATE, semconv.SESSION_STATES, 20), "state"),
        ],
        mappings=STATES,
    )
