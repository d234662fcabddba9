"""One background thread per process that writes the automatic checkpoints of all runs."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from otel_budget.instrumentation.clock import Clock

logger = logging.getLogger("otel_budget")


class Saved(Protocol):
    """A run that wants to be saved now and then."""

    def autosave(self) -> float | None:
        """Write a checkpoint; return the seconds until the next one, None for never again."""


class Autosaver:
    """Call ``autosave`` of every watched run when it is due. Holds runs weakly.

    The thread starts with the first run and ends when there is none left.
    """

    def __init__(self, clock: Clock) -> None:
        """Begin without a thread."""
        self._monotonic = clock.monotonic
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, weakref.ref[Saved]]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None

    def watch(self, run: Saved, interval: float) -> None:
        """Save a run for the first time in ``interval`` seconds."""
        with self._changed:
            self._push(weakref.ref(run), interval)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._work, name="otel-budget-checkpoints", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def _push(self, ref: weakref.ref[Saved], interval: float) -> None:
        heapq.heappush(self._due, (self._monotonic() + interval, next(self._order), ref))

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._due:
                    self._thread = None
                    return
                wait = self._due[0][0] - self._monotonic()
                if wait > 0:
                    self._changed.wait(wait)
                    continue
                ref = heapq.heappop(self._due)[2]
            self._save(ref)

    def _save(self, ref: weakref.ref[Saved]) -> None:
        run = ref()
        if run is None:
            return
        try:
            interval = run.autosave()
        except Exception:
            # The thread serves every run of the process: one that fails must not end the others'.
            logger.exception("an automatic checkpoint failed; this run gets no further ones")
            return
        if interval is not None:
            with self._changed:
                self._push(ref, interval)
