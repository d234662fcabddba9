"""A policy tried on a history: what a run was told, and what it used after that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otel_budget import semconv
from otel_budget.core.budget import Budget, Mode, Window, WindowKind
from otel_budget.core.observation import Observation, RunAttributes, RunObservation
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.verdicts import Rules
from otel_budget.replay.changes import ForecastAt, VerdictChange
from otel_budget.replay.frontier import Outcome
from otel_budget.replay.history import Tick
from otel_budget.replay.history_replay import HistoryReplay
from otel_budget.replay.summary import Summary

BEGIN = 1_700_000_000.0
RULES = Rules(ceilings=bounds_from({"tokens": 1000}, {}, "sidecar"))
TARGET = "agents/a"


def tick(at: float, tokens: int | None, said: Mapping[str, Any] | None = None) -> Tick:
    """Return what is read so many seconds after the beginning. None: the same as before."""
    if tokens is None:
        return Tick(BEGIN + at, None)
    counters = {("tokens", ""): tokens, ("api_calls", ""): tokens // 100}
    attributes = RunAttributes(
        **{"started_at": BEGIN, "incarnation_at": BEGIN, "state": "running", **(said or {})}
    )
    run = RunObservation("r", TARGET, BEGIN + at, counters, attributes)
    reading = Observation("prometheus", BEGIN + at, (run,), targets=frozenset({TARGET}))
    return Tick(BEGIN + at, reading)


def replayed(
    *ticks: Tick, **options: Any
) -> tuple[list[tuple[float, str, str]], Summary, list[Outcome]]:
    """Return when what was said, the summary, and what became of the runs."""
    outcomes: list[Outcome] = []
    replay = HistoryReplay(RULES, 3600, BEGIN, on_outcome=outcomes.append, **options)
    found = [one for each in ticks for one in replay.take(each)]
    changes = [
        (one.at - BEGIN, str(one.verdict.action), str(one.verdict.reason))
        for one in found
        if isinstance(one, VerdictChange)
    ]
    return changes, replay.finish(), outcomes


OVER: Sequence[Tick] = (
    tick(5, 500),
    tick(10, 900, {"progress": 0.2}),
    tick(15, 1100, {"progress": 0.9}),
    tick(20, 1500, {"state": semconv.COMPLETED}),
)


def test_a_run_that_is_told_to_stop_hears_nothing_more_and_its_later_use_is_saved() -> None:
    changes, summary, (outcome,) = replayed(*OVER)
    assert changes == [(5, "continue", "within_limits"), (10, "stop", "approaching_limit")]
    assert (outcome.used["tokens"], outcome.recorded["tokens"]) == (900, 1500)
    assert outcome.stop is not None
    assert (summary.stopped, summary.open_runs, summary.point.cut) == (1, 0, 1)


def test_one_that_is_kept_going_hears_all_and_its_later_use_is_overshoot() -> None:
    changes, summary, (outcome,) = replayed(*OVER, keep_going=True)
    assert changes[2:] == [(15, "stop", "limit_exceeded")]
    assert (outcome.used["tokens"], outcome.recorded["tokens"]) == (1500, 1500)
    assert summary.overshoot["tokens"] == 600


def test_a_graceful_stop_gives_way_to_a_progress_that_is_reported_without_more_use() -> None:
    further = {"progress": 0.9, "progress_tokens": 900.0}
    changes, _, (outcome,) = replayed(
        tick(10, 900, {"progress": 0.2}), tick(15, 900, further), tick(20, 950, further)
    )
    assert [reason for _, _, reason in changes] == ["approaching_limit", "finishing"]
    assert outcome.stop is None


def test_a_stop_that_came_with_the_last_call_cut_nothing() -> None:
    _, summary, (outcome,) = replayed(
        tick(5, 500), tick(10, 1100, {"state": semconv.COMPLETED})
    )  # fmt: skip
    assert outcome.stop is None
    assert (summary.stopped, summary.point.cut) == (1, 0)


def test_silence_is_judged_at_ticks_at_which_nothing_is_new() -> None:
    quiet = [tick(5.0 + second, None) for second in range(1, 600)]
    changes, summary, _ = replayed(tick(5, 500), *quiet)
    assert [(action, reason) for _, action, reason in changes] == [
        ("continue", "within_limits"), ("continue", "stale_data"), ("stop", "stale_data"),
    ]  # fmt: skip
    assert summary.inconclusive == 2
    assert summary.open_runs == 1


def test_a_forecast_is_given_once_for_each_share_that_is_reached() -> None:
    replay = HistoryReplay(RULES, 3600, BEGIN, forecast_at=(0.5, 0.8))
    found = [
        (one.at - BEGIN, one.share)
        for each in (tick(5, 100), tick(10, 600), tick(15, 850), tick(20, 900))
        for one in replay.take(each)
        if isinstance(one, ForecastAt)
    ]
    assert found == [(10, 0.5), (15, 0.8)]


def test_budgets_hold_in_a_history_as_they_do_live_and_the_summary_says_what_came_of_them() -> None:
    """One that is enforced, one in shadow: by what was used, over all windows."""
    pool = Budget("pool", Window(WindowKind.ROLLING, seconds=60), {"tokens": 1000})
    shadow = Budget("total", Window(WindowKind.TOTAL), {"tokens": 400}, mode=Mode.SHADOW)
    replay = HistoryReplay(Rules(budgets=(pool, shadow)), 3600, BEGIN)
    found = [one for each in OVER for one in replay.take(each)]
    told = [
        (one.at - BEGIN, one.verdict.limit_from) for one in found if isinstance(one, VerdictChange)
    ]
    assert told[:1] == [(5, None)]
    assert (10, "budget:pool") in told
    summary = replay.finish()
    used = {each.name: (each.used["tokens"], each.exhausted) for each in summary.budgets}
    assert used == {"pool": (1500, 1), "total": (1500, 1)}
    assert summary.would_stop["limit_from"] == {"budget:total": 1}
    assert summary.stopped_by["limit_from"] == {"budget:pool": 1}
