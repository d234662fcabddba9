"""How much longer a run's resources last, as the sidecar tells it from counters alone."""

from collections.abc import Mapping

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation, RunAttributes, RunObservation
from otel_budget.core.quantities import Number
from otel_budget.core.verdict import ResourceState, Verdict
from otel_budget.ledger.call_pace import CallPace
from otel_budget.ledger.ledger import Ledger
from otel_budget.ledger.snapshot import RunSnapshot
from otel_budget.policy.outlook import Foretold
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot

LIMITS: dict[str, Number] = {
    semconv.TOKENS: 100_000,
    semconv.API_CALLS: 1000,
    semconv.DURATION: 3600.0,
}


def growing(calls: int) -> int:
    """Return the tokens of so many calls, each of which is 100 larger than the one before."""
    return 1000 * calls + 100 * calls * (calls - 1) // 2


def judged(
    calls: int,
    *,
    now: float | None = None,
    state: str = "running",
    limits: Mapping[str, Number] = LIMITS,
) -> Verdict:
    """Return the verdict on a run of one call every five seconds, scraped after each."""
    ledger = Ledger()
    for number in range(1, calls + 1):
        at = 5.0 * number
        said = RunAttributes(
            started_at=0.0, incarnation_at=0.0, limits=limits,
            state=state if number == calls else "running",
        )  # fmt: skip
        counters = {(semconv.TOKENS, ""): growing(number), (semconv.API_CALLS, ""): number}
        ledger.apply(
            Observation("scrape", at, (RunObservation("run", "a", at, counters, said),), ())
        )
    now = 5.0 * calls if now is None else now
    return verdict_from_snapshot(ledger.snapshot(ledger.runs["run"], now), Rules(), now)


def state_of(verdict: Verdict, resource: str = semconv.TOKENS) -> ResourceState:
    """Return what a verdict says of a resource."""
    return verdict.resources[resource]


def test_the_calls_that_are_left_follow_from_the_size_of_the_newest_and_the_growth() -> None:
    """Twenty calls used 39,000; of the 61,000 left the next uses 3,000, and so on."""
    forecast = state_of(judged(20)).forecast
    assert forecast is not None
    assert forecast.calls_left is not None
    assert growing(36) < 100_000 < growing(37)
    assert forecast.calls_left.value == pytest.approx(
        16 + (100_000 - growing(36)) / (growing(37) - growing(36)), rel=0.02
    )
    assert forecast.whole_calls_left == 16


def test_the_seconds_that_are_left_are_those_of_the_calls() -> None:
    """And what the verdict says of the exhaustion is the same number."""
    state = state_of(judged(20))
    assert state.forecast is not None
    assert state.forecast.seconds_left is not None
    assert state.exhaustion_seconds == state.forecast.seconds_left.value
    assert state.exhaustion_seconds == pytest.approx(5 * 16.3, rel=0.1)


def test_time_is_left_to_the_second() -> None:
    """It passes by itself: there is nothing to guess. The run was seen from 5 s on."""
    forecast = state_of(judged(20), semconv.DURATION).forecast
    assert forecast is not None
    assert forecast.seconds_left == (3505.0, 3505.0, 3505.0)


def test_the_verdict_names_what_ends_first() -> None:
    """Of tokens for 16 calls, 980 calls, and the best part of an hour."""
    assert judged(20).ends_first == semconv.TOKENS


def test_of_what_is_unlimited_nothing_is_forecast() -> None:
    """There is no end to tell of."""
    unlimited = judged(20, limits={semconv.API_CALLS: 1000}).resources[semconv.TOKENS]
    assert (unlimited.forecast, unlimited.exhaustion_seconds) == (None, None)


@pytest.mark.parametrize("state", ["completed", "failed", "stopped"])
def test_a_run_that_has_ended_has_no_forecast(state: str) -> None:
    """Nothing of it will be used any more."""
    verdict = judged(20, state=state)
    assert {state.forecast for state in verdict.resources.values()} == {None}
    assert {state.exhaustion_seconds for state in verdict.resources.values()} == {None}
    assert verdict.ends_first is None


def test_of_a_run_that_makes_no_call_for_minutes_no_seconds_are_told() -> None:
    """It waits for somebody; how many calls are left is as true as before."""
    before, later = state_of(judged(20)), state_of(judged(20, now=100 + 301.0))
    assert before.forecast is not None
    assert later.forecast is not None
    assert later.forecast.calls_left == before.forecast.calls_left
    assert (later.forecast.seconds_left, later.exhaustion_seconds) == (None, None)


def test_a_run_that_counts_no_calls_has_seconds_by_its_rate_and_says_how_unsure_they_are() -> None:
    """Programs that export tokens alone; in calls nothing can be told of them."""
    ledger = Ledger()
    for at in (10.0, 20.0, 30.0):
        said = RunAttributes(started_at=0.0, incarnation_at=0.0, limits=LIMITS, state="running")
        counters: dict[tuple[str, str], Number] = {(semconv.TOKENS, ""): int(1000 * at)}
        ledger.apply(
            Observation("scrape", at, (RunObservation("run", "a", at, counters, said),), ())
        )
    snapshot = ledger.snapshot(ledger.runs["run"], 30.0)
    forecast = state_of(verdict_from_snapshot(snapshot, Rules(), 30.0)).forecast
    assert forecast is not None
    assert forecast.calls_left is None
    assert forecast.seconds_left == pytest.approx((70.0, 35.0, 140.0))


@pytest.mark.parametrize(("state", "told"), [("running", True), ("paused", False)])
def test_active_time_is_left_while_it_passes(state: str, told: bool) -> None:  # noqa: FBT001 - pytest's
    """Of a run that is paused nobody knows when it goes on."""
    limits: dict[str, Number] = {semconv.ACTIVE_DURATION: 600.0, semconv.DURATION: 3600.0}
    verdict = judged(20, state=state, limits=limits)
    assert (state_of(verdict, semconv.ACTIVE_DURATION).exhaustion_seconds is not None) is told
    assert state_of(verdict, semconv.DURATION).exhaustion_seconds == 3505.0


def test_a_forecast_that_is_looked_at_later_is_of_when_the_verdict_was_made() -> None:
    """The run goes on meanwhile; the verdict says what was known of it."""
    pace = CallPace()
    for number in range(1, 21):
        pace.observe({semconv.TOKENS: growing(number), semconv.API_CALLS: number}, 5.0 * number)
    known = RunSnapshot(
        "run", 0.0, {semconv.TOKENS: growing(20), semconv.API_CALLS: 20},
        RunAttributes(limits=LIMITS), {}, 100.0, 0.0, 5.0, None, None, ended=False, pace=pace,
    )  # fmt: skip
    at_once, later = (verdict_from_snapshot(known, Rules(), 100.0) for _ in range(2))
    first = dict(at_once.resources)
    for number in range(21, 40):
        totals = {semconv.TOKENS: growing(20) + 9000 * (number - 20), semconv.API_CALLS: number}
        pace.observe(totals, 5.0 * number)
    assert later.resources == first
    assert later == at_once


def test_to_judge_a_run_works_out_no_forecast() -> None:
    """Of nearly all verdicts nobody reads one."""
    verdict = judged(20)
    resources = verdict.resources
    assert isinstance(resources, Foretold)
    assert {state.forecast for state in resources.judged.values()} == {None}
    assert (list(resources), len(resources)) == (list(resources.judged), len(resources.judged))
    assert resources[semconv.TOKENS].forecast is not None
    assert resources.judged[semconv.TOKENS].forecast is not None, "once is enough"
    assert repr(resources).startswith("{'duration': ResourceState(")
