"""A store that loses single series and says nothing of it: nothing that was known is loosened.

Stores of metrics are sharded by series. One that lost a shard should say so, and not all do.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation
from otel_budget.core.resources import COUNTERS
from otel_budget.core.verdict import Verdict
from otel_budget.ledger.ledger import Ledger
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot
from otel_budget.sources.prometheus import PrometheusSettings, PrometheusSource
from otel_budget.sources.prometheus_vector import SAMPLED

NOW = 1_767_225_600.0
RULES = Rules(ceilings=bounds_from({semconv.TOKENS: 20_000_000}, {}, "sidecar"))
OURS = {"job": "agents", "instance": "a:9464", semconv.SESSION_ID: "run"}
Rows = list[tuple[dict[str, str], float]]


def rows(tokens: int, at: float, **more: str) -> Rows:
    """Return all series of a run that has gone over its own limit; more: labels on all of them."""
    attributes: list[tuple[semconv.Metric, float, dict[str, str]]] = [
        (semconv.SESSION_TOKENS, tokens, {}),
        (semconv.SESSION_API_CALLS, 3, {}),
        (semconv.SESSION_COST, 0.5, {}),
        (semconv.SESSION_START, NOW - 60, {}),
        (semconv.INCARNATION_START, NOW - 60, {}),
        (semconv.DURATION_SECONDS, at - NOW + 60, {}),
        (semconv.CARRIED_OVER, 100, {"resource": "tokens", "unit": "tokens"}),
        (semconv.LIMIT, 1000, {"resource": "tokens", "unit": "tokens"}),
        (semconv.LIMIT, 1000, {"resource": "api_calls", "unit": "calls"}),
        (semconv.WARNING_THRESHOLD, 0.5, {"resource": "tokens"}),
        (semconv.COMPLETION_THRESHOLD, 0.95, {}),
        (semconv.PROGRESS, 0.9, {}),
        (semconv.WRAP_UP_CALLS, 2, {}),
        (semconv.OPTIONAL_SERIES, 4, {}),
        (semconv.UNPRICED_CALLS, 0, {}),
        *((semconv.SESSION_STATE, float(state == "running"), {"state": state})
          for state in semconv.SESSION_STATES),
    ]  # fmt: skip
    labels = {**OURS, **more}
    found: Rows = [({"__name__": m.name, **labels, **own}, value) for m, value, own in attributes]
    return [*found, ({SAMPLED: "1", **labels}, at)]


def verdicts(*answers: tuple[float, Rows]) -> list[tuple[Verdict, Mapping[str, object]]]:
    """Return, after each answer, what is said of the run and what it has used."""
    found: list[tuple[Verdict, Mapping[str, object]]] = []
    ledger = Ledger()
    source = PrometheusSource(PrometheusSettings("http://nowhere"), lambda: NOW)
    for at, series in answers:
        result = [{"metric": labels, "value": [at, str(value)]} for labels, value in series]
        data = {"resultType": "vector", "result": result}
        taken, _ = source.read_answer(json.dumps({"status": "success", "data": data}).encode(), at)
        ledger.apply(Observation("prometheus", at, tuple(taken.sessions), spacing=60.0))
        run = ledger.runs["run"]
        verdict = verdict_from_snapshot(ledger.snapshot(run, at), RULES, at)
        found.append((verdict, dict(run.totals())))
    return found


def without(series: Rows, lost: Collection[str]) -> Rows:
    """Return series without those of some metrics."""
    return [(labels, v) for labels, v in series if labels.get("__name__") not in lost]


NAMES = {labels["__name__"] for labels, _ in rows(0, NOW) if "__name__" in labels}
FACTS = sorted(NAMES - COUNTERS.keys())
LOST = [(name,) for name in FACTS] + [
    (semconv.LIMIT.name, semconv.OPTIONAL_SERIES.name),
    (semconv.SESSION_START.name, semconv.INCARNATION_START.name),
    tuple(FACTS),
]


@pytest.mark.parametrize("more", [{}, {"replica": "r1"}], ids=["plain", "relabelled"])
@pytest.mark.parametrize("lost", LOST, ids="+".join)
@pytest.mark.parametrize("tokens", [600, 1200], ids=["approaching", "exceeded"])
def test_a_run_that_was_stopped_stays_stopped_whatever_series_is_lost(
    tokens: int, lost: tuple[str, ...], more: dict[str, str]
) -> None:
    """For one answer and for many; nothing counts twice by it, and it is as it was afterwards."""
    whole = [(NOW + step, rows(tokens, NOW + step, **more)) for step in range(12)]
    answers = [(at, without(series, lost) if 3 <= at - NOW < 9 else series) for at, series in whole]
    expected, found = verdicts(*whole), verdicts(*answers)
    for (want, used), (got, counted) in zip(expected, found, strict=True):
        assert (got.action, got.reason) == (want.action, want.reason)
        assert counted == used
    assert str(expected[-1][0].action) == "stop"


@pytest.mark.parametrize(
    "lost", [semconv.SESSION_TOKENS, semconv.SESSION_API_CALLS, semconv.SESSION_COST]
)
def test_a_run_that_lost_a_counter_is_not_judged_as_if_it_used_no_more(
    lost: semconv.Metric,
) -> None:
    """It is inconclusive once it is late, says that data are partial, and is well again after."""
    answers = [
        (NOW + step, without(rows(10, NOW + step), {lost.name} if 3 <= step < 12 else ()))
        for step in range(15)
    ]
    reasons = [str(verdict.reason) for verdict, _ in verdicts(*answers)]
    assert reasons[:4] == ["within_limits"] * 4
    assert reasons[-4:-3] == ["partial_data"]
    assert reasons[-3:] == ["within_limits"] * 3
