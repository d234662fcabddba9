"""The limit on the time a run is active, beside the one on its duration."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from otel_budget import ResourceLimits, ResourceMonitor, semconv
from otel_budget.core.limits import LIMIT_KEYS
from otel_budget.core.observation import Observation, RunAttributes, RunObservation
from otel_budget.core.reasons import Reason
from otel_budget.ledger.ledger import Ledger
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot
from otel_budget.testing import FakeClock
from tests.support.monitors import Make
from tests.unit.sdk.test_resume import exposed

ACTIVE = semconv.ACTIVE_DURATION


def test_pauses_and_downtime_are_not_in_it(clock: FakeClock, make: Make, tmp_path: Path) -> None:
    """The duration goes on through both; each has its own limit."""
    monitor = make(session_id="lunch", project_root=tmp_path, max_duration_seconds=None,
                   max_active_seconds=100)  # fmt: skip
    clock.advance(60)
    monitor.pause()
    clock.advance(1000)
    monitor.unpause()
    monitor.record_operation(tokens=1)
    assert monitor.should_continue(0.1)
    monitor.close("stopped", timeout=0)
    clock.advance(3600)
    again = ResourceMonitor.resume("lunch", tmp_path, clock=clock.clock)
    clock.advance(19)
    assert again.should_continue(0.1)
    clock.advance(1)
    assert not again.should_continue(0.1)
    assert again.should_continue(0.9)
    clock.advance(20)
    assert not again.should_continue(0.9)
    assert again.verdict.reason == Reason.LIMIT_EXCEEDED
    assert "active_duration at 100.0% (100 s of 100 s)" in again.verdict.message
    usage = again.get_usage_report()
    assert (usage.active_seconds, usage.duration_seconds) == (100, 4700)
    again.close(timeout=0)


def test_a_run_resumed_after_lunch_with_more_tokens_goes_on(
    clock: FakeClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the limit that leaves downtime out; nothing is warned of."""
    limits = ResourceLimits(max_tokens=1000, max_duration_seconds=3600)
    with ResourceMonitor(limits, "report", tmp_path, clock=clock.clock) as monitor:
        monitor.record_operation(tokens=850, api_call=True)
        assert not monitor.should_continue(0.1)
    clock.advance(4000)
    caplog.clear()
    more = ResourceLimits(max_tokens=5000, max_duration_seconds=None, max_active_seconds=3600)
    again = ResourceMonitor.resume("report", tmp_path, more, clock=clock.clock)
    assert again.should_continue(0.1)
    assert caplog.text == ""
    again.close(timeout=0)


def test_it_is_in_what_people_read_where_it_is_limited(clock: FakeClock, make: Make) -> None:
    """Summary, check, remaining time; without a limit nothing is said of it."""
    monitor = make(max_duration_seconds=1000, max_active_seconds=100,
                   active_duration_warning_threshold=0.5)  # fmt: skip
    clock.advance(40)
    assert monitor.get_usage_summary()[ACTIVE] == {
        "used": 40, "limit": 100, "percentage": 40, "remaining": 60,
    }  # fmt: skip
    assert monitor.get_time_remaining() == 60
    clock.advance(10)
    assert monitor.check_limits().approaching == (ACTIVE,)
    assert ACTIVE not in make().get_usage_summary()
    assert make().get_time_remaining() == 3600
    assert make(max_duration_seconds=None).get_time_remaining() is None


def test_the_quick_answer_ends_where_the_active_time_crosses_a_line(
    clock: FakeClock, make: Make
) -> None:
    """Between the lines the run is not looked into, and never past one."""
    monitor = make(max_duration_seconds=None, max_active_seconds=100)
    assert monitor.should_continue(0.5)
    guard = monitor._guard
    assert guard.unchanged_until == pytest.approx(clock.clock.monotonic() + 80)
    clock.advance(30)
    monitor.pause()
    clock.advance(500)
    assert monitor.should_continue(0.5)
    assert guard.unchanged_until == math.inf, "while it is paused no line lies ahead"
    assert guard.next_change_in() is None
    monitor.unpause()
    assert guard.unchanged_until == pytest.approx(clock.clock.monotonic() + 50)
    assert guard.next_change_in() == pytest.approx(50)
    clock.advance(50)
    assert not monitor.should_continue(0.5)


