"""When a page is parsed, and on which thread: a cheap page never waits for a costly one.

A page that takes long to parse is valid, and may be meant to hold others up. So there are two
threads. One takes the cheapest page first, and never a costly one; the other takes the page that
has waited longest, and rests after a costly one for as long as that took. So costly pages get at
most half of one processor in all, whichever target shows them, and each has its turn. A page is
expected to take what recent ones of its target took, else what its length suggests; most of the
first one is work that is not repeated, so no rest follows it.

A costly target is asked only when it is its turn, so that its page is new when it is parsed, and
few such pages are held at once. Pages that take next to nothing are not handed to a thread.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeVar

from otel_budget.runtime.workers import do

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

T = TypeVar("T")

#: Seconds of processor time from which on a page is costly.
COSTLY: Final = 0.05
#: Pages that take less, and are no larger, are read where they arrive: with thousands of targets
#: handing one to a thread costs more than reading it.
_TRIFLE: Final = 0.001
_SMALL: Final = 16_384
#: What a costly page has taken is rested so many times as long.
_REST: Final = 1.0
#: Seconds of processor time for each byte of a page that is not known yet, and of one that is.
_NEW: Final = 3e-7
_KNOWN: Final = 1e-8
#: Costly targets that are asked, or whose page is held, at once.
_AT_ONCE: Final = 3
#: A target that was costly is not taken for cheap at once.
_FADES: Final = 0.9


class PageCost:
    """Processor time, in seconds, that the pages of one target take."""

    def __init__(self) -> None:
        self.last = self._high = 0.0

    def expected(self, size: int) -> float:
        """Return what a page of so many bytes may take."""
        return max(self._high, size * _KNOWN) if self._high else size * _NEW

    def note(self, seconds: float) -> None:
        """Note what one took."""
        self.last, self._high = seconds, max(seconds, self._high * _FADES)

    @property
    def is_known(self) -> bool:
        """Tell whether a page was read."""
        return self._high > 0

    @property
    def is_high(self) -> bool:
        """Tell whether its pages are costly, whatever their length."""
        return self._high >= COSTLY


class _Job:
    __slots__ = ("future", "is_first", "taken", "work")

    def __init__(self, work: Callable[[], Any], *, is_first: bool) -> None:
        self.future: Future[Any] = Future()
        self.work, self.is_first, self.taken = work, is_first, False


class PageThreads:
    """Two daemon threads, which start when there is a page."""

    def __init__(self) -> None:
        self._there = threading.Condition()
        self._number = count()
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._cheap: list[tuple[float, int, _Job]] = []
        self._waiting: deque[_Job] = deque()
        self._life: object | None = None
        """Of the threads that run; None if none does."""

    @asynccontextmanager
    async def turn(self, cost: PageCost) -> AsyncIterator[None]:
        """Wait until a target may be asked; at once if it is cheap, or not known."""
        if not cost.is_high:
            yield
            return
        async with self._turn:
            yield

    async def run(self, work: Callable[[], T], cost: PageCost, size: int) -> T:
        """Read a page of so many bytes, and take note of what that takes."""

        def read() -> T:
            began = time.thread_time()
            try:
                return work()
            finally:
                cost.note(time.thread_time() - began)

        expected = cost.expected(size)
        if cost.is_known and expected < _TRIFLE and size <= _SMALL:
            return read()
        job = _Job(read, is_first=not cost.is_known)
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
        """End the threads; a page that is being parsed is parsed to its end."""
        with self._there:
            self._life = None
            self._turn = asyncio.Semaphore(_AT_ONCE)
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
        while True:
            job = None  # what was read may be large, and the next page a while away
            job = self._next(life, take)
            if job is None:
                return
            began = time.thread_time()
            do(job.future, job.work)
            took = time.thread_time() - began
            if took >= COSTLY and not job.is_first:
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
