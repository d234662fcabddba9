"""One background thread per process that writes the automatic checkpoints of all runs."""

from __future__ import annotations

import heapq
import itertools
import threading
import weakref
from typing import TYPE_CHECKING, Protocol

from otel_budget.logs.logger import logger
from otel_budget.runtime.fork import ProcessLock, in_child

if TYPE_CHECKING:
    from otel_budget.sdk.clock import Clock

#: Seconds the thread sleeps at most: an interval may be longer than a wait can be, and a wait
#: stands still while the machine is suspended.
_LONGEST_WAIT = 60.0
#: Entries of runs that are over, kept at most beside as many of runs that are not.
_STALE = 64


class Saved(Protocol):
    """A run that wants to be saved now and then."""

    def autosave(self) -> float | None:
        """Write a checkpoint; return the seconds until the next one, None for never again."""


class Autosaver:
    """Call ``autosave`` of every watched run when it is due. Holds runs weakly.

    The thread starts with the first run and ends when there is none left.
    """

    def __init__(self, clock: Clock) -> None:
        self._monotonic = clock.monotonic
        self._tickets = itertools.count()
        self.reset()

    def reset(self) -> None:
        """Forget all runs, the thread and who holds the lock: in a forked child there is none."""
        self._changed = threading.Condition()
        self._due: list[tuple[float, int]] = []
        self._runs: dict[int, weakref.ref[Saved]] = {}
        self._thread: threading.Thread | None = None

    def watch(self, run: Saved, interval: float) -> int:
        """Save a run for the first time in ``interval`` seconds; return a ticket to forget it by.

        Raises RuntimeError if the process can have no more threads.
        """
        with self._changed:
            ticket = next(self._tickets)
            self._runs[ticket] = weakref.ref(run)
            heapq.heappush(self._due, (self._monotonic() + interval, ticket))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._work, name="otel-budget-checkpoints", daemon=True
                )
                self._thread.start()
            self._changed.notify()
            return ticket

    def forget(self, ticket: int) -> None:
        """Save a run no more. Its entry goes with others, so that memory stays flat."""
        with self._changed:
            self._runs.pop(ticket, None)
            if not self._runs or len(self._due) > 2 * len(self._runs) + _STALE:
                self._due = [entry for entry in self._due if entry[1] in self._runs]
                heapq.heapify(self._due)
                self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._due:
                    self._thread = None
                    return
                wait = self._due[0][0] - self._monotonic()
                if wait > 0:
                    self._changed.wait(min(wait, _LONGEST_WAIT))
                    continue
                ticket = heapq.heappop(self._due)[1]
            self._save(ticket)

    def _save(self, ticket: int) -> None:
        ref = self._runs.get(ticket)
        run = None if ref is None else ref()
        interval = None
        if run is not None:
            try:
                interval = run.autosave()
            except Exception:
                # The thread serves every run of the process: one that fails must not end it.
                logger.exception("an automatic checkpoint failed; this run gets no further ones")
        with self._changed:
            if interval is None:
                self._runs.pop(ticket, None)
            elif ticket in self._runs:
                heapq.heappush(self._due, (self._monotonic() + interval, ticket))


_lock = ProcessLock()
_autosavers: weakref.WeakValueDictionary[Clock, Autosaver] = weakref.WeakValueDictionary()


def autosaver(clock: Clock) -> Autosaver:
    """Return the process's writer of automatic checkpoints."""
    with _lock:
        saver = _autosavers.get(clock)
        if saver is None:
            saver = _autosavers[clock] = Autosaver(clock)  # kept by who holds it, and its thread
        return saver


def _reset_all() -> None:
    """Save nothing of the parent's in a forked child."""
    for saver in list(_autosavers.values()):
        saver.reset()


in_child(_reset_all)
