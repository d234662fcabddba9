"""A page that is kept and shown again (by a Pushgateway, a file, a cache) is no sign of life."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otel_budget.core.observation import RunObservation
from otel_budget.core.reasons import Reason
from otel_budget.core.verdict import LimitStatus, Verdict
from otel_budget.ledger.ledger import Ledger
from otel_budget.policy.verdicts import verdict_from_snapshot
from otel_budget.sidecar.storage import codec
from tests.support.sidecar_fixtures import START, ceilings, reading, session

RULES = replace(ceilings(tokens=1000, duration=600), hold=60.0)


def shown(at: float, pushed: float, *, paused: float = 0.0, **others: object) -> RunObservation:
    """Return what is read at one time of what a run showed at another, with both of its times."""
    one = session(tokens=400, at=START + pushed, **others)  # type: ignore[arg-type] # as there
    assert one.attributes.duration is not None
    active = one.attributes.duration - paused
    return one._replace(sampled_at=START + at, attributes=one.attributes._replace(active=active))


def judge(ledger: Ledger, one: RunObservation) -> Verdict:
    """Take in a reading, and judge the run."""
    now = one.sampled_at
    ledger.apply(reading(one, at=now))
    (run,) = ledger.runs.values()
    return verdict_from_snapshot(ledger.snapshot(run, now), RULES, now)


def test_a_page_that_never_moves_is_as_old_as_when_it_first_came() -> None:
    """Held, then stopped; and the run's duration goes on."""
    ledger = Ledger()
    verdicts = [judge(ledger, shown(at, 0)) for at in range(70)]
    assert {v.status for v in verdicts[:4]} == {LimitStatus.OK}
    assert verdicts[10].status is LimitStatus.INCONCLUSIVE
    assert (verdicts[10].action, verdicts[-1].action) == ("continue", "stop")
    assert verdicts[-1].reason is Reason.STALE_DATA
    assert verdicts[-1].resources["duration"].used == 10 + 69
    assert verdicts[-1].data_at == START


def test_a_page_that_never_moves_uses_a_limit_on_duration_up() -> None:
    ledger = Ledger()
    verdicts = [judge(ledger, shown(at, 0)) for at in range(0, 600, 5)]
    assert verdicts[-1].reason is Reason.LIMIT_EXCEEDED


def test_a_page_that_moves_again_is_fresh_at_once() -> None:
    ledger = Ledger()
    for at in range(70):
        judge(ledger, shown(at, 0))
    assert judge(ledger, shown(70, 70)).status is LimitStatus.OK


def test_what_is_pushed_every_quarter_of_a_minute_comes_at_that_pace() -> None:
    """Read every second: from the second push on it is known how long a pause is usual."""
    ledger = Ledger()
    verdicts = [judge(ledger, shown(at, at // 15 * 15)) for at in range(120)]
    assert {v.status for v in verdicts[15:]} == {LimitStatus.OK}
    assert {v.action for v in verdicts} == {"continue"}


@pytest.mark.parametrize("state", ["running", "paused"])
def test_a_run_that_lives_is_fresh_whatever_it_waits_for(state: str) -> None:
    """Of one that pauses the active time stands still, and the duration goes on."""
    ledger = Ledger()
    stands = 1.0 if state == "paused" else 0.0
    verdicts = [judge(ledger, shown(at, at, state=state, paused=at * stands)) for at in range(70)]
    assert {v.status for v in verdicts} == {LimitStatus.OK}


def test_a_page_that_never_moves_is_known_over_a_restart() -> None:
    """Each time a sidecar starts the duration would begin where the page has it."""
    ledger = Ledger()
    for at in range(5):
        judge(ledger, shown(at, at))
    (run,) = ledger.runs.values()
    revision = run.revision
    for at in range(5, 50):
        judge(ledger, shown(at, 4))
    assert run.revision == revision + 1, "that it does not move any more is stored, once"
    again = Ledger()
    again.adopt(codec.from_json(codec.to_json(run)), START + 60)
    verdicts = [judge(again, shown(at, 4)) for at in range(60, 140)]
    assert {v.status for v in verdicts} == {LimitStatus.INCONCLUSIVE}
    assert verdicts[-1].action == "stop"
    assert verdicts[-1].resources["duration"].used == 10 + 139
    assert judge(again, shown(140, 140)).status is LimitStatus.OK


def test_a_sample_that_is_read_twice_is_not_stored_for_that() -> None:
    """A Prometheus is asked more often than it scrapes."""
    ledger = Ledger()
    judge(ledger, shown(0, 0))
    (run,) = ledger.runs.values()
    revision = run.revision
    for at in range(60):
        judge(ledger, shown(at // 15 * 15, at // 15 * 15))
    assert run.revision == revision


def test_a_foreign_run_without_both_times_may_stand_still() -> None:
    """It may say its duration with each call only."""
    ledger, one = Ledger(), session(tokens=400)
    verdicts = [judge(ledger, one._replace(sampled_at=START + at)) for at in range(70)]
    assert {v.status for v in verdicts} == {LimitStatus.OK}


def test_a_run_that_has_ended_stands_still() -> None:
    ledger = Ledger()
    verdicts = [judge(ledger, shown(at, 0, state="completed")) for at in range(70)]
    assert {v.status for v in verdicts} == {LimitStatus.OK}
