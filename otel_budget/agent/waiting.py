"""Wait until a run must stop, for those who want to be interrupted rather than ask.

No thread of its own: whoever waits wakes at the moment the passing of time may change the verdict,
and is woken when a count or the sidecar does.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_budget.agent.guard import Guard
    from otel_budget.instrumentation.record import SessionRecord
    from otel_budget.model.verdict import Verdict

#: Seconds added to a computed moment: a wait that ends a hair early would only be waited again.
_SLACK = 0.001
#: Seconds after which it is looked again in any case: a limit may lie beyond what a wait can be.
_LONGEST_WAIT = 3600.0


def wait_for_stop(guard: Guard, record: SessionRecord, timeout: float | None) -> Verdict | None:
    """Block until the verdict is stop and return it; None at the timeout or when the run ends."""
    woken = threading.Event()
    guard.listeners.add(woken.set)
    deadline = None if timeout is None else record.clock.monotonic() + timeout
    try:
        while True:
            woken.clear()
            verdict = guard.reconsider(guard.progress)
            if not verdict.should_continue:
                return verdict
            pause = _pause(guard, record, deadline)
            if pause <= 0:
                return None
            woken.wait(pause)
    finally:
        guard.listeners.discard(woken.set)


async def wait_for_stop_async(
    guard: Guard,
    record: SessionRecord,
    timeout: float | None,  # noqa: ASYNC109 - None at the timeout, like its blocking twin
) -> Verdict | None:
    """Do the same without blocking the event loop."""
    woken, loop = asyncio.Event(), asyncio.get_running_loop()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closing: nobody waits any more
            loop.call_soon_threadsafe(woken.set)

    guard.listeners.add(wake)
    deadline = None if timeout is None else record.clock.monotonic() + timeout
    try:
        while True:
            woken.clear()
            verdict = guard.reconsider(guard.progress)
            if not verdict.should_continue:
                return verdict
            pause = _pause(guard, record, deadline)
            if pause <= 0:
                return None
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await woken.wait()
    finally:
        guard.listeners.discard(wake)


def _pause(guard: Guard, record: SessionRecord, deadline: float | None) -> float:
    """Return how long to wait before looking again; 0 for no longer at all."""
    if record.closed_at is not None:
        return 0.0
    change = guard.next_change_in()
    pause = _LONGEST_WAIT if change is None else min(change + _SLACK, _LONGEST_WAIT)
    if deadline is None:
        return pause
    return min(pause, max(0.0, deadline - record.clock.monotonic()))
