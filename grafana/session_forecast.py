"""One run: how much further it gets, and whether it will finish.

The ends of the range are of what ends first, whichever that is: at the earliest and at the latest,
each in nine cases of ten. A forecast that is exact has none; its own value stands for both.
"""

from __future__ import annotations

from grafana.panels import (
    GREEN,
    GREY,
    RED,
    UTILIZATION,
    YELLOW,
    Builder,
    Query,
    dashed,
    figure,
    graph,
    meters,
    painted,
)
from grafana.promql import SESSION, select, used, utilization
from grafana.session_usage import LIMITED
from otel_budget import semconv

_EARLIEST, _LATEST = "at the earliest", "at the latest"
_FEWEST, _MOST = "at least", "at most"


def outlook() -> list[Builder]:
    """Return the figures: progress, what is left, and shares of the limits."""
    shares = " or ".join(
        f'label_replace({utilization(name)}, "resource", "{name}", "", "")' for name in LIMITED
    )
    return [
        figure(
            "Progress",
            "The run's own estimate. Below 80 % (its completion threshold) a run near a limit is "
            "stopped; above, it may finish.",
            Query(f"max({select(semconv.PROGRESS, SESSION)})"),
            unit="percentunit",
            span=4,
            decimals=0,
            no_value="not said",
        ),
        figure(
            "Calls left",
            "Forecast of the calls that fit before the first limit is reached.",
            Query(
                f"floor(bottomk(1, {_of_each(semconv.CALLS_LEFT)}))", "{{resource}}", instant=True
            ),
            unit="none",
            decimals=0,
            text="value_and_name",
            span=4,
            steps=((None, RED), (5, YELLOW), (15, GREEN)),
            no_value="not known",
        ),
        figure(
            "Runs out in",
            "Forecast for the resource that ends first, if the run goes on as it does. In four "
            "cases of five it ends between the other two.",
            Query(f"bottomk(1, {_of_each(semconv.EXHAUSTION)})", "{{resource}}", instant=True),
            Query(_soonest(semconv.EXHAUSTION_LOW, semconv.EXHAUSTION), _EARLIEST, instant=True),
            Query(_soonest(semconv.EXHAUSTION_HIGH, semconv.EXHAUSTION), _LATEST, instant=True),
            unit="dtdurations",
            decimals=0,
            text="value_and_name",
            span=12,
            steps=((None, RED), (300, YELLOW), (900, GREEN)),
            no_value="nothing is spent",
        ),
        meters(
            "Share of the limits",
            "Use over the limit that counts. What has no limit is not here.",
            Query(shares, "{{resource}}"),
            unit="percentunit",
            steps=UTILIZATION,
            maximum=1,
            span=12,
            height=4,
            no_value="no limits",
        ),
    ]


def forecast() -> list[Builder]:
    """Return what is left over time, beside progress."""
    progress = select(semconv.PROGRESS, SESSION)
    finish = f"({used(semconv.DURATION)}) * (1 - max({progress})) / (max({progress}) > 0)"
    threshold = f"max({select(semconv.COMPLETION_THRESHOLD, SESSION)})"
    return [
        graph(
            "Progress beside utilization",
            "The picture that explains every verdict: a resource above its warning line while "
            "progress is below its threshold stops the run.",
            [
                Query(f"max({progress})", "progress"),
                Query(threshold, "may finish from"),
                *(Query(utilization(name), name) for name in LIMITED),
            ],
            unit="percentunit",
            maximum=1.1,
            overrides=[painted("progress", GREEN), dashed("may finish from", GREEN)],
        ),
        graph(
            "Burn-down",
            "What is left of each limit. The line that meets the floor first ends the run.",
            [Query(f"clamp_min(1 - ({utilization(name)}), 0)", name) for name in LIMITED],
            unit="percentunit",
            maximum=1,
        ),
        graph(
            "Time to each limit, and to the end",
            "Forecast, beside the time the run still needs by its progress. A limit below the "
            "green line comes first: raise it now, or expect partial results. In four cases of "
            "five the first limit is reached between the grey lines.",
            [
                Query(_of_each(semconv.EXHAUSTION), "{{resource}}"),
                Query(finish, "to finish"),
                Query(_soonest(semconv.EXHAUSTION_LOW, semconv.EXHAUSTION), _EARLIEST),
                Query(_soonest(semconv.EXHAUSTION_HIGH, semconv.EXHAUSTION), _LATEST),
            ],
            unit="s",
            overrides=[dashed("to finish", GREEN), dashed(_EARLIEST, GREY), dashed(_LATEST, GREY)],
        ),
        graph(
            "Calls left of each limit",
            "Forecast of the calls that fit, from the size of the newest and their growth: steady "
            "steps down are a forecast that holds. In four cases of five as many fit as the grey "
            "lines say of the first limit.",
            [
                Query(_of_each(semconv.CALLS_LEFT), "{{resource}}"),
                Query(_soonest(semconv.CALLS_LEFT_LOW, semconv.CALLS_LEFT), _FEWEST),
                Query(_soonest(semconv.CALLS_LEFT_HIGH, semconv.CALLS_LEFT), _MOST),
            ],
            unit="none",
            overrides=[dashed(_FEWEST, GREY), dashed(_MOST, GREY)],
            no_value="no call was seen, or nothing is limited",
        ),
    ]


def _of_each(metric: semconv.Metric) -> str:
    return f"min by (resource) ({select(metric, SESSION)})"


def _soonest(end: semconv.Metric, value: semconv.Metric) -> str:
    """Return one end of the range of what ends first: the least of all limits' ends."""
    return f"min({select(end, SESSION)} or {select(value, SESSION)})"