def test_a_run_without_the_limit_pays_nothing_for_it(make: Make) -> None:
    """It is not worked out, and unpausing has nothing to look into."""
    monitor = make()
    assert monitor.should_continue()
    assert ACTIVE not in monitor._guard.local.used()
    before = monitor._guard.unchanged_until
    monitor.pause()
    monitor.unpause()
    assert monitor._guard.unchanged_until == before


def test_limit_and_what_was_carried_over_are_shown(
    clock: FakeClock, make: Make, tmp_path: Path
) -> None:
    """The carried part only by a run that has one."""
    monitor = make(session_id="shown", project_root=tmp_path, max_active_seconds=100)
    clock.advance(30)
    monitor.record_operation(tokens=1)
    assert exposed(monitor)[semconv.LIMIT.name, ACTIVE] == 100
    assert exposed(monitor)[semconv.WARNING_THRESHOLD.name, ACTIVE] == 0.8
    assert (semconv.CARRIED_OVER.name, ACTIVE) not in exposed(monitor)
    monitor.close("failed", timeout=0)
    again = ResourceMonitor.resume("shown", tmp_path, clock=clock.clock)
    clock.advance(5)
    shown = exposed(again)
    assert shown[semconv.CARRIED_OVER.name, ACTIVE] == 30
    assert shown[semconv.ACTIVE_SECONDS.name, ""] == 35
    again.close(timeout=0)


def test_a_checkpoint_without_the_limit_is_one_an_earlier_version_reads(
    make: Make, tmp_path: Path
) -> None:
    """Its keys are those of before; with it they are there, and come back."""
    names = {
        "max_active_seconds", "active_duration_warning_threshold",
        "max_tool_calls", "tool_call_warning_threshold", "wrap_up_calls",
    }  # fmt: skip
    path = make(session_id="old", project_root=tmp_path).checkpoint()
    assert path is not None
    written = json.loads(path.read_text())["limits"]
    assert written.keys() == set(LIMIT_KEYS) - names
    assert "tool_calls" not in json.loads(path.read_text())["usage"]
    for limits in (
        ResourceLimits(max_active_seconds=5),
        ResourceLimits(active_duration_warning_threshold=0.5),
        ResourceLimits(max_tool_calls=5),
    ):
        assert ResourceLimits.from_dict(limits.to_dict()) == limits


def judged(attributes: RunAttributes, at: float, **rules: float) -> str:
    """Return the sidecar's reason for a run it saw at 1000, as of ``at``."""
    ledger = Ledger()
    seen = RunObservation("run", "a", 1000.0, {(semconv.TOKENS, ""): 1}, attributes)
    ledger.apply(Observation("scrape", 1000.0, (seen,)))
    by = Rules(bounds_from(dict(rules), {}, "sidecar"), stale_after=100.0)
    known = ledger.snapshot(ledger.runs["run"], at, by.ceilings)
    return str(verdict_from_snapshot(known, by, at).reason)


def test_the_sidecar_holds_runs_to_a_ceiling_on_it() -> None:
    """Those without a limit of their own, too; it goes on by the sidecar's clock."""
    attributes = RunAttributes(started_at=1.0, incarnation_at=1.0, duration=999.0, state="running")
    assert judged(attributes._replace(active=99.0), 1000.0, active_duration=100.0) == (
        "approaching_limit_progress_unknown"
    )
    assert (
        judged(attributes._replace(active=99.0), 1001.0, active_duration=100.0) == "limit_exceeded"
    )
    assert judged(attributes._replace(active=9.0), 1001.0, active_duration=100.0) == "within_limits"
    own = attributes._replace(active=101.0, limits={ACTIVE: 100.0})
    assert judged(own, 1000.0) == "limit_exceeded"
    assert judged(attributes._replace(active=101.0), 1000.0) == "within_limits"
    paused = attributes._replace(active=99.0, state="paused")
    assert judged(paused, 1060.0, active_duration=100.0) == "approaching_limit_progress_unknown"
