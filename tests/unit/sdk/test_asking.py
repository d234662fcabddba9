"""A run that was told to stop, and asks for more: who waits, how long, and what the run is then."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from otel_budget import InvalidValueError, ResourceMonitor, Verdict
from otel_budget.core.reasons import Reason
from otel_budget.sdk.refusals import Refusals
from otel_budget.testing import FakeClock, stop_verdict
from tests.support.monitors import Make
from tests.support.processes import until

LONG = 60.0
"""Seconds nobody waits: if a wait ends only by this, the test fails."""
Answer = Callable[[], Verdict | None]


def asking(monitor: ResourceMonitor, timeout: float | None = LONG) -> Answer:
    """Ask in another thread, and return once the run waits; call what is returned to be told."""
    answers: list[Verdict | None] = []
    before = monitor._record.waiting
    thread = threading.Thread(target=lambda: answers.append(monitor.wait_until_allowed(timeout)))
    thread.start()
    until(lambda: monitor._record.waiting > before or not thread.is_alive())

    def answer() -> Verdict | None:
        thread.join(LONG / 2)
        assert not thread.is_alive(), "it still waits"
        return answers[0]

    return answer


@pytest.fixture
def used_up(make: Make) -> ResourceMonitor:
    """A run at its limit."""
    monitor = make(max_tokens=100, max_duration_seconds=None)
    monitor.record_operation(100)
    assert not monitor.should_continue()
    return monitor


class TestReturning:
    """When the wait ends, and with what."""

    def test_a_run_that_may_go_on_is_told_so_at_once(self, make: Make) -> None:
        """It never waits."""
        monitor = make()
        assert monitor.wait_until_allowed() is not None
        assert monitor._record.state == "running"

    def test_higher_limits_let_it_go_on(self, used_up: ResourceMonitor) -> None:
        """With the verdict under these; the next question is answered the same."""
        answer = asking(used_up, None)
        used_up.update_limits(max_tokens=200)
        assert answer() is not None
        assert used_up.should_continue()
        assert not used_up._guard.listeners

    def test_a_raise_that_is_not_enough_is_waited_through(self, used_up: ResourceMonitor) -> None:
        """It is still told to stop."""
        answer = asking(used_up)
        used_up.update_limits(max_tokens=99)
        used_up.update_limits(max_tokens=300)
        allowed = answer()
        assert allowed is not None
        assert allowed.resources["tokens"].limit == 300

    def test_at_the_timeout_it_returns_nothing(self, used_up: ResourceMonitor) -> None:
        """And the run is what it was."""
        assert used_up.wait_until_allowed(0) is None
        assert used_up.verdict.reason == Reason.LIMIT_EXCEEDED
        assert used_up._record.state == "running"
        assert used_up.wait_until_allowed(-1) is None
        used_up.close()
        assert used_up._record.state == "stopped"

    @pytest.mark.parametrize("timeout", [float("nan"), "1", float("inf")])
    def test_a_timeout_that_is_none_is_refused(
        self, used_up: ResourceMonitor, timeout: float
    ) -> None:
        """And nobody waits."""
        with pytest.raises(InvalidValueError, match="timeout"):
            used_up.wait_until_allowed(timeout)
        assert not used_up._record.waiting

    def test_closing_the_run_ends_the_wait(self, used_up: ResourceMonitor) -> None:
        """The state is that of the end, and stays it."""
        answer = asking(used_up)
        used_up.close("failed")
        assert answer() is None
        assert (used_up._record.state, used_up._record.waiting_since) == ("failed", None)

    def test_all_who_wait_are_told(self, used_up: ResourceMonitor) -> None:
        """Threads, and a coroutine; while another thread records."""
        answers = [asking(used_up) for _ in range(3)]

        told: list[Verdict | None] = []

        async def ask() -> None:
            told.append(await used_up.wait_until_allowed_async(LONG))

        coroutine = threading.Thread(target=lambda: asyncio.run(ask()))
        coroutine.start()
        until(lambda: used_up._record.waiting == 4)
        used_up.record_operation(50)
        assert used_up._record.waiting == 4
        used_up.update_limits(max_tokens=1000)
        coroutine.join(LONG)
        allowed = (*told, *(answer() for answer in answers))
        assert [v and v.resources["tokens"].used for v in allowed] == [150] * 4
        assert used_up._record.state == "running"

    def test_a_coroutine_that_is_cancelled_waits_no_more(self, used_up: ResourceMonitor) -> None:
        """And the run does not stand still."""

        async def cancelled() -> None:
            task = asyncio.create_task(used_up.wait_until_allowed_async())
            await asyncio.sleep(0)
            assert used_up._record.state == "waiting"
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(cancelled())
        assert used_up._record.state == "running"
        assert not used_up._guard.listeners


class TestStandingStill:
    """What the run is while it waits."""

    def test_its_active_time_stands_still_and_its_duration_goes_on(
        self, used_up: ResourceMonitor, clock: FakeClock
    ) -> None:
        """Like a pause; it says since when."""
        clock.advance(5)
        answer = asking(used_up)
        assert used_up._record.waiting_since == clock.now
        clock.advance(60)
        assert used_up.get_usage_report().active_seconds == 5
        used_up.update_limits(max_tokens=None)
        answer()
        clock.advance(1)
        usage = used_up.get_usage_report()
        assert (usage.active_seconds, usage.duration_seconds) == (6, 66)
        assert used_up._record.waiting_since is None

    def test_a_run_that_its_user_paused_stays_paused_after_it(
        self, used_up: ResourceMonitor, clock: FakeClock
    ) -> None:
        """And one that is paused meanwhile, too; the two together stop the time once."""
        used_up.pause()
        clock.advance(3)
        answer = asking(used_up)
        assert used_up._record.state == "waiting"
        clock.advance(3)
        used_up.update_limits(max_tokens=None)
        answer()
        assert used_up._record.state == "paused"
        clock.advance(3)
        used_up.unpause()
        assert used_up.get_usage_report().active_seconds == 0

    def test_unpausing_it_meanwhile_lets_no_time_go_on(
        self, used_up: ResourceMonitor, clock: FakeClock
    ) -> None:
        """It waits still."""
        used_up.pause()
        answer = asking(used_up)
        used_up.unpause()
        clock.advance(9)
        assert used_up._record.state == "waiting"
        used_up.update_limits(max_tokens=None)
        answer()
        assert used_up.get_usage_report().active_seconds == 0

    def test_it_stands_still_until_the_last_one_who_waits_is_done(
        self, used_up: ResourceMonitor, clock: FakeClock
    ) -> None:
        """Since the first one began."""
        began = clock.now
        first = asking(used_up)
        clock.advance(1)
        assert used_up.wait_until_allowed(0) is None
        assert used_up._record.state == "waiting"
        assert used_up._record.waiting_since == began
        used_up.close()
        first()


@contextmanager
def on_signal(work: Callable[[], object]) -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, lambda *_: work())
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signals")
def test_a_signal_handler_in_the_thread_that_waits_may_raise_the_limits(
    used_up: ResourceMonitor,
) -> None:
    """Again and again, wherever in the wait it comes: it takes no lock that the wait holds."""
    raised = 0

    def more() -> None:
        nonlocal raised
        raised += 1
        used_up.update_limits(max_tokens=1000 if raised > 200 else 90)

    def send() -> None:
        until(lambda: used_up._record.waiting)
        while raised <= 200:
            os.kill(os.getpid(), signal.SIGUSR1)

    with on_signal(more):
        sender = threading.Thread(target=send)
        sender.start()
        assert used_up.wait_until_allowed(LONG) is not None
        sender.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_waits_for_nobody(used_up: ResourceMonitor) -> None:
    """Those who wait are in the parent: the child's copy of the run goes on."""
    answer = asking(used_up)
    child = os.fork()
    if not child:
        os._exit(0 if used_up._record.state == "running" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    used_up.close()
    answer()


class TestRefusals:
    """Which stop of an operator ends a wait."""

    STOP = stop_verdict("r", reason=Reason.OPERATOR_STOP, ordered_at=10.0, message="no")

    def test_one_that_held_before_is_waited_through(self) -> None:
        """It may be released; also after a time in which the sidecar was silent."""
        refusals = Refusals()
        assert [refusals.look(stop) for stop in (self.STOP, self.STOP, None, self.STOP)] == [
            None
        ] * 4

    def test_one_that_comes_during_the_wait_ends_it(self) -> None:
        """Another one in place of the first, too, though in the same words."""
        refusals, again = Refusals(), replace(self.STOP, ordered_at=11.0)
        assert [refusals.look(stop) for stop in (None, self.STOP)] == [None, self.STOP]
        refusals = Refusals()
        assert [refusals.look(stop) for stop in (self.STOP, again)] == [None, again]

    def test_between_two_waits_in_a_row_it_is_one_all_the_same(self) -> None:
        """Until the run was allowed to go on: then the next wait is another one."""
        refusals = Refusals()
        refusals.look(None)
        assert refusals.look(self.STOP) is self.STOP
        refusals.allowed()
        assert refusals.look(self.STOP) is None


def test_a_run_below_another_waits_for_the_limits_of_that_one(make: Make) -> None:
    """A raise there lets it go on here."""
    above = make(max_tokens=100)
    below = make(parent=above)
    below.record_operation(100)
    answer = asking(below)
    assert below.verdict.reason == Reason.PARENT_STOPPED
    above.update_limits(max_tokens=1000)
    assert answer() is not None
