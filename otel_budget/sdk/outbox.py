"""What is to be told to others, in the order in which it happened, by one thread at a time."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Outbox:
    """Calls that wait until no lock is held."""

    def __init__(self) -> None:
        """Begin empty."""
        self._waiting: deque[Callable[[], None]] = deque()
        self._delivering = threading.Lock()

    def add(self, calls: Iterable[Callable[[], None]]) -> None:
        """Have these made by the next delivery. The caller's lock keeps the order."""
        self._waiting.extend(calls)

    def deliver(self) -> None:
        """Make them, unless another thread is just doing so: it makes these too."""
        while self._waiting and self._delivering.acquire(blocking=False):
            try:
                while self._waiting:
                    self._waiting.popleft()()
            finally:
                self._delivering.release()
