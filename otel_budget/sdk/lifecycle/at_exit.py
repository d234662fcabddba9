"""What happens when the interpreter ends, and when a run is left behind before.

At the end, in order: runs are closed, one more scrape is waited for, endpoints are closed. A run
whose monitor is dropped is closed by a separate thread: a finalizer runs wherever the garbage
collector happens to, in the middle of a scrape or under any lock, so it only hands the work over.
"""

from __future__ import annotations

import atexit
import sys
import threading
from collections import deque
from collections.abc import Callable

from otel_budget.logs.logger import logger
from otel_budget.runtime.fork import in_child

Work = Callable[[], None]


class ExitOrder:
    """Lists of work for the interpreter's end: what comes first, what then, and what last."""

    def __init__(self) -> None:
        self.first: dict[int, Work] = {}
        self.then: dict[int, Work] = {}
        self.last: dict[int, Work] = {}
        self._asked_multiprocessing = False
        atexit.register(self.run)
        # A forked child carries none of its parent's runs and serves none of its endpoints.
        in_child(self._in_child)

    def run(self) -> None:
        """Do all of it; one that fails is logged and does not keep the others from it."""
        for stage in (self.first, self.then, self.last):
            while stage:
                _, work = stage.popitem()
                _do(work)

    def before_others(self) -> None:
        """Have it done before what was registered up to now: an SDK's exporter is shut down by
        one of those, and is needed once more.
        """
        atexit.unregister(self.run)
        atexit.register(self.run)

    def _in_child(self) -> None:
        for stage in (self.first, self.then, self.last):
            stage.clear()
        self._asked_multiprocessing = False

    def ask_multiprocessing(self) -> None:
        """Have a forked child of multiprocessing call ``run``: its end calls no exit handlers.

        Called with the first run of a process: what multiprocessing knew before, a child forgets.
        """
        if self._asked_multiprocessing:
            return
        self._asked_multiprocessing = True
        process = sys.modules.get("multiprocessing.process")
        if process is not None and process.parent_process() is not None:
            from multiprocessing.util import Finalize

            Finalize(None, self.run, exitpriority=0)
        signals = sys.modules.get("celery.signals")
        if signals is not None:  # Celery's pool has its own multiprocessing
            signals.worker_process_shutdown.connect(lambda **_: self.run(), weak=False)


class LeftBehind:
    """Does what finalizers hand over, in a thread that ends when there is nothing left."""

    def __init__(self, order: ExitOrder) -> None:
        """Begin without a thread. order: the interpreter's end waits for what is under way."""
        self._order = order
        self._reset()
        in_child(self._reset)

    def hand_over(self, work: Work) -> None:
        """Have it done soon. Takes no lock and does not wait: fit for a finalizer."""
        self._queue.append(work)
        self._order.first[id(self)] = self.finish
        if self._working.acquire(blocking=False):
            try:
                threading.Thread(
                    target=self._work, name="otel-budget-left-behind", daemon=True
                ).start()
            except (
                RuntimeError
            ):  # no more threads, or the interpreter is ending: ``finish`` does it
                self._working.release()

    def finish(self, timeout: float = 5.0) -> None:
        """Wait for the thread, at most for ``timeout`` seconds, and do what it has left."""
        if self._working.acquire(timeout=timeout):
            self._working.release()
        self._drain()

    def _reset(self) -> None:
        self._queue: deque[Work] = deque()
        self._working = threading.Lock()

    def _work(self) -> None:
        while True:
            self._drain()
            self._working.release()
            if not self._queue or not self._working.acquire(blocking=False):
                return

    def _drain(self) -> None:
        while True:
            try:
                work = self._queue.popleft()
            except IndexError:
                return
            _do(work)


def _do(work: Work) -> None:
    try:
        work()
    except KeyboardInterrupt:
        logger.warning("interrupted while the process ends: the last scrape may not have happened")
    except Exception:
        logger.exception("closing a run or an endpoint failed")


AT_EXIT = ExitOrder()
LEFT_BEHIND = LeftBehind(AT_EXIT)
