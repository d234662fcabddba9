"""When this process did not run: stopped, suspended with its machine, or starved of processor time.

A beat on the event loop that comes late says so, and from when to when. By the sidecar's clock,
which goes on while the machine sleeps. What was missed is on its way to the book until the next
step: no run was silent then.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_budget.ledger.freshness import Spell
    from otel_budget.sources.base import Clock

#: Seconds from which on the time that a step takes is one of not listening.
_LONG_STEP = 1.0
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
        self._look()  # after an absence the caller may be woken before the beat is
        missed, self._missed = self._missed, []
        return missed

    def _look(self) -> None:
        now, before = self._clock(), self._beaten_at
        self._beaten_at = now
        if now - before >= BEAT + LATE:
            self._missed.append((before, now))


class Missed:
    """When this process did not listen, as far as the evaluator does not know it yet."""

    def __init__(
        self, absent: Callable[[], list[Spell]], clock: Clock, *tell: Callable[[float, float], None]
    ) -> None:
        """Begin with nothing.

        absent: as of ``Watch.take``. tell: called with the seconds of an absence, and the time.
        """
        self._absent, self._clock, self._tell = absent, clock, tell
        self._spells: list[Spell] = []

    def look(self, interval: float) -> bool:
        """Tell whether the process did not run since the last look. interval: between readings."""
        spells = self._absent()
        for spell in spells:
            self._add(*spell, interval)
        seconds = sum(end - begin for begin, end in spells)
        for tell in self._tell if spells else ():
            tell(seconds, self._clock())
        return bool(spells)

    def note_step(self, begun_at: float, interval: float) -> None:
        """Take note of a step that is over: while it took long, nothing was read."""
        now = self._clock()
        if now - begun_at >= _LONG_STEP:
            self._add(begun_at, now, interval)

    def take(self) -> list[Spell]:
        """Return what the book is to know."""
        spells, self._spells = self._spells, []
        return spells

    def _add(self, begin: float, end: float, interval: float) -> None:
        """Keep a spell but for the interval that lies between two readings anyway.

        So much counts: else a process that is starved again and again would find no run silent.
        """
        if begin + interval < end:
            self._spells.append((begin + interval, end))
