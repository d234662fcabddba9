"""The stricter of the run's own verdict and the sidecar's, while the sidecar's lease lasts."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from otel_budget import LimitStatus, ResourceMonitor, Verdict
from otel_budget.core.reasons import Action, Reason
from otel_budget.sdk.sidecar_client.lease import LISTEN, LISTEN_AFTER_SLEEP
from otel_budget.testing import FakeClock, stop_verdict
from tests.support.monitors import Make

NOWHERE = "http://127.0.0.1:9"
BLIND: dict[str, Any] = {
    "status": LimitStatus.INCONCLUSIVE,
    "reason": Reason.STALE_DATA,
    "evaluated_at": 2.0,
}


def guided(make: Make, **options: Any) -> ResourceMonitor:
    """Make a run with a sidecar that only a test speaks for."""
    monitor = make(sidecar=NOWHERE, **options)
    monitor._run._begun = True  # the background would only find that nobody listens there
    if monitor._run._lease is not None:
        monitor._run._lease.wait_from_now()
    return monitor


def hear(monitor: ResourceMonitor, **fields: Any) -> Verdict:
    """Let the sidecar say stop; fields say otherwise."""
    verdict = stop_verdict(
        monitor.session_id, **{"started_at": monitor._record.started_at, **fields}
    )
    monitor._run._receive(verdict)
    return verdict


def continued(monitor: ResourceMonitor, **fields: Any) -> Verdict:
    """Return a sidecar's continue."""
    values = {
        "session_id": monitor.session_id, "action": Action.CONTINUE, "status": LimitStatus.OK,
        "reason": Reason.WITHIN_LIMITS, "message": "go on", "resources": {}, "evaluated_at": 1.0,
        "lease_seconds": 15.0, "sequence": 2, **fields,
    }  # fmt: skip
    return Verdict(**values)


def test_a_stop_of_the_sidecar_is_obeyed(make: Make) -> None:
    """Though the run's own limits know nothing of it; verdict and reason are the sidecar's."""
    heard: list[str] = []
    monitor = guided(make, on_verdict=lambda verdict: heard.append(verdict.message))
    assert monitor.should_continue(0.5)
    theirs = hear(monitor, message="tokens at 100% of the team's ceiling")
    assert not monitor.should_continue(1.0)
    assert monitor.verdict == theirs
    assert heard == ["tokens at 100% of the team's ceiling"]
    assert monitor.check_limits().should_continue  # that is about its own limits


def test_a_stop_is_lifted_by_the_next_word(make: Make) -> None:
    """Nothing is latched."""
    monitor = guided(make)
    hear(monitor)
    assert not monitor.should_continue()
    monitor._run._receive(continued(monitor))
    assert monitor.should_continue()


def test_the_stricter_of_both_wins(make: Make) -> None:
    """A sidecar that lets go on lifts no stop of the run's own."""
    monitor = guided(make, max_tokens=10)
    monitor._run._receive(continued(monitor))
    monitor.record_operation(10)
    assert not monitor.should_continue(1.0)
    assert monitor.verdict.lease_seconds is None


def test_the_worse_status_is_shown_when_both_let_go_on(make: Make) -> None:
    """What the sidecar knows to be near is near."""
    monitor = guided(make, max_tokens=100)
    monitor._run._receive(continued(monitor, status=LimitStatus.APPROACHING,
                                 reason=Reason.FINISHING))  # fmt: skip
    assert monitor.should_continue()
    assert monitor.verdict.reason == Reason.FINISHING
    monitor.record_operation(85)
    assert monitor.should_continue()
    assert monitor.verdict.lease_seconds is None  # equally bad: its own, with exact numbers


def test_a_verdict_on_an_earlier_run_of_the_same_name_is_not_for_this_one(
    make: Make, clock: FakeClock
) -> None:
    """One that says no start time is: a foreign agent exports none."""
    monitor = guided(make)
    hear(monitor, started_at=monitor._record.started_at - 100)
    hear(monitor, started_at=monitor._record.started_at + 0.001)
    assert monitor.should_continue()
    hear(monitor, started_at=None)
    assert not monitor.should_continue()


def test_an_approaching_run_that_is_further_by_now_may_finish(make: Make) -> None:
    """The sidecar decided with the progress of its last scrape; back again, the stop is back."""
    monitor = guided(make)
    hear(monitor, status=LimitStatus.APPROACHING, reason=Reason.APPROACHING_LIMIT, progress=0.4)
    assert not monitor.should_continue(0.79)
    assert monitor.should_continue(0.8)
    assert not monitor.should_continue()
    assert not monitor.should_continue(0.3)
    assert monitor.should_continue(1)


