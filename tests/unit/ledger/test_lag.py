"""A source whose samples arrive steadily late: what is allowed for, and what is not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation, RunAttributes, RunObservation
from otel_budget.core.verdict import Verdict
from otel_budget.ledger.freshness import LONGEST_LAG, Lag
from otel_budget.ledger.ledger import Ledger
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot
from otel_budget.sidecar.storage import codec

GAP = 5.0


def lag_of(*ages: float, known: float = 0.0) -> float:
    """Return what is allowed for after samples arrived at these ages, 5 s apart."""
    lag = Lag(known)
    for age in ages:
        lag.observe(age, lambda: GAP)
    return lag.seconds


def test_a_steady_lag_is_known_from_the_second_sample_on() -> None:
    """One alone may be the last of a process that died long ago."""
    assert lag_of(34) == 0
    assert lag_of(34, 35) == 34
    assert lag_of(*[34] * 20) == 34


def test_what_readings_and_samples_differ_by_in_rhythm_is_no_lag() -> None:
    """Up to the spacing of the samples."""
    assert lag_of(4.9, 0.1, 4.9, 4.9, 4.9, 4.9) == 0
    assert lag_of(*[4.9] * 20) == 0


def test_the_least_of_a_few_ages_counts() -> None:
    """One late reading adds nothing."""
    assert lag_of(31, 34, 33, 30, 34, 30, 33, 90, 31, 32) == 30


def test_a_lag_that_grows_without_end_is_not_allowed_for() -> None:
    """Its beginning is; the samples are older than that soon."""
    assert lag_of(*(10 + 2 * step for step in range(200))) == 10


def test_a_lag_that_grew_to_a_new_level_is_known_after_two_rows() -> None:
    """A server that was given another offset."""
    assert lag_of(*[10] * 10, *[34] * 5) == 10
    assert lag_of(*[10] * 10, *[34] * 10) == 34


def test_a_lag_that_is_over_is_forgotten() -> None:
    """Silence is found as quickly as anywhere else."""
    assert lag_of(*[34] * 10, *[1] * 5) == 0


def test_more_than_the_stores_look_back_is_never_allowed_for() -> None:
    """Such samples are old, however steadily they come."""
    assert lag_of(*[LONGEST_LAG] * 10) == LONGEST_LAG
    assert lag_of(*[LONGEST_LAG + 1] * 10) == 0


def test_what_was_known_before_a_restart_counts_until_it_is_found_otherwise() -> None:
    """For as many samples as tell."""
    assert lag_of(known=34) == 34
    assert lag_of(1, 1, known=34) == 34
    assert lag_of(*[1] * 5, known=34) == 0


def delayed(ledger: Ledger, delay: float, until: float, died_at: float = 1e9) -> Iterator[float]:
    """Let a ledger read every second what a store shows of a run scraped every 5 s; yield now.

    The store hides the samples of the last ``delay`` seconds.
    """
    for now in map(float, range(int(until))):
        visible = min(now - delay, died_at)
        if visible >= 0:
            at = visible - visible % GAP
            attributes = RunAttributes(
                started_at=0.0, incarnation_at=0.0, duration=at, state="running"
            )
            counters = {(semconv.TOKENS, ""): int(at)}
            session = RunObservation("run", "a", at, counters, attributes)
            ledger.apply(Observation("prometheus", now, (session,), spacing=60.0))
        yield now


def verdicts(ledger: Ledger, times: Iterable[float], rules: Rules) -> list[tuple[float, Verdict]]:
    """Judge the run at each time it is known at."""
    return [
        (now, verdict_from_snapshot(ledger.snapshot(ledger.runs["run"], now), rules, now))
        for now in times
        if "run" in ledger.runs
    ]


@pytest.mark.parametrize("hold", [0.0, 20.0])
def test_a_run_behind_a_store_with_a_steady_delay_is_judged_by_its_numbers(hold: float) -> None:
    """From the first sample on, and with a hold shorter than the delay."""
    ledger = Ledger()
    judged = verdicts(ledger, delayed(ledger, 30.0, 200), Rules(hold=hold))
    assert {(str(v.action), str(v.reason)) for _, v in judged} == {("continue", "within_limits")}
    assert ledger.lag == 30.0


def test_its_silence_is_found_three_gaps_after_the_sample_that_did_not_come() -> None:
    """As without a delay, and the delay later."""
    ledger = Ledger()
    judged = verdicts(ledger, delayed(ledger, 30.0, 200, died_at=101.0), Rules())
    stale = [now for now, verdict in judged if str(verdict.reason) == "stale_data"]
    assert stale[0] == 100.0 + 30.0 + 3 * GAP + 1.0
    assert stale == list(map(float, range(int(stale[0]), 200)))


def test_a_restarted_sidecar_knows_the_delay() -> None:
    """Else all runs would be stale until it had learnt it again."""
    ledger = Ledger()
    for _ in delayed(ledger, 30.0, 100):
        pass
    again = Ledger()
    again.adopt(codec.from_json(codec.to_json(ledger.runs["run"])), 100.0)
    ((_, verdict),) = verdicts(again, [104.0], Rules())
    assert str(verdict.reason) == "within_limits"


def test_data_that_were_old_before_a_restart_are_old_after_it() -> None:
    """One reading shows no delay: the process may be dead, and its store still show it."""
    ledger = Ledger()
    for _ in delayed(ledger, 0.0, 100):
        pass
    again = Ledger()
    again.adopt(codec.from_json(codec.to_json(ledger.runs["run"])), 160.0)
    attributes = RunAttributes(started_at=0.0, incarnation_at=0.0, duration=105.0, state="running")
    session = RunObservation("run", "a", 105.0, {(semconv.TOKENS, ""): 105}, attributes)
    again.apply(Observation("prometheus", 160.0, (session,), spacing=60.0))
    ((_, verdict),) = verdicts(again, [160.0], Rules())
    assert str(verdict.reason) == "stale_data"


def test_an_account_of_an_earlier_version_has_no_delay() -> None:
    """It is read all the same."""
    ledger = Ledger()
    for _ in delayed(ledger, 30.0, 100):
        pass
    text = codec.to_json(ledger.runs["run"]).replace('"lag":30.0,', "")
    assert codec.from_json(text).lag.seconds == 0.0


def test_samples_that_were_asked_for_in_between_are_no_rhythm() -> None:
    """A nudge has a page read at once; the next reading is as far away as ever."""
    ledger = Ledger()
    for at in (0.0, 0.3, 0.9, 1.4):
        found = RunObservation("run", "a", at, {("tokens", ""): 1}, RunAttributes(1.0, 1.0))
        ledger.apply(Observation("scrape", at, (found,), spacing=60.0, least_spacing=60.0))
    assert ledger.runs["run"].gap() == 60.0
