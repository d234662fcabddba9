"""Runs that are pushed: idle time, what is told of them, and whom they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation, Problem, RunAttributes, RunObservation
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import LimitStatus, Verdict
from otel_budget.ledger.findings import FindingKind
from otel_budget.ledger.ledger import Ledger
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot
from otel_budget.sidecar.storage import codec

PEER, OTHER = "otlp://127.0.0.1", "otlp://10.0.0.9"
IDLE = 1800.0
START = 1_000_000.0
SCRAPED = "http://127.0.0.1:9464/metrics"


def pushed(
    tokens: float,
    at: float,
    *,
    peer: str = PEER,
    signal: str = "metrics",
    run: str = "run-1",
    idle: float | None = IDLE,
    told: Mapping[str, str] | None = None,
) -> Observation:
    """Return what one push shows of a run."""
    target = f'{peer}{{signal="{signal}"}}'
    counters = {(semconv.TOKENS, 'type="input"'): int(tokens)}
    shown = RunObservation(run, target, at, counters, RunAttributes(idle_after=idle), process=peer)
    return Observation(
        "otlp", at, sessions=(shown,), asked=frozenset({target}), told=dict(told or {})
    )


def told(state: str, at: float, run: str = "run-1") -> Observation:
    """Return what a hook tells."""
    return Observation("otlp", at, asked=frozenset(), told={run: state})


def whole(at: float, *sessions: RunObservation, error: bool = False) -> Observation:
    """Return a whole reading of a source that is asked and has one target."""
    problems = (Problem("", Reason.SOURCE_ERROR, "it does not answer"),) if error else ()
    return Observation(
        "scrape", at, sessions=sessions, problems=problems, targets=frozenset({SCRAPED})
    )


def judge(ledger: Ledger, at: float, run: str = "run-1") -> Verdict:
    """Return the verdict on a run as of a moment."""
    return verdict_from_snapshot(ledger.snapshot(ledger.runs[run], at), Rules(), at)


def used(ledger: Ledger, run: str = "run-1") -> float:
    """Return the tokens that a run has used."""
    return float(ledger.runs[run].totals()[semconv.TOKENS])


@pytest.fixture
def ledger() -> Ledger:
    """A ledger that heard of 400 tokens."""
    ledger = Ledger()
    ledger.apply(pushed(400, START))
    return ledger


def test_an_idle_run_is_not_stale_and_has_vanished_after_its_time(ledger: Ledger) -> None:
    """Nothing is decided for lack of data at any time."""
    for silent in (0, 60, IDLE):
        verdict = judge(ledger, START + silent)
        assert (verdict.reason, verdict.run_state) == (Reason.WITHIN_LIMITS, None)
    for silent in (IDLE + 1, IDLE + 10_000):
        verdict = judge(ledger, START + silent)
        assert (verdict.reason, verdict.status) == (Reason.WITHIN_LIMITS, LimitStatus.OK)
        assert verdict.run_state == semconv.VANISHED
        assert "nothing was heard of it for 30 min" in verdict.message
    assert ledger.targets.vanished == ["run-1"]


def test_one_that_pushes_at_intervals_becomes_stale_as_any_other() -> None:
    """After three of the intervals that exporters have, until its own are known."""
    ledger = Ledger()
    ledger.apply(pushed(400, START, idle=None))
    assert judge(ledger, START + 179).reason is Reason.WITHIN_LIMITS
    assert judge(ledger, START + 181).reason is Reason.STALE_DATA


def test_a_vanished_run_is_there_again_with_its_next_push(ledger: Ledger) -> None:
    """And its use goes on from what was known."""
    judge(ledger, START + IDLE + 1)
    ledger.apply(pushed(500, START + IDLE + 60))
    assert judge(ledger, START + IDLE + 61).run_state is None
    assert used(ledger) == 500


def test_no_reading_of_another_source_makes_a_pushed_run_vanish(ledger: Ledger) -> None:
    """Nor does a trouble of that source touch it."""
    for second in range(1, 100):
        ledger.apply(whole(START + second, error=second > 50))
        verdict = judge(ledger, START + second)
        assert (verdict.run_state, verdict.status) == (None, LimitStatus.OK)


def test_time_without_a_sidecar_is_no_idle_time(ledger: Ledger) -> None:
    """A restarted sidecar waits as long again; that a run had vanished stays known."""
    again = Ledger()
    again.adopt(codec.from_json(codec.to_json(ledger.runs["run-1"])), START + 10 * IDLE)
    assert judge(again, START + 10 * IDLE + 60).run_state is None
    assert judge(again, START + 11 * IDLE + 1).run_state == semconv.VANISHED
    third = Ledger()
    third.adopt(codec.from_json(codec.to_json(again.runs["run-1"])), START + 12 * IDLE)
    assert judge(third, START + 12 * IDLE + 1).run_state == semconv.VANISHED


def test_an_idle_run_is_not_forgotten_before_it_has_vanished() -> None:
    """However long its idle time is; then as any other that has vanished."""
    ledger, idle = Ledger(), 100_000.0
    ledger.apply(pushed(400, START, idle=idle))
    assert not ledger.forget(START + idle - 1, 3600.0, 300.0, 300.0)
    judge(ledger, START + idle + 1)
    assert not ledger.forget(START + idle + 890, 3600.0, 300.0, 300.0)
    (gone,) = ledger.forget(START + idle + 1000, 3600.0, 300.0, 300.0)
    assert gone.session_id == "run-1"


def test_a_client_that_follows_the_verdict_keeps_an_idle_run_alive(ledger: Ledger) -> None:
    """It is the program itself, or what started it."""
    ledger.targets.is_followed = lambda session_id: session_id == "run-1"
    assert judge(ledger, START + IDLE + 100).run_state is None


def test_an_end_that_is_told_holds_until_more_is_used(ledger: Ledger) -> None:
    """What was on its way when it ended counts, and does not refute it."""
    ledger.apply(told(semconv.COMPLETED, START + 10))
    assert judge(ledger, START + 11).run_state == semconv.COMPLETED
    ledger.apply(pushed(450, START + 12))
    ledger.apply(pushed(450, START + 13, signal="logs"))
    assert (judge(ledger, START + 13).run_state, used(ledger)) == (semconv.COMPLETED, 450)
    ledger.apply(pushed(450, START + 60))
    assert judge(ledger, START + 61).run_state == semconv.COMPLETED
    ledger.apply(pushed(451, START + 70))
    assert judge(ledger, START + 71).run_state is None


def test_an_end_that_was_told_is_known_after_a_restart(ledger: Ledger) -> None:
    """It is in what is stored of the run."""
    ledger.apply(told(semconv.COMPLETED, START + 10))
    again = Ledger()
    again.adopt(codec.from_json(codec.to_json(ledger.runs["run-1"])), START + 20)
    assert judge(again, START + 30).run_state == semconv.COMPLETED
    again.apply(told(semconv.RUNNING, START + 40))
    assert judge(again, START + 50).run_state == semconv.RUNNING


@pytest.mark.parametrize("before", ["ended", "vanished", "stale"])
def test_a_start_that_is_told_makes_a_run_fresh(before: str) -> None:
    """It can be talked to, whatever was known of it."""
    ledger = Ledger()
    ledger.apply(pushed(400, START, idle=None if before == "stale" else IDLE))
    at = START + 2 * IDLE
    if before == "ended":
        ledger.apply(told(semconv.COMPLETED, START + 10))
    verdict = judge(ledger, at)
    known = (verdict.run_state, verdict.reason)
    assert (
        known
        == {
            "ended": (semconv.COMPLETED, Reason.WITHIN_LIMITS),
            "vanished": (semconv.VANISHED, Reason.WITHIN_LIMITS),
            "stale": (None, Reason.STALE_DATA),
        }[before]
    )
    ledger.apply(told(semconv.RUNNING, at + 1))
    verdict = judge(ledger, at + 2)
    assert (verdict.action, verdict.status) == (Action.CONTINUE, LimitStatus.OK)
    assert (verdict.run_state, verdict.reason) == (semconv.RUNNING, Reason.WITHIN_LIMITS)
    assert used(ledger) == 400


def test_nothing_is_made_known_by_what_is_told_of_it() -> None:
    """Nor by a state that there is not."""
    ledger = Ledger()
    ledger.apply(told(semconv.RUNNING, START))
    assert not ledger.runs
    ledger.apply(pushed(400, START))
    ledger.apply(told("on holiday", START + 1))
    assert ledger.runs["run-1"].attributes.state is None


def test_views_of_one_pusher_count_once(ledger: Ledger) -> None:
    """The larger sum of metrics, logs and hooks; no second target is found."""
    ledger.apply(pushed(450, START + 1, signal="logs"))
    ledger.apply(pushed(300, START + 2, signal="hooks"))
    assert used(ledger) == 450
    assert not ledger.findings


def test_a_run_belongs_to_who_pushed_it_first(ledger: Ledger) -> None:
    """Another one is refused, counted and flagged once."""
    for second in (1, 100, IDLE - 10):
        ledger.apply(pushed(1_000_000, START + second, peer=OTHER))
    assert used(ledger) == 400
    assert ledger.dropped[semconv.CARRIED_ELSEWHERE] == 3
    assert [finding.kind for finding in ledger.findings] == [FindingKind.CARRIED_ELSEWHERE]


@pytest.mark.parametrize("over", ["ended", "vanished"])
def test_a_run_that_is_over_may_be_pushed_by_another(ledger: Ledger, over: str) -> None:
    """As when a session is resumed from another address; its use adds up."""
    at = START + 20
    if over == "ended":
        ledger.apply(told(semconv.COMPLETED, START + 10))
    else:
        at = START + IDLE + 10
        judge(ledger, at - 1)
    ledger.apply(pushed(100, at, peer=OTHER))
    assert used(ledger) == 500


def test_a_run_that_is_scraped_too_follows_the_rule_for_second_targets(ledger: Ledger) -> None:
    """It is added, or refused."""
    from otel_budget.core.bindings import Bindings

    counters = {(semconv.TOKENS, 'type="input"'): 50}
    shown = RunObservation("run-1", SCRAPED, START + 1, counters)
    ledger.apply(whole(START + 1, shown))
    assert used(ledger) == 450
    refusing = Ledger()
    bindings = Bindings(first_owns=True)
    refusing.apply(replace(pushed(400, START), bindings=bindings))
    refusing.apply(replace(whole(START + 1, shown), bindings=bindings))
    assert used(refusing) == 400
