"""Automatic checkpoints: at the interval, with the kept state, by one thread that ends."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_budget.sdk.checkpoints.autosave import Autosaver
from otel_budget.sdk.checkpoints.store import CheckpointFolder
from otel_budget.sdk.clock import Clock
from otel_budget.testing import FakeClock
from tests.support.monitors import Make


def soon(look: Callable[[], object]) -> None:
    """Wait until there is something to see, or fail."""
    until = time.monotonic() + 10
    while not look():
        assert time.monotonic() < until
        time.sleep(0.001)


class Saves:
    """A run that notes when it was saved."""

    def __init__(self, *answers: float | Exception | None) -> None:
        """Answer with these, one after the other."""
        self.answers, self.saved = list(answers), threading.Semaphore(0)

    def autosave(self) -> float | None:
        """Note it and answer."""
        answer = self.answers.pop(0)
        self.saved.release()
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_run_is_saved_at_its_interval_until_it_says_no_more() -> None:
    """Then the thread ends; the next run begins another."""
    saver = Autosaver(Clock())
    run = Saves(0.001, 0.001, None)
    saver.watch(run, 0.001)
    for _ in range(3):
        assert run.saved.acquire(timeout=10)
    soon(lambda: saver._thread is None)
    other = Saves(None)
    saver.watch(other, 0.0)
    assert other.saved.acquire(timeout=10)
    soon(lambda: saver._thread is None)


def test_one_that_fails_does_not_keep_the_others_from_theirs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged, and gets no further ones."""
    saver = Autosaver(Clock())
    bad, good = Saves(RuntimeError("its own"), 0.0), Saves(0.001, 0.001, None)
    saver.watch(bad, 0.0)
    saver.watch(good, 0.0)
    for _ in range(3):
        assert good.saved.acquire(timeout=10)
    soon(lambda: saver._thread is None)
    assert bad.answers == [0.0]
    assert "its own" in caplog.text


def test_an_interval_longer_than_a_wait_can_be_is_waited_for_all_the_same() -> None:
    """The thread goes on, for the sake of the others."""
    saver = Autosaver(Clock())
    patient, quick = Saves(), Saves(None)
    ticket = saver.watch(patient, 2.0**53)
    time.sleep(0.01)  # for the thread to come to wait
    saver.watch(quick, 0.0)
    assert quick.saved.acquire(timeout=10)
    saver.forget(ticket)
    soon(lambda: saver._thread is None)


def test_a_forgotten_run_leaves_nothing_behind(clock: FakeClock) -> None:
    """Neither a reference nor, among many, an entry."""
    saver = Autosaver(clock.clock)
    stays = Saves()
    last = saver.watch(stays, 300)
    for _ in range(10_000):
        saver.forget(saver.watch(Saves(), 300))
    assert len(saver._due) < 200
    assert len(saver._runs) == 1
    saver.forget(last)
    soon(lambda: saver._thread is None)
    assert saver._due == []


def test_runs_are_held_weakly(clock: FakeClock) -> None:
    """A run that is gone needs no checkpoint."""
    saver = Autosaver(clock.clock)
    run = Saves()
    ref, ticket = weakref.ref(run), saver.watch(run, 300)
    del run
    gc.collect()
    assert ref() is None
    saver.forget(ticket)


def test_the_automatic_checkpoint_carries_the_state_that_was_kept(
    clock: FakeClock, make: Make, tmp_path: Path
) -> None:
    """And asks for the next one after the interval; a closed run asks for none."""
    monitor = make(session_id="auto", project_root=tmp_path, checkpoint_interval=30)
    monitor.keep_state({"step": 1})
    monitor.record_operation(5)
    clock.advance(30)
    assert monitor._run.checkpoints.autosave() == 30
    saved = CheckpointFolder(tmp_path, "auto").read()
    assert (saved.state, saved.usage.tokens, saved.usage.duration_seconds) == ({"step": 1}, 5, 30)
    monitor.close(timeout=0)
    assert monitor._run.checkpoints.autosave() is None


def test_the_first_use_starts_the_thread_and_closing_ends_it(
    clock: FakeClock, make: Make, tmp_path: Path
) -> None:
    """One for all runs of a process; none without a project."""
    before = set(threading.enumerate())

    def started() -> int:
        return len(set(threading.enumerate()) - before)

    make().record_operation(1)
    assert started() == 0
    monitors = [make(project_root=tmp_path) for _ in range(3)]
    for monitor in monitors:
        monitor.should_continue()
        monitor.record_operation(1)
    assert started() == 1
    for monitor in monitors:
        monitor.close(timeout=0)
    soon(lambda: started() == 0)


def test_other_limits_bring_another_interval_at_once(
    clock: FakeClock, make: Make, tmp_path: Path
) -> None:
    """Not only after the old one has passed."""
    monitor = make(project_root=tmp_path, checkpoint_interval=3000)
    monitor.should_continue()
    saver, *_ = monitor._run.checkpoints._scheduled or (None, 0, 0.0)
    assert saver is not None
    monitor.update_limits(checkpoint_interval=7)
    assert [due for due, ticket in saver._due if ticket in saver._runs] == [7.0]