@pytest.mark.parametrize(
    "fields",
    [
        {"status": LimitStatus.EXCEEDED, "reason": Reason.LIMIT_EXCEEDED},
        {"status": LimitStatus.APPROACHING, "reason": Reason.OPERATOR_STOP},
        {"status": LimitStatus.EXCEEDED, "reason": "a reason of a newer sidecar"},
    ],
)
def test_no_other_stop_gives_way_to_progress(fields: dict[str, Any], make: Make) -> None:
    """Exceeded, told by an operator, unknown: a stop."""
    monitor = guided(make)
    hear(monitor, **fields)
    assert not monitor.should_continue(1.0)


def test_the_stricter_completion_threshold_counts(make: Make) -> None:
    """The sidecar's, where it has one."""
    monitor = guided(make)
    hear(monitor, status=LimitStatus.APPROACHING, reason=Reason.APPROACHING_LIMIT,
         completion_threshold=0.95)  # fmt: skip
    assert not monitor.should_continue(0.9)
    assert monitor.should_continue(0.95)


def test_when_the_lease_runs_out_the_runs_own_limits_go_on(make: Make, clock: FakeClock) -> None:
    """A verdict of any age is not to be trusted, a stop no more than a continue."""
    monitor = guided(make, max_tokens=10)
    hear(monitor, lease_seconds=15.0)
    clock.advance(14.9)
    assert not monitor.should_continue()
    clock.advance(0.1)
    assert monitor.should_continue()
    monitor.record_operation(10)
    assert not monitor.should_continue()


def test_a_verdict_that_is_said_again_renews_the_lease(make: Make, clock: FakeClock) -> None:
    """Without a new sequence."""
    monitor = guided(make)
    for _ in range(10):
        hear(monitor)
        clock.advance(10)
        assert not monitor.should_continue()


