"""Wait until a run must stop, for those who want to be interrupted rather than ask.

No extra thread: who waits wakes at the moment the passing of time may change the verdict, and is
woken when a count or the sidecar does.
"""

from __future__ import annotations

import math
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from otel_budget.core import validation

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_budget.core.verdict import Verdict
    from otel_budget.sdk.guard import Guard
    from otel_budget.sdk.run_record import RunRecord

T = TypeVar("T")

#: Seconds added to a computed moment: a wait that ends a hair early would only be waited again.
_SLACK = 0.001
#: Seconds after which it is looked again in any case: a limit may lie beyond what a wait can be,
#: and a wait stands still while the machine is suspended.
_LONGEST_WAIT = 30.0


def wait_for_stop(guard: Guard, record: RunRecord, timeout: float | None) -> Verdict | None:
    """Block until the verdict is stop and return it; None at the timeout or when the run ends."""
    return block(guard, _Stop(guard, record, timeout).look)


async def wait_for_stop_async(
    guard: Guard,
    record: RunRecord,
    timeout: float | None,  # noqa: ASYNC109 - None at the timeout, like its blocking twin
) -> Verdict | None:
    """Do the same without blocking the event loop."""
    return await block_async(guard, _Stop(guard, record, timeout).look)


def block(guard: Guard, look: Callable[[], tuple[T, float]]) -> T:
    """Look, and again whenever the verdict may have changed; return what is seen in the end.

    look: returns what is to be returned, and the seconds until the next look; none: it is the end.
    """
    # No lock of this module's: a signal handler may wake the thread that it interrupted.
    woken: SimpleQueue[None] = SimpleQueue()

    def wake() -> None:
        woken.put(None)

    guard.listeners.add(wake)
    try:
        while True:
            while not woken.empty():
                woken.get()
            seen, pause = look()
            if pause <= 0:
                return seen
            with suppress(Empty):
                woken.get(timeout=pause)
    finally:
        guard.listeners.discard(wake)


async def block_async(guard: Guard, look: Callable[[], tuple[T, float]]) -> T:
    """Do the same without blocking the event loop."""
    import asyncio  # callers of this have it loaded; for all others it takes its time

    woken = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closing: there is no one left to wake
            loop.call_soon_threadsafe(woken.set)

    guard.listeners.add(wake)
    try:
        while True:
            woken.clear()
            seen, pause = look()
            if pause <= 0:
                return seen
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await woken.wait()
    finally:
        guard.listeners.discard(wake)


class Deadline:
    """Until when it is waited, and how long until the next look."""

    def __init__(self, guard: Guard, record: RunRecord, timeout: float | None) -> None:
        """Count from now. timeout: seconds; None waits for as long as it takes."""
        self._guard, self._monotonic = guard, record.clock.monotonic
        self._at = math.inf
        if timeout is not None:
            # A deadline that has passed already leaves a negative rest: look once, then.
            passed = isinstance(timeout, int | float) and timeout < 0
            rest = 0.0 if passed else validation.seconds("timeout", timeout)
            self._at = self._monotonic() + rest

    def pause(self) -> float:
        """Return the seconds until the next look; none once the time is over."""
        change = self._guard.next_change_in()
        pause = _LONGEST_WAIT if change is None else min(change + _SLACK, _LONGEST_WAIT)
        return min(pause, self._at - self._monotonic())


class _Stop:
    """What is looked for: that the run must stop, or is over."""

    def __init__(self, guard: Guard, record: RunRecord, timeout: float | None) -> None:
        self._guard, self._record = guard, record
        self._deadline = Deadline(guard, record, timeout)

    def look(self) -> tuple[Verdict | None, float]:
        """Return a stop, or None, and the seconds until the next look; 0 when the wait is over."""
        verdict = self._guard.reconsider(self._guard.progress)
        if not verdict.should_continue:
            self._guard.told_to_stop = True
            return verdict, 0.0
        if self._record.closed_at is not None:
            return None, 0.0
        return None, self._deadline.pause()
