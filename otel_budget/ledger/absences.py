"""When nobody listened: what was not watched is not held against any run.

Silence counts only while somebody listens. A ledger that was closed is another case: whoever opens
it again has not waited for anything yet (Pace.watched_from).
"""

from __future__ import annotations

import math

Spell = tuple[float, float]
"""From when to when, in seconds on the reader's own clock."""

#: Spells that are kept apart. A run that was silent for longer than they go back is stopped sooner.
KEPT = 100


class Absences:
    """The newest spells in which nobody listened, in their order."""

    def __init__(self) -> None:
        """Begin with none."""
        self._spells: list[Spell] = []
        self._until = -math.inf

    def add(self, spell: Spell) -> None:
        """Take in a spell that ends after all others; it may overlap with them."""
        begin, end = spell
        while self._spells and self._spells[-1][1] >= begin:
            begin, end = min(begin, self._spells[-1][0]), max(end, self._spells.pop()[1])
        self._spells = [*self._spells, (begin, end)][-KEPT:]
        self._until = end

    def since(self, moment: float) -> float:
        """Return for how many seconds nobody listened since a moment."""
        if moment >= self._until:
            return 0.0  # as it is for nearly every run at nearly every tick
        return sum(end - max(begin, moment) for begin, end in self._spells if end > moment)
