"""The clocks go on while the machine is suspended: a duration is wall-clock time."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from otel_budget import ResourceMonitor
from otel_budget.sdk import clock as agents
from otel_budget.sidecar import clock as sidecars
from otel_budget.testing import FakeClock
from tests.support.monitors import Make


@pytest.fixture
def suspended(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds the machine was suspended: the monotonic clock knows nothing of them."""
    seconds = [0.0]
    monkeypatch.setattr(time, "CLOCK_BOOTTIME", 7, raising=False)
    monkeypatch.setattr(time, "clock_gettime", lambda _: 1000.0 + seconds[0])
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    monkeypatch.setattr(time, "time", lambda: 5000.0)
    return seconds


def test_the_agents_clock_goes_on_while_suspended(suspended: list[float]) -> None:
    """And so do the run's duration and its lease."""
    steady = agents.steady_seconds()
    suspended[0] = 3600.0
    assert steady() == 4600.0


def test_the_sidecars_clock_goes_on_while_suspended(suspended: list[float]) -> None:
    """Runs on other machines went on meanwhile."""
    clock = sidecars.steady_clock()
    assert clock() == 5000.0
    suspended[0] = 3600.0
    assert clock() == 8600.0


def test_without_such_a_clock_the_monotonic_one_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on while suspended where there is no other."""
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    assert agents.steady_seconds() is time.monotonic
    clock = sidecars.steady_clock()
    assert abs(clock() - time.time()) < 1


def test_on_macos_the_clock_is_the_one_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """There time.monotonic stands still while the machine sleeps."""
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(time, "clock_gettime", lambda which: float(which) + 0.5)
    assert agents.steady_seconds()() == time.CLOCK_MONOTONIC + 0.5
    monkeypatch.setattr(time, "time", lambda: 5000.0)
    assert sidecars.steady_clock()() == 5000.0


def test_the_active_time_of_a_run_is_without_the_machines_sleep(
    make: Make, clock: FakeClock
) -> None:
    """A laptop that was closed over night: the duration counts it, as wall-clock time."""
    monitor = make()
    monitor.record_operation(10)
    clock.advance(60)
    clock.sleep(38_880)
    clock.advance(30)
    used = monitor.get_usage_report()
    assert (used.duration_seconds, used.active_seconds) == (38_970.0, 90.0)


def test_sleep_within_a_pause_is_not_taken_off_twice(make: Make, clock: FakeClock) -> None:
    """The pause is measured by the same clock."""
    monitor = make()
    clock.advance(10)
    monitor.pause()
    clock.advance(5)
    clock.sleep(3600)
    clock.advance(5)
    monitor.unpause()
    clock.advance(20)
    monitor.close(timeout=0)
    clock.sleep(3600)
    assert monitor.get_usage_report().active_seconds == 30.0


def test_a_run_taken_up_again_goes_on_with_its_active_time(
    make: Make, clock: FakeClock, tmp_path: Path
) -> None:
    """Of both processes, without the sleep of either."""
    first = make(session_id="sleepy", project_root=tmp_path)
    first.record_operation(1)
    clock.advance(10)
    clock.sleep(1000)
    first.checkpoint()
    clock.advance(3600)
    again = ResourceMonitor.resume("sleepy", tmp_path, clock=clock.clock)
    clock.sleep(1000)
    clock.advance(7)
    used = again.get_usage_report()
    assert (used.active_seconds, used.duration_seconds) == (17.0, 5617.0)
    again.close(timeout=0)
