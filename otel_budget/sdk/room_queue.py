"""Waiting for room that calls under way hold: by threads, and in an event loop.

Whoever gives something back serves those who wait, in order: what is free is held for the first of
them before it wakes. Who waits looks again at what stops the run, too.
"""

from __future__ import annotations

import math
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from otel_budget.sdk.reservations import Reservation, Short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_budget.sdk.reservations import Request, Room

#: Seconds after which it is looked again in any case: a wait stands still while the machine sleeps.
_LONGEST_WAIT: Final = 30.0
#: Seconds added to a computed moment: a wait that ends a hair early would only be waited again.
_SLACK: Final = 0.001


class Waiter:
    """One who waits: what both ways have in common."""

    short: Short

    def __init__(self, room: Room, request: Request, wake: Callable[[], None]) -> None:
        """Wait for nothing yet. wake: from any thread; must not wait."""
        self.room, self.request, self._wake = room, request, wake
        self._found: Reservation | Short | None = None
        self._answered = False

    def answer(self, found: Reservation | Short | None) -> None:
        """Take what was held, or why nothing ever is to be."""
        self._found, self._answered = found, True
        self._wake()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Be woken when a verdict or a limit may have changed. Gives back what it leaves unused."""
        guards = self.room.guards
        for guard in guards:
            guard.listeners.add(self._wake)
        try:
            yield
        except BaseException:
            self.room.leave(self)
            if isinstance(self._found, Reservation):
                self._found.end()
            raise
        finally:
            for guard in guards:
                guard.listeners.discard(self._wake)

    def pauses(self, check: Callable[[], None], timeout: float | None) -> Iterator[float]:
        """Yield the seconds to wait until the next look; ends with an answer, at the timeout, or
        with the run.

        check: raises BudgetExceeded if the run must stop.
        """
        guard = self.room.guards[0]
        deadline = math.inf if timeout is None else guard.now() + timeout
        while not self._answered:
            check()
            left = deadline - guard.now()
            if left <= 0 or self.room.is_over:
                return
            change = guard.next_change_in()
            pause = _LONGEST_WAIT if change is None else min(change + _SLACK, _LONGEST_WAIT)
            yield min(pause, left)
            self.room.look()

    def outcome(self) -> Reservation | Short | None:
        """Return what it came to; nothing is waited for any more."""
        self.room.leave(self)
        return self._found if self._answered else self.short


def is_held(found: Reservation | Short | None) -> bool:
    """Tell whether what was found is that others hold the room."""
    return isinstance(found, Short) and found.is_held


def wait_for_room(
    room: Room, request: Request, check: Callable[[], None], timeout: float | None
) -> Reservation | Short | None:
    """Take room, and wait for what others hold. timeout: seconds; None: for ever.

    check: raises BudgetExceeded if the run must stop, which ends the wait.
    """
    woken = threading.Event()
    waiter = Waiter(room, request, woken.set)
    with waiter.listening():
        found = room.take(request, None, waiter, surely=True)
        if not is_held(found):
            return found
        for pause in waiter.pauses(check, timeout):
            woken.wait(pause)
            woken.clear()
        return waiter.outcome()


async def wait_for_room_async(
    room: Room,
    request: Request,
    check: Callable[[], None],
    timeout: float | None,  # noqa: ASYNC109 - says why at the timeout, like its blocking twin
) -> Reservation | Short | None:
    """Do the same without blocking the event loop."""
    import asyncio  # callers of this have it loaded; for all others it takes its time

    woken = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closing: there is no one left to wake
            loop.call_soon_threadsafe(woken.set)

    waiter = Waiter(room, request, wake)
    with waiter.listening():
        found = room.take(request, None, waiter, surely=True)
        if not is_held(found):
            return found
        for pause in waiter.pauses(check, timeout):
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await woken.wait()
            woken.clear()
        return waiter.outcome()
