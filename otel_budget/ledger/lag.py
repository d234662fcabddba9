"""How late the samples of a run arrive, where that is steady: some stores hide the newest seconds.

What is silent is told by the age of the newest sample. A source that shows every sample half a
minute late would look silent for ever, so what its samples are late by, time and again, is not
held against them:

- It is known from the second sample on that is seen to arrive. One alone says nothing: it may be
  the last of a process that died long ago.
- It is the least of a few ages, so what readings add now and then is no part of it.
- It may shrink at any time; it grows only to where two rows of samples agree: a source that falls
  further and further behind is silent in the end. More than ``MOST`` is not allowed for at all.
- No more than the spacing of the samples is no lag: readings and samples have different rhythms.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds. Past this, the default look-back of the stores, they show a sample no more.
MOST: Final = 300.0
_ROW: Final = 5
_LEAST: Final = 2
#: Share of the spacing of samples by which the least of two rows may differ.
_LIKE: Final = 0.5


class Lag:
    """What the samples of one run are late by, steadily. Seconds throughout."""

    __slots__ = ("_before", "_count", "_least", "_steady", "seconds")

    def __init__(self, seconds: float = 0.0) -> None:
        """Begin with what is known from an earlier time; 0 is nothing."""
        self.seconds = seconds
        """To allow for; 0 if there is none, or none that is steady."""
        self._steady = self._before = seconds or math.inf
        """The least age that stands, and that of the row before."""
        self._count, self._least = 0, math.inf

    def observe(self, age: float, usual_gap: Callable[[], float]) -> None:
        """Take the age at which a new sample arrived.

        usual_gap: returns the usual seconds between two; not worked out for every sample.
        """
        self._count += 1
        self._least = min(self._least, age)
        first = self._before == math.inf
        if first and self._count >= _LEAST:
            self._steady = self._least
        elif self._count < _ROW:
            return
        gap = usual_gap()
        if self._count >= _ROW:
            if self._least <= self._before + _LIKE * gap:
                self._steady = self._least
            self._before, self._count, self._least = self._least, 0, math.inf
        self.seconds = self._steady if gap < self._steady <= MOST else 0.0
