"""Wait until a run must stop, for those who want to be interrupted rather than ask.

No extra thread: those who wait wake at the moment the passing of time may change the verdict,
and is woken when a count or the sidecar does.
"""

from __future__ import annotations

import math
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from otel_budget.core import validation

if TYPE_CHECKING:
    from otel_budget.core.verdict import Verdict
    from otel_budget.sdk.guard import Guard
    from otel_budget.sdk.run_record import RunRecord

#: Seconds added to a computed moment: a wait that ends a hair early would only be waited again.
_SLACK = 0.001
#: Seconds after which it is looked again in any case: a limit may lie beyond what a wait can be,
#: and a wait stands still while the machine is suspended.
_LONGEST_WAIT = 30.0


def wait_for_stop(guard: Guard, record: RunRecord, timeout: float | None) -> Verdict | None:
    """Block until the verdict is stop and return it; None at the timeout or when the run ends."""
    waiter, woken = _Waiter(guard, record, timeout), threading.Event()
    guard.listeners.add(woken.set)
    try:
        while True:
            woken.clear()
            verdict, pause = waiter.look()
            if pause <= 0:
                return verdict
            woken.wait(pause)
    finally:
        guard.listeners.discard(woken.set)


async def wait_for_stop_async(
    guard: Guard,
    record: RunRecord,
    timeout: float | None,  # noqa: ASYNC109 - None at the timeout, like its blocking twin
) -> Verdict | None:
    """Do the same without blocking the event loop."""
    import asyncio  # callers of this have it loaded; for all others it takes its time

    waiter, woken = _Waiter(guard, record, timeout), asyncio.Event()
    loop = asyncio.get_running_loop()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closing: there is no one left to wake
            loop.call_soon_threadsafe(woken.set)

    guard.listeners.add(wake)
    try:
        while True:
            woken.clear()
            verdict, pause = waiter.look()
            if pause <= 0:
                return verdict
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await woken.wait()
    finally:
        guard.listeners.discard(wake)


class _Waiter:
    """What both ways of waiting have in common: look, and how long until the next look."""

    def __init__(self, guard: Guard, record: RunRecord, timeout: float | None) -> None:
        self._guard, self._record = guard, record
        self._deadline = math.inf
        if timeout is not None:
            # A deadline that has passed already leaves a negative rest: look once, then.
            passed = isinstance(timeout, int | float) and timeout < 0
            rest = 0.0 if passed else validation.seconds("timeout", timeout)
            self._deadline = record.clock.monotonic() + rest

    def look(self) -> tuple[Verdict | None, float]:
        """Return a stop, or None, and the seconds until the next look; 0 when the wait is over."""
        verdict = self._guard.reconsider(self._guard.progress)
        if not verdict.should_continue:
            self._guard.told_to_stop = True
            return verdict, 0.0
        if self._record.closed_at is not None:
            return None, 0.0
        change = self._guard.next_change_in()
        pause = _LONGEST_WAIT if change is None else min(change + _SLACK, _LONGEST_WAIT)
        return None, min(pause, self._deadline - self._record.clock.monotonic())
