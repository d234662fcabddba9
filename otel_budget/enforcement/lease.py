"""The sidecar's last word, and for how long it may be trusted.

The lease runs from receipt on the reader's own monotonic clock: clocks of two machines differ. Past
it the verdict is not believed, whatever it said; what happens then is the reader's fail mode.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_budget.model.verdict import Verdict

#: Seconds, for a verdict that names no lease, and for the first verdict to arrive.
DEFAULT_LEASE = 15.0


class Lease:
    """Holds the newest verdict. Times are monotonic seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Begin without a verdict; the time to get the first one runs from now."""
        self._monotonic = monotonic
        self._lock = threading.RLock()  # reentrant for signal handlers, like the record's
        self._verdict: Verdict | None = None
        self._until = monotonic() + DEFAULT_LEASE

    def wait_from_now(self) -> None:
        """Let the time to get a first verdict run from now: the sidecar is there, or is asked.

        It may have to wait for the first scrape of this run, for a minute through a Prometheus.
        """
        with self._lock:
            if self._verdict is None:
                self._until = self._monotonic() + DEFAULT_LEASE

    def renew(self, verdict: Verdict) -> bool:
        """Take in a verdict; False if a newer one was heard before."""
        with self._lock:
            known = self._verdict
            if (
                known is not None
                and known.sequence is not None
                and verdict.sequence is not None
                and verdict.evaluated_at < known.evaluated_at
                and verdict.sequence < known.sequence
            ):
                return False
            self._verdict = verdict
            lease = verdict.lease_seconds
            self._until = self._monotonic() + (DEFAULT_LEASE if lease is None else lease)
            return True

    @property
    def until(self) -> float:
        """When the lease ends, or the time to get a first verdict."""
        with self._lock:
            return self._until

    def current(self) -> Verdict | None:
        """Return the verdict while its lease lasts, else None."""
        with self._lock:
            return self._verdict if self._monotonic() < self._until else None
