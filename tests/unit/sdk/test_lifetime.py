"""Monitors that nobody closes: dropped, left to the interpreter's end, or a parent's."""

from __future__ import annotations

import gc
import logging
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_budget import ResourceMonitor
from otel_budget.sdk.checkpoints.store import CheckpointFolder
from otel_budget.sdk.lifecycle.at_exit import AT_EXIT, LEFT_BEHIND, ExitOrder, LeftBehind
from otel_budget.sdk.metrics.collector import RUNS
from otel_budget.testing import FakeClock


def dropped(clock: FakeClock, session_id: str, root: Path | None = None) -> weakref.ref[object]:
    """Use a monitor, drop it, and return what is left: a reference to its run."""
    monitor = ResourceMonitor(None, session_id, root, clock=clock.clock)
    monitor.record_operation(5)
    monitor.keep_state({"step": 1})
    return weakref.ref(monitor._run)


def test_a_dropped_monitor_closes_its_run_and_frees_it(
    clock: FakeClock, session_id: str, tmp_path: Path
) -> None:
    """Its last checkpoint is there, and its final state waits to be scraped."""
    run = dropped(clock, session_id, tmp_path)
    LEFT_BEHIND.finish()
    gc.collect()
    assert run() is None
    (record,) = RUNS._groups[session_id].records
    assert (record.state, record.tokens) == ("completed", 5)
    saved = CheckpointFolder(tmp_path, session_id).read()
    assert (saved.usage.tokens, saved.state) == (5, {"step": 1})
    assert saved.outcome is None, "an exception may have taken the monitor along: it can go on"


def test_a_dropped_run_that_was_told_to_stop_was_stopped(clock: FakeClock, session_id: str) -> None:
    """As if it had been closed in time."""
    monitor = ResourceMonitor(None, session_id, clock=clock.clock)
    monitor.update_limits(max_tokens=0)
    assert not monitor.should_continue()
    del monitor
    LEFT_BEHIND.finish()
    assert RUNS._groups[session_id].records[0].state == "stopped"


def test_a_monitor_collected_in_the_middle_of_anything_waits_for_no_lock(
    clock: FakeClock, session_id: str
) -> None:
    """A collector may strike under any lock, and another thread may hold that lock."""
    monitor = ResourceMonitor(None, session_id, clock=clock.clock)
    record = monitor._record
    loop = [monitor]
    loop.append(loop)  # type: ignore[arg-type] # a cycle, so that only the collector frees it
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with record.lock, RUNS._lock:
            held.set()
            go_on.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    del monitor, loop
    gc.collect()  # would hang if the finalizer closed the run by itself
    assert record.closed_at is None
    go_on.set()
    holder.join()
    LEFT_BEHIND.finish()
    assert record.closed_at is not None


def test_ten_thousand_dropped_monitors_leave_nothing_running(clock: FakeClock) -> None:
    """Not a thread each, and no work for the interpreter's end."""
    before, threads = len(AT_EXIT.first), ours()
    for number in range(10_000):
        dropped(clock, f"dropped-{number}")
    LEFT_BEHIND.finish()
    assert len(AT_EXIT.first) <= before + 1
    assert len(ours() - threads) <= 1  # it may be on its last lines


def ours() -> set[threading.Thread]:
    """Return the threads of agents; those of sidecars that other tests ran may come and go."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("otel-budget")}


def test_a_forked_child_closes_nothing_of_its_parents(
    clock: FakeClock, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the parent's objects, and not its runs."""
    monitor = ResourceMonitor(None, session_id, clock=clock.clock)
    run = monitor._run
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        run.dropped()
        LEFT_BEHIND.finish()
    assert run.record.closed_at is None
    monitor.close(timeout=0)


def noted(notes: list[str], name: str) -> Callable[[], None]:
    """Return work that notes its name, and fails if it is called bad."""

    def work() -> None:
        notes.append(name)
        if name.startswith("bad"):
            raise RuntimeError(name)

    return work


def test_the_end_does_its_work_in_order_whatever_fails(caplog: pytest.LogCaptureFixture) -> None:
    """Runs, then the wait for a scrape, then the endpoints."""
    caplog.set_level(logging.ERROR, "otel_budget")
    order, notes = ExitOrder(), list[str]()
    order.last[1] = noted(notes, "endpoint")
    order.first[1] = noted(notes, "run")
    order.first[2] = noted(notes, "bad run")
    order.then[1] = noted(notes, "scrape")
    order.run()
    order.run()
    assert notes == ["bad run", "run", "scrape", "endpoint"]
    assert "bad run" in caplog.text


def test_who_interrupts_the_wait_at_the_end_does_not_keep_endpoints_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A second Ctrl-C; the entry in the folder is to be taken back all the same."""
    order, notes = ExitOrder(), list[str]()

    def interrupted() -> None:
        raise KeyboardInterrupt

    order.then[1] = interrupted
    order.last[1] = noted(notes, "endpoint")
    order.run()
    assert notes == ["endpoint"]
    assert "interrupted while the process ends" in caplog.text


def test_what_is_handed_over_at_the_very_end_is_done_by_the_end_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Then no thread can be had any more."""

    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    order, notes = ExitOrder(), list[str]()
    behind = LeftBehind(order)
    monkeypatch.setattr(threading.Thread, "start", none)
    behind.hand_over(noted(notes, "run"))
    assert notes == []
    order.run()
    assert notes == ["run"]


def test_a_run_closed_from_within_a_record_does_not_wait_for_itself(
    clock: FakeClock, session_id: str, tmp_path: Path
) -> None:
    """A signal handler comes in the middle of anything, and may well close the run."""
    monitor = ResourceMonitor(None, session_id, tmp_path, clock=clock.clock)
    monitor.record_operation(5)
    with monitor._guard._lock, monitor._record.lock, RUNS._lock:
        monitor.checkpoint({"signal": 15})
        assert monitor.should_continue()
        monitor.close("stopped", timeout=0)
    assert monitor._record.state == "stopped"
