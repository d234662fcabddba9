"""The sidecar's last word, and for how long it may be trusted.

The lease runs from receipt on the reader's own clock: clocks of two machines differ. Past it the
verdict is not believed, whatever it said; what happens then is the reader's fail mode.

It runs while the machine is awake: asleep nothing is spent, and nothing can be heard. A process
that was frozen finds its lease over, and renewals still unread: a sidecar counts as lost only if,
with the lease over, there was time to listen. In the same way a stop for want of data, which may
tell of that time only, is obeyed once there was time for another word.

A sidecar that answers and has no verdict on this run is waited for, but not for ever: it may never
see the run. Only time in which it answered counts towards that bound.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

from otel_budget.core.reasons import NO_DATA

if TYPE_CHECKING:
    from otel_budget.core.verdict import Verdict
    from otel_budget.sdk.clock import Clock

#: Seconds, for a verdict that names no lease, and for the first verdict to arrive.
DEFAULT_LEASE = 15.0
#: Seconds to listen with the lease over: what was sent meanwhile is read in a moment. After a sleep
#: the connection may be dead, which takes longer to notice.
LISTEN, LISTEN_AFTER_SLEEP = 2.0, 60.0
#: Seconds within which a sidecar that answers is heard again: it gives a sign of life every 5 s.
_HEARD_WITHIN = 6.0
#: Seconds the machine has slept if it slept at all: two clocks are not read at the same instant.
_SLEPT = 1.0
#: Seconds for which a sidecar may answer without a verdict on this run. A Prometheus with its
#: default interval of a minute, and a sidecar on top of it, have one by then.
FIRST_VERDICT = 90.0
#: The share of that after which it is said.
WARN_AFTER = 2 / 3


class Lease:
    """Holds the newest verdict. Times are seconds by the clock that stands still in sleep."""

    def __init__(self, clock: Clock, first_verdict: float = FIRST_VERDICT) -> None:
        """Begin without a verdict; the time to get the first one runs from now.

        first_verdict: seconds for which a sidecar may answer without having one.
        """
        self._clock, self._awake, self.first_verdict = clock, clock.awake, first_verdict
        self._lock = threading.RLock()  # reentrant for signal handlers, like the record's
        self._verdict: Verdict | None = None
        self._blind_from: float | None = None
        self._woken_at = -math.inf
        self._listening_from: float | None = None
        """When the lease was first found to be over; None while it lasts."""
        self._answered_at = self._awake()
        self._end_at(self._answered_at + DEFAULT_LEASE)
        self.unjudged_for = 0.0
        """Seconds for which the sidecar has answered since it last had a verdict on this run."""

    def wait_from_now(self) -> None:
        """Let the time to get a first verdict run from now: the sidecar is asked."""
        with self._lock:
            self._answered_at = self._awake()
            self._extend()

    def sidecar_answered(self) -> None:
        """Take note that the sidecar answers, with or without a verdict.

        It may have to wait for the first scrape of this run, for a minute through a Prometheus.
        """
        with self._lock:
            now = self._awake()
            gap, self._answered_at = self._listened(now), now
            if now >= self._until or self._verdict is None:
                self.unjudged_for += gap
            self._extend()

    def _extend(self) -> None:
        if self._verdict is None:
            left = max(0.0, self.first_verdict - self.unjudged_for)
            self._end_at(self._answered_at + min(DEFAULT_LEASE, left))

    @property
    def overdue(self) -> bool:
        """True once the sidecar has answered so long without a verdict that it is worth saying."""
        return self.unjudged_for >= self.first_verdict * WARN_AFTER

    @property
    def is_given_up(self) -> bool:
        """True once the time for a first verdict is over, though the sidecar answers."""
        with self._lock:
            answers = self._awake() - self._answered_at < DEFAULT_LEASE
            return self._verdict is None and answers and self.waited() >= self.first_verdict

    def waited(self) -> float:
        """Return the seconds for which there has been no verdict though the sidecar answers."""
        with self._lock:
            return self.unjudged_for + self._listened(self._awake())

    def _listened(self, now: float) -> float:
        """Return for how long the sidecar answered since it was heard.

        Through a long gap the sidecar did not answer, or this process was frozen and did not
        listen. Of one no more counts than it takes to listen, so that they add up all the same.
        """
        gap = now - self._answered_at
        return gap if gap <= _HEARD_WITHIN else LISTEN

    @property
    def has_verdict(self) -> bool:
        """True once there was a verdict, in force or not."""
        return self._verdict is not None

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
            self._note_blindness(verdict)
            self._verdict, self.unjudged_for = verdict, 0.0
            lease = verdict.lease_seconds
            self._end_at(self._awake() + (DEFAULT_LEASE if lease is None else lease))
            return True

    def left(self) -> float:
        """Return seconds until the lease ends, or the time to get a first verdict; then until the
        sidecar counts as lost.
        """
        with self._lock:
            now = self._awake()
            if now < self._until:
                return self._until - now
            return max(0.0, self._lost_from(now) - now)

    def is_lost(self) -> bool:
        """Tell whether the lease is over, and the sidecar was listened to since in vain."""
        with self._lock:
            now = self._awake()
            return now >= self._until and now >= self._lost_from(now)

    def binding_in(self) -> float:
        """Return seconds until the verdict is to be obeyed; 0 but for a stop for want of data."""
        with self._lock:
            if self._blind_from is None:
                return 0.0
            woken = self._woken_at + LISTEN_AFTER_SLEEP
            return max(0.0, max(self._blind_from + LISTEN, woken) - self._awake())

    def _note_blindness(self, verdict: Verdict) -> None:
        """Take note from when on the sidecar says stop because it sees nothing of the run."""
        now = self._awake()
        if self._has_slept():
            self._woken_at = now
        if verdict.should_continue or verdict.reason not in NO_DATA:
            self._blind_from = None
        elif self._blind_from is None:
            self._blind_from = now

    def _lost_from(self, now: float) -> float:
        """Return from when on the sidecar counts as lost; the lease is over."""
        if self.is_given_up:
            return self._until  # it was listened to all the time
        if self._listening_from is None:
            self._listening_from = now
        return self._listening_from + (LISTEN_AFTER_SLEEP if self._has_slept() else LISTEN)

    def _end_at(self, until: float) -> None:
        self._until, self._slept_before = until, self._asleep()
        self._listening_from = None

    def _has_slept(self) -> bool:
        return self._asleep() - self._slept_before >= _SLEPT

    def _asleep(self) -> float:
        return self._clock.monotonic() - self._awake()

    def is_in_force(self) -> bool:
        """Tell whether there is a verdict whose lease lasts."""
        return self.current() is not None

    def current(self) -> Verdict | None:
        """Return the verdict while its lease lasts, else None."""
        with self._lock:
            return self._verdict if self._awake() < self._until else None
