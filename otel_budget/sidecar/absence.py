"""When this process did not run: stopped, suspended with its machine, or starved of processor time.

A beat on the event loop that comes late says so, and from when to when. By the sidecar's clock,
which goes on while the machine sleeps.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_budget.ledger.absences import Spell
    from otel_budget.sources.base import Clock

#: Seconds between two beats, and by which one has to be late to tell of an absence.
BEAT, LATE = 0.5, 0.5


class Watch:
    """Notices that the process did not run."""

    def __init__(self, clock: Clock) -> None:
        """Begin with nothing missed."""
        self._clock = clock
        self._beaten_at = clock()
        self._missed: list[Spell] = []

    async def beat(self) -> None:
        """Beat for as long as the event loop runs."""
        while True:
            await asyncio.sleep(BEAT)
            self._look()

    def take(self) -> list[Spell]:
        """Return when the process did not run since this was asked last."""
        self._look()  # after an absence it may be that whoever asks is woken before the beat is
        missed, self._missed = self._missed, []
        return missed

    def _look(self) -> None:
        now, before = self._clock(), self._beaten_at
        self._beaten_at = now
        if now - before >= BEAT + LATE:
            self._missed.append((before, now))
