"""Waiting for the stop: woken by counts, by time, by the end, from wherever they come."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from otel_budget import InvalidValueError, ResourceLimits, ResourceMonitor, Verdict
from otel_budget.core.reasons import Reason
from otel_budget.testing import FakeClock
from tests.support.monitors import Make

LONG = 30.0
"""Seconds nobody waits: if a wait ends only by this, the test fails."""


def waiting(monitor: ResourceMonitor, timeout: float | None = LONG) -> Callable[[], Verdict | None]:
    """Wait in another thread, and return once it does; call what is returned for the answer."""
    answers: list[Verdict | None] = []
    thread = threading.Thread(target=lambda: answers.append(monitor.wait_for_stop(timeout)))
    thread.start()
    while not monitor._guard.listeners and thread.is_alive():
        time.sleep(0.0005)

    def answer() -> Verdict | None:
        thread.join(LONG / 2)
        assert not thread.is_alive(), "it still waits"
        return answers[0]

    return answer


def test_a_run_that_must_stop_already_is_told_at_once(make: Make) -> None:
    """Whatever the timeout."""
    monitor = make(max_tokens=0)
    verdict = monitor.wait_for_stop(LONG)
    assert verdict is not None
    assert verdict.reason == Reason.LIMIT_EXCEEDED


def test_tokens_from_another_thread_wake_who_waits(make: Make) -> None:
    """At the record that reached the limit, with the numbers of that moment."""
    monitor = make(max_tokens=100)
    monitor.record_operation(1)
    answer = waiting(monitor, None)
    monitor.record_operation(98)
    monitor.record_operation(1)
    verdict = answer()
    assert verdict is not None
    assert verdict.resources["tokens"].used == 100


def test_lowered_limits_wake_who_waits(make: Make) -> None:
    """From wherever they come."""
    monitor = make(max_tokens=100)
    monitor.record_operation(10)
    answer = waiting(monitor)
    monitor.update_limits(max_tokens=10)
    assert answer() is not None


@pytest.mark.parametrize("progress", [0.5, None])
def test_the_passing_of_time_wakes_who_waits(progress: float | None, session_id: str) -> None:
    """At the warning if the progress says so, else at the limit; nobody has to poll."""
    limits = ResourceLimits(max_duration_seconds=0.1, duration_warning_threshold=0.5)
    monitor = ResourceMonitor(limits, session_id)
    monitor.should_continue(progress)
    verdict = monitor.wait_for_stop(LONG)
    assert verdict is not None
    used, reason = verdict.resources["duration"].used, verdict.reason
    assert reason == (Reason.LIMIT_EXCEEDED if progress is None else Reason.APPROACHING_LIMIT)
    assert used >= (0.1 if progress is None else 0.05)
    monitor.close(timeout=0)


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_the_timeout_ends_a_wait_without_a_verdict(timeout: float, session_id: str) -> None:
    """0 is a look, and no more."""
    monitor = ResourceMonitor(None, session_id)
    assert monitor.wait_for_stop(timeout) is None
    assert asyncio.run(monitor.wait_for_stop_async(timeout)) is None
    monitor.close(timeout=0)


def test_the_end_of_the_run_ends_a_wait_without_a_verdict(make: Make) -> None:
    """Also one without a timeout, and one that begins afterwards."""
    monitor = make()
    answer = waiting(monitor, None)
    monitor.close(timeout=0)
    assert answer() is None
    assert monitor.wait_for_stop() is None
    assert monitor._guard.listeners == set()


def test_a_limit_beyond_what_a_wait_can_be_is_waited_for(make: Make) -> None:
    """A timeout beyond it, too."""
    monitor = make(max_duration_seconds=2.0**53)
    answer = waiting(monitor, 2.0**53)
    monitor.record_operation(2**50)
    assert answer() is not None


def test_all_who_wait_are_woken(make: Make) -> None:
    """By one record."""
    monitor = make(max_tokens=1)
    answers = [waiting(monitor) for _ in range(4)]
    monitor.record_operation(1)
    assert all(answer() is not None for answer in answers)


def test_a_run_that_was_told_by_a_wait_was_stopped(make: Make) -> None:
    """Like one that asked."""
    with make(max_tokens=1) as monitor:
        monitor.record_operation(1)
        monitor.wait_for_stop()
    assert monitor._record.state == "stopped"


def test_the_async_twin_is_woken_from_a_thread(make: Make) -> None:
    """The loop goes on meanwhile."""
    monitor = make(max_tokens=100)
    monitor.record_operation(1)
    turns = 0

    async def run() -> Verdict | None:
        nonlocal turns
        waiter = asyncio.create_task(monitor.wait_for_stop_async(LONG))
        await asyncio.sleep(0)  # it waits from here on
        thread = threading.Thread(target=monitor.record_operation, args=(99,))
        thread.start()
        while not waiter.done():
            turns += 1
            await asyncio.sleep(0.0005)
        thread.join()
        return await waiter

    verdict = asyncio.run(run())
    assert verdict is not None
    assert verdict.resources["tokens"].used == 100
    assert turns > 0


def test_the_async_twin_is_woken_by_time_and_by_the_end(session_id: str) -> None:
    """As the other is."""
    monitor = ResourceMonitor(ResourceLimits(max_duration_seconds=0.05), session_id)

    async def by_the_end() -> Verdict | None:
        waiter = asyncio.create_task(monitor.wait_for_stop_async())
        await asyncio.sleep(0)  # it waits from here on
        monitor.close(timeout=0)
        return await waiter

    verdict = asyncio.run(monitor.wait_for_stop_async(LONG))
    assert verdict is not None
    assert verdict.reason == Reason.LIMIT_EXCEEDED
    monitor.update_limits(max_duration_seconds=None)
    assert asyncio.run(by_the_end()) is None


def test_a_cancelled_wait_is_cancelled_and_leaves_nothing(make: Make) -> None:
    """Also one that was cancelled in the moment it was woken."""
    monitor = make(max_tokens=10)

    async def run() -> None:
        waiter = asyncio.create_task(monitor.wait_for_stop_async(LONG))
        await asyncio.sleep(0)  # it waits from here on
        monitor.record_operation(9)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter

    asyncio.run(run())
    assert monitor._guard.listeners == set()
    monitor.record_operation(1)  # wakes nobody, and no loop that is closed


def test_a_wait_by_another_clock_looks_again_when_it_is_woken(clock: FakeClock, make: Make) -> None:
    """The clock decides, not how long the thread slept."""
    monitor = make(max_duration_seconds=100)
    answer = waiting(monitor)
    clock.advance(100)
    monitor._guard.wake()
    verdict = answer()
    assert verdict is not None
    assert verdict.resources["duration"].used == 100


@pytest.mark.parametrize("timeout", ["1", float("nan"), True])
def test_a_timeout_that_is_none_is_refused(timeout: Any, make: Make) -> None:
    """With its name and value."""
    with pytest.raises(InvalidValueError, match="timeout"):
        make().wait_for_stop(timeout)
