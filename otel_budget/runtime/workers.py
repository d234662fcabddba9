"""Threads of one purpose each: named, bounded, and none that the end of the process waits for.

asyncio's default executor is one small pool for everything: a few lookups of names that hang are
enough to hold up the storage, and ``asyncio.run`` waits for them at the end. Here nothing that
hangs takes a thread from anything else.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Executor, Future
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

#: Seconds without anything to do after which a thread ends; the next thing starts another.
_IDLE = 10.0


class Workers(Executor):
    """A few daemon threads, which start when there is something to do."""

    def __init__(self, name: str, threads: int = 1) -> None:
        """Start nothing yet. name: as it shows in a list of threads."""
        self._name, self._most = name, threads
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._there = threading.Condition()
        self._started = self._idle = 0
        self._closed = False

    def submit(self, work: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have something done once a thread is free."""
        future: Future[T] = Future()
        with self._there:
            self._closed = False
            self._jobs.append((future, partial(work, *args, **kwargs)))
            if self._idle < len(self._jobs) and self._started < self._most:
                self._started += 1
                name = f"{self._name}-{self._started}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
            self._there.notify()
        return future

    async def run(self, work: Callable[..., T], /, *args: Any) -> T:
        """Have something done, and wait for it."""
        return await asyncio.wrap_future(self.submit(work, *args))

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = True) -> None:  # noqa: FBT001, FBT002, ARG002 - as Executor has it
        """Let go of the threads. What is being done may go on for ever; nothing waits for it."""
        with self._there:
            self._closed = True
            jobs = list(self._jobs) if cancel_futures else []
            self._jobs.clear()
            self._there.notify_all()
        for future, _ in jobs:
            future.cancel()

    def _work(self) -> None:
        while True:
            with self._there:
                self._idle += 1
                self._there.wait_for(lambda: self._jobs or self._closed, _IDLE)
                self._idle -= 1
                if not self._jobs:
                    self._started -= 1
                    return
                future, work = self._jobs.popleft()
            do(future, work)
            del future, work  # what was done may be large; the next job may be a while away


def do(future: Future[T], work: Callable[[], T]) -> None:
    """Do something, and put what comes of it into its future."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as exc:  # noqa: BLE001 - those who wait for it get it
        future.set_exception(exc)