def test_a_run_that_asked_for_it_stops_when_the_lease_runs_out(
    make: Make, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Inconclusive, with a reason of its own; and goes on when the sidecar is back."""
    monitor = guided(make, on_sidecar_loss="stop")
    monitor._run._receive(continued(monitor))
    assert monitor.should_continue(0.5)
    clock.advance(14.9)
    assert monitor.should_continue(0.5)
    caplog.set_level(logging.INFO, "otel_budget")
    clock.advance(0.1)
    assert monitor.should_continue(0.5)  # it listens first
    clock.advance(LISTEN)
    assert not monitor.should_continue(1.0)
    verdict = monitor.verdict
    assert (verdict.status, verdict.reason) == (LimitStatus.INCONCLUSIVE, Reason.SIDECAR_LOST)
    assert verdict.started_at == monitor._record.started_at
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    monitor._run._receive(continued(monitor))
    assert monitor.should_continue(0.5)


def test_a_sidecar_that_was_never_there_has_the_time_of_a_lease(
    make: Make, clock: FakeClock
) -> None:
    """From the run's first use, however long ago the monitor was made."""
    monitor = make(sidecar=NOWHERE, on_sidecar_loss="stop")
    clock.advance(1000)
    assert monitor.should_continue()
    clock.advance(15)
    monitor._run._not_answered()
    clock.advance(LISTEN)
    assert not monitor.should_continue()


def test_a_sidecar_that_is_there_has_the_time_it_needs_for_a_first_verdict(
    make: Make, clock: FakeClock
) -> None:
    """Through a Prometheus it may take a minute to see the run; its keep-alives say it is there."""
    monitor = guided(make, on_sidecar_loss="stop")
    for _ in range(8):
        clock.advance(10)
        monitor._run._answered()
        assert monitor.should_continue()
    clock.advance(15)
    monitor._run._not_answered()
    clock.advance(LISTEN)
    assert not monitor.should_continue()
    assert monitor.verdict.reason == Reason.SIDECAR_LOST


def test_a_run_that_was_frozen_itself_listens_before_it_takes_the_sidecar_for_lost(
    make: Make, clock: FakeClock
) -> None:
    """SIGSTOP, a paused container: the renewals came, and lie unread in the socket."""
    monitor = guided(make, on_sidecar_loss="stop", max_duration_seconds=None)
    monitor._run._receive(continued(monitor))
    clock.advance(3600)
    assert monitor.should_continue(0.5)
    assert monitor.wait_for_stop(0) is None
    clock.advance(LISTEN - 0.1)
    monitor._run._receive(continued(monitor))
    clock.advance(14.9)
    assert monitor.should_continue(0.5)


def test_a_stop_for_want_of_data_is_obeyed_once_the_sidecar_looked_again(
    make: Make, clock: FakeClock
) -> None:
    """It may tell of the time in which the agent was frozen: it is asked to look now."""
    nudged: list[float] = []
    monitor = guided(make)
    monitor._run._client.nudge = lambda: nudged.append(clock.elapsed)  # type: ignore[union-attr, method-assign] # to see it
    hear(monitor, **BLIND)
    assert nudged == [0.0]
    clock.advance(LISTEN - 0.1)
    hear(monitor, **BLIND)
    assert monitor.should_continue(0.5)
    assert monitor.wait_for_stop(0) is None
    clock.advance(0.1)
    hear(monitor, **BLIND)
    assert not monitor.should_continue(1.0)
    assert monitor.verdict.reason == Reason.STALE_DATA
    monitor._run._receive(continued(monitor))
    assert monitor.should_continue()
    hear(monitor, **BLIND)
    assert monitor.should_continue(), "that is another silence"


def test_after_a_sleep_there_is_time_for_a_prometheus_to_scrape(
    make: Make, clock: FakeClock
) -> None:
    """It was silent to whoever scrapes it, for as long as it slept."""
    monitor = guided(make, max_duration_seconds=None)
    monitor._run._receive(continued(monitor))
    clock.sleep(36_000)
    for _ in range(int(LISTEN_AFTER_SLEEP / 5)):
        hear(monitor, **BLIND)
        assert monitor.should_continue()
        clock.advance(5)
    assert not monitor.should_continue()


def test_sleep_of_the_machine_takes_nothing_of_the_lease(make: Make, clock: FakeClock) -> None:
    """Nothing is spent in it and nothing heard; after it the connection may be a dead one."""
    monitor = guided(make, on_sidecar_loss="stop", max_duration_seconds=None)
    hear(monitor, message="theirs")
    clock.sleep(36_000)
    assert not monitor.should_continue()
    monitor._run._receive(continued(monitor))
    clock.advance(5)
    clock.sleep(36_000)
    clock.advance(9.9)
    assert monitor.should_continue(0.5)
    clock.advance(0.1)
    assert monitor.should_continue(0.5)
    clock.advance(LISTEN_AFTER_SLEEP - 0.1)
    assert monitor.should_continue(0.5)
    clock.advance(0.1)
    assert not monitor.should_continue(0.5)
    assert monitor.verdict.reason == Reason.SIDECAR_LOST


def test_a_sign_of_life_does_not_renew_the_lease_of_a_verdict(make: Make, clock: FakeClock) -> None:
    """Only a verdict does."""
    monitor = guided(make)
    hear(monitor)
    clock.advance(15)
    monitor._run._answered()
    assert monitor.should_continue()


def test_a_start_time_that_came_back_rounded_is_still_this_runs(make: Make) -> None:
    """Some stores of metrics keep 15 digits."""
    monitor = guided(make)
    hear(monitor, started_at=monitor._record.started_at + 0.000_01)
    assert not monitor.should_continue()


def test_the_second_monitor_of_a_session_obeys_the_same_verdict(make: Make) -> None:
    """To everybody outside they are one run."""
    first = guided(make)
    second = guided(make, session_id=first.session_id)
    hear(first)
    second._run._receive(stop_verdict(first.session_id, started_at=first._record.started_at))
    assert not first.should_continue()
    assert not second.should_continue()


def test_own_exceeded_limits_come_before_a_lost_sidecar(make: Make, clock: FakeClock) -> None:
    """The reason that is known is the reason given."""
    monitor = guided(make, on_sidecar_loss="stop", max_tokens=0)
    clock.advance(100)
    assert not monitor.should_continue()
    assert monitor.verdict.reason == Reason.LIMIT_EXCEEDED


def test_a_stop_wakes_who_waits_for_it(make: Make) -> None:
    """With the sidecar's verdict, not with one of its own."""
    monitor = guided(make)
    hear(monitor, message="theirs")
    verdict = monitor.wait_for_stop(0)
    assert verdict is not None
    assert verdict.message == "theirs"


def test_whether_the_sidecar_answers_is_logged_and_shown(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """In the run's own view."""
    caplog.set_level(logging.INFO, "otel_budget")
    monitor = guided(make)
    seen = [monitor._record.sidecar_reachable]
    for reachable in (False, True):
        monitor._run._reachability_changed(reachable=reachable)
        seen.append(monitor._record.sidecar_reachable)
    assert seen == [None, False, True]
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "goes on under its own limits" in caplog.text


def test_a_run_that_stops_without_its_sidecar_is_not_told_to_go_on(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The line says what will come of it."""
    guided(make, on_sidecar_loss="stop")._run._reachability_changed(reachable=False)
    assert "the run is stopped if no verdict comes in time" in caplog.text
    assert "goes on" not in caplog.text


def test_a_run_that_is_over_hears_nothing_more(make: Make) -> None:
    """Its client is stopped with it."""
    monitor = make(sidecar=NOWHERE)
    monitor.should_continue()
    client = monitor._run._client
    assert client is not None
    monitor.close(timeout=0)
    assert client._link is not None
    client._link.join(20)
    assert not client._link.is_alive()
