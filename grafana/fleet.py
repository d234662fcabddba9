"""What all runs used, by owner and model: from the processes' own counters, kept past the runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana.board import FLEET, Row, build, owner_variables
from grafana.panels import (
    GREEN,
    NEUTRAL,
    NONE_IS_GOOD,
    RED,
    YELLOW,
    Builder,
    Query,
    Steps,
    figure,
    graph,
    meters,
)
from grafana.promql import CHOSEN, equal, recorded_rate, spent, usage_rate
from grafana.tables import Column, rows, share
from otel_budget import semconv

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard

_CACHED = equal(semconv.DETAIL, "cache_read")
_INPUT = equal(semconv.TOKEN_TYPE, "input")
_FAILED = equal(semconv.OUTCOME, "error")


def fleet() -> Dashboard:
    """Return the dashboard."""
    return build(
        FLEET,
        "otel-budget / Fleet and cost",
        "Tokens, calls and money by team, project, workflow and model. Known prices only: what "
        "has none is counted beside it, never as $0.",
        variables=owner_variables(),
        rows=[
            Row("Today", _period("now/d")),
            Row("This week so far", _period("now/w")),
            Row("Over time", _graphs()),
            Row("Who and what, in the chosen range", [*_owners(), _models()]),
        ],
        time=("now-24h", "now"),
        refresh="1m",
    )


def _period(time_from: str) -> list[Builder]:
    """Return the same figures for a period of its own, whatever range is chosen."""

    def number(
        title: str, text: str, expr: str, unit: str, *, decimals: int = 0, steps: Steps = NEUTRAL
    ) -> Builder:
        return figure(
            title, text, Query(expr, instant=True), unit=unit, decimals=decimals, steps=steps,
            span=4, time_from=time_from, no_value="nothing yet",
        )  # fmt: skip

    calls = spent(semconv.USAGE_API_CALLS, CHOSEN)
    failed = f"({spent(semconv.USAGE_API_CALLS, CHOSEN, _FAILED)} or {calls} * 0)"
    cost, tokens = spent(semconv.USAGE_COST, CHOSEN), spent(semconv.USAGE_TOKENS, CHOSEN)
    unpriced = spent(semconv.USAGE_UNPRICED_CALLS, CHOSEN)
    return [
        number("Cost", "US dollars, known prices only.", cost, "currencyUSD", decimals=2),
        number("Tokens", "Input and output, cached input included.", tokens, "short", decimals=1),
        number("API calls", "Failed ones included.", calls, "short"),
        number(
            "Failed",
            "Share of the calls that failed: they may have been paid for. Look at the provider's "
            "status and the retries.",
            f"{failed} / ({calls} > 0)",
            "percentunit",
            decimals=1,
            steps=((None, GREEN), (0.02, YELLOW), (0.1, RED)),
        ),
        number(
            "From the cache",
            "Share of the input that came from the provider's cache: the cheap part. A sudden "
            "drop shows on the bill.",
            cache_share(),
            "percentunit",
        ),
        number(
            "Without a price",
            "Calls whose cost is unknown: give their models a price, see docs/money.md.",
            unpriced,
            "none",
            steps=NONE_IS_GOOD,
        ),
    ]


def cache_share(by: str = "") -> str:
    """Return the cached part of the input, 0 where nothing was cached."""
    whole = spent(semconv.USAGE_TOKENS, CHOSEN, _INPUT, by=by)
    part = spent(semconv.USAGE_TOKEN_DETAILS, CHOSEN, _CACHED, by=by)
    return f"({part} or {whole} * 0) / ({whole} > 0)"


def _graphs() -> list[Builder]:
    def an_hour(label: str, text: str) -> Builder:
        rate = recorded_rate(semconv.USAGE_COST, by=label)
        return graph(
            f"US dollars an hour, by {label}", text,
            [Query(f"({rate}) * 3600", f"{{{{{label}}}}}")],
            unit="currencyUSD", stack=True, span=8, calcs=("mean", "max"),
        )  # fmt: skip

    tokens = usage_rate(semconv.USAGE_TOKENS, CHOSEN, by=semconv.TOKEN_TYPE)
    cached = usage_rate(semconv.USAGE_TOKEN_DETAILS, CHOSEN, _CACHED)
    calls = usage_rate(semconv.USAGE_API_CALLS, CHOSEN, by=semconv.OUTCOME)
    return [
        an_hour("team", "Who spends, and since when. Runs without a team are without a name."),
        an_hour("workflow", "Which kind of run spends."),
        an_hour("model", "Which model the money goes to."),
        graph(
            "Tokens a second, by type",
            "Cached input is part of the input, drawn beside it.",
            [
                Query(tokens, "{{token_type}}"),
                Query(f"{cached} or sum({tokens}) * 0", "of the input, cached"),
            ],
            unit="short",
            calcs=("mean", "max"),
        ),
        graph(
            "Calls a minute, by outcome",
            "A rising share of errors is paid for, too.",
            [Query(f"{calls} * 60", "{{outcome}}")],
            unit="short",
            stack=True,
            calcs=("mean", "max"),
        ),
    ]


def _each(metric: semconv.Metric, by: str) -> Query:
    """Return what was spent in the chosen range, one row for each combination of labels."""
    return Query(spent(metric, CHOSEN, by=by), table=True)


def _owners() -> list[Builder]:
    owner = "workflow, team, project, user"
    metrics = (
        semconv.USAGE_COST, semconv.USAGE_TOKENS, semconv.USAGE_API_CALLS,
        semconv.USAGE_UNPRICED_CALLS,
    )  # fmt: skip
    per_team = f"topk(10, {spent(semconv.USAGE_COST, CHOSEN, by='team')})"
    return [
        rows(
            "Top spenders",
            "By workflow, team, project and user, the most expensive first. A limit on cost for "
            "the workflow at the top saves most.",
            [_each(metric, owner) for metric in metrics],
            [
                *(Column(label, label) for label in ("workflow", "team", "project", "user")),
                Column("A", "cost", unit="currencyUSD", decimals=2),
                Column("B", "tokens", unit="short"),
                Column("C", "calls", unit="short"),
                Column("D", "calls without a price", decimals=0),
            ],
            sort="cost",
            span=16,
            no_value="nothing was used",
        ),
        meters(
            "Cost by team",
            "US dollars in the chosen range.",
            Query(per_team, "{{team}}", instant=True),
            unit="currencyUSD",
            span=8,
            height=10,
            no_value="no cost is known",
        ),
    ]


def _models() -> Builder:
    model = semconv.MODEL
    cost, tokens = semconv.USAGE_COST, semconv.USAGE_TOKENS
    price = f"{spent(cost, CHOSEN, by=model)} / ({spent(tokens, CHOSEN, by=model)} > 0) * 1e6"
    return rows(
        "Models",
        "What each model costs in practice: a low share of cache, or a high price for a million "
        "tokens, is where to look first.",
        [
            _each(cost, model),
            _each(tokens, model),
            _each(semconv.USAGE_API_CALLS, model),
            Query(cache_share(model), table=True),
            Query(price, table=True),
            _each(semconv.USAGE_UNPRICED_CALLS, model),
            _each(semconv.USAGE_UNKNOWN_CALLS, model),
        ],
        [
            Column(model, "model"),
            Column("A", "cost", unit="currencyUSD", decimals=2),
            Column("B", "tokens", unit="short"),
            Column("C", "calls", unit="short"),
            share("D", "input from the cache"),
            Column("E", "$ for a million tokens", unit="currencyUSD", decimals=2),
            Column("F", "without a price", decimals=0),
            Column("G", "without a token count", decimals=0),
        ],
        sort="cost",
        no_value="nothing was used",
    )
