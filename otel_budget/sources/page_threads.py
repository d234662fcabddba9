"""The threads that read pages: what is cheap waits for nothing that is costly.

A page that takes the processor long is in order, and may be meant to hold others up. So there are
two threads. One takes the cheapest page first, and none that is costly; the other the page that has
waited longest, and after a costly one it rests for as long: pages that are costly have that share
of one processor in all, whoever shows them, and each has its turn. What a page is expected to take
is what one of that target took of late, or goes by its length.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
from collections import deque
from concurrent.futures import Future
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeVar

from otel_budget.workers import do

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

#: Seconds of processor time from which on a page is costly.
COSTLY: Final = 0.05
#: What a costly page has taken is rested so many times as long.
_REST: Final = 1.0
#: Seconds of processor time for each byte of a page that is not known yet, and of one that is.
_NEW: Final = 3e-7
_KNOWN: Final = 1e-8
#: A target that was costly is not taken for cheap at once.
_FADES: Final = 0.9


class Cost:
    """What the pages of one target take the processor, in seconds."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.last = self._high = 0.0

    def expected(self, size: int) -> float:
        """Return what a page of so many bytes may take."""
        return max(self._high, size * _KNOWN) if self._high else size * _NEW

    def note(self, seconds: float) -> None:
        """Take note of what one took."""
        self.last, self._high = seconds, max(seconds, self._high * _FADES)


class _Job:
    __slots__ = ("future", "taken", "work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self.future: Future[Any] = Future()
        self.work, self.taken = work, False


class PageThreads:
    """Two daemon threads, which start when there is a page."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._there = threading.Condition()
        self._number = count()
        self._cheap: list[tuple[float, int, _Job]] = []
        self._waiting: deque[_Job] = deque()
        self._life: object | None = None
        """Of the threads that run; None if none does."""

    async def run(self, work: Callable[[], T], cost: Cost, size: int) -> T:
        """Read a page of so many bytes, and take note of what that takes."""

        def read() -> T:
            began = time.thread_time()
            try:
                return work()
            finally:
                cost.note(time.thread_time() - began)

        job, expected = _Job(read), cost.expected(size)
        with self._there:
            if self._life is None:
                self._start()
            if expected < COSTLY:
                heapq.heappush(self._cheap, (expected, next(self._number), job))
            self._waiting.append(job)
            self._there.notify_all()
        found: T = await asyncio.wrap_future(job.future)
        return found

    def close(self) -> None:
        """Let go of the threads; a page that is being read is read to its end."""
        with self._there:
            self._life = None
            jobs = [job for job in self._waiting if not job.taken]
            self._waiting.clear()
            self._cheap.clear()
            self._there.notify_all()
        for job in jobs:
            job.future.cancel()

    def _start(self) -> None:
        self._life = life = object()
        for name, take, rest in (
            ("cheap", self._take_cheapest, 0.0), ("in-turn", self._take_longest, _REST),
        ):  # fmt: skip
            work = partial(self._work, life, take, rest)
            threading.Thread(target=work, name=f"pages-{name}", daemon=True).start()

    def _work(self, life: object, take: Callable[[], _Job | None], rest: float) -> None:
        while (job := self._next(life, take)) is not None:
            began = time.thread_time()
            do(job.future, job.work)
            del job  # what was read may be large
            took = time.thread_time() - began
            if rest and took >= COSTLY:
                time.sleep(rest * took)

    def _next(self, life: object, take: Callable[[], _Job | None]) -> _Job | None:
        """Wait for a page; None once this life of the threads is over."""
        with self._there:
            while self._life is life:
                job = take()
                if job is not None:
                    job.taken = True
                    return job
                self._there.wait()
        return None

    def _take_cheapest(self) -> _Job | None:
        while self._cheap:
            _, _, job = heapq.heappop(self._cheap)
            if not job.taken:
                return job
        return None

    def _take_longest(self) -> _Job | None:
        while self._waiting:
            job = self._waiting.popleft()
            if not job.taken:
                return job
        return None
