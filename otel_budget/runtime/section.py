"""A lock that nobody needs to wait for who only hands in work.

For what finalizers and signal handlers must be able to do: they run in the middle of anything, also
of what the lock guards. What is handed in while the lock is held is done by who holds it.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from otel_budget.runtime.fork import in_child

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds to wait for the lock: what is done with it takes microseconds. Only a signal handler, in
#: the middle of what the holder waits for, waits as long.
LONGEST: Final = 5.0


class Section:
    """What is done in it is done one at a time, and never in the middle of each other.

    ``lock``, ``busy`` and ``late`` are for those who cannot afford the calls: do what ``enter`` and
    ``leave`` do.
    """

    def __init__(self) -> None:
        """Begin with the lock free, as in every forked child."""
        self.late: deque[Callable[[], None]] = deque()
        """What was handed in, and is not done yet."""
        self._renew()
        in_child(self._renew)

    def _renew(self) -> None:
        self.lock, self.busy = threading.RLock(), False
        self.late.clear()

    def enter(self) -> bool:
        """Take the lock, and wait for it; False in the middle of what is done with it."""
        return self._begin() if self.lock.acquire(timeout=LONGEST) else False

    def enter_if_free(self) -> bool:
        """Take the lock; False where that means to wait, or to come before what was handed in."""
        return not self.late and self.lock.acquire(blocking=False) and self._begin()

    def _begin(self) -> bool:
        if self.busy:
            self.lock.release()
            return False
        self.busy = True
        return True

    def leave(self) -> None:
        """Let go of the lock, and do what was handed in meanwhile."""
        self.busy = False
        self.lock.release()
        if self.late:
            self.catch_up()

    def hand_in(self, work: Callable[[], None]) -> None:
        """Have something done: here and now, or by who has the lock. Never waits."""
        self.late.append(work)
        self.catch_up()

    def catch_up(self) -> None:
        # Looked at again after each release: what came just before it would be left.
        while self.late and self.lock.acquire(blocking=False):
            if not self._begin():
                return
            try:
                self.late.popleft()()
            finally:
                self.busy = False
                self.lock.release()
