"""Seconds from one call of a run to the next: a fading mean that a pause does not spoil.

An hour in which a person was waited for is no pace: a gap in which the run was idle does not
count, unless the one before it was so long, too. Any other counts for no more than a few usual
ones. The longest is kept apart, as what is usual is not known yet when the first ones come. Calls
that end at one moment were made at once, and share the gap after them.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from otel_budget.ledger.size_trend import faded

#: Seconds without a call after which a run is not spending: nobody can tell when it goes on ...
IDLE_AFTER: Final = 300.0
#: ... but not before so many usual gaps.
_IDLE_GAPS: Final = 4.0
#: A gap counts for no more than so many usual ones, or so many seconds. Chosen on one half of the
#: runs in evaluation/data/mini_swe_runs.csv: 3 to 8 differ by a twentieth of the error.
_MOST: Final = 6.0
_MOST_SECONDS: Final = 30.0


class CallGaps:
    """Gaps as they come. O(1) state."""

    __slots__ = (
        "_at_once", "_longest", "_longest_weight", "_paused", "_samples", "_sized", "_sizes",
        "_squares", "_sum", "_weight",
    )  # fmt: skip

    def __init__(self) -> None:
        """Begin with none."""
        self._sum = self._squares = self._weight = self._samples = 0.0
        """Fading sums of all but the longest: of gaps, of their squares, of ones; of samples."""
        self._sizes = self._sized = 0.0
        """The same of the sizes of their calls, and of gaps times sizes."""
        self._longest = self._longest_weight = 0.0
        self._at_once = 0.0
        """Calls that ended at the same moment as the newest before them."""
        self._paused = 0.0
        """1 if the newest gap was one in which the run was idle."""

    def observe(self, seconds: float, size: float, made: float) -> None:
        """Take so many new calls in so many seconds, and their mean size."""
        if not seconds:
            self._at_once += made
            return
        made += self._at_once
        gap, self._at_once = seconds / made, 0.0
        if gap > self.idle_after():
            self._paused = 1.0 - self._paused
            if self._paused:
                return
        self._paused = 0.0
        fade, share = faded(made)
        self._longest_weight *= fade
        if gap > self._longest:
            gap, self._longest = self._longest, gap
            share, self._longest_weight = self._longest_weight, share
        gap = min(gap, self._most())
        part = share * gap
        self._sum = self._sum * fade + part
        self._squares = self._squares * fade + part * gap
        self._sizes = self._sizes * fade + share * size
        self._sized = self._sized * fade + part * size
        self._weight = self._weight * fade + share
        self._samples = self._samples * fade + 1.0

    def idle_after(self) -> float:
        """Return the seconds without a call after which nobody can tell when the run goes on."""
        weight = self._weight
        return max(IDLE_AFTER, _IDLE_GAPS * self._sum / weight) if weight else IDLE_AFTER

    def _most(self) -> float:
        """Return the seconds that a gap counts for at most."""
        if not self._weight:
            return self._longest
        return max(_MOST_SECONDS, _MOST * self._sum / self._weight)

    def mean_and_variance(self) -> tuple[float, float] | None:
        """Return seconds from one call to the next, and the variance of one gap; None of none."""
        weight = self._weight + self._longest_weight
        if not weight:
            return None
        longest = min(self._longest, self._most())
        part = self._longest_weight * longest
        mean = (self._sum + part) / weight
        variance = max(0.0, (self._squares + part * longest) / weight - mean * mean)
        return mean, variance * max(1.0, weight / self._samples)  # means of several scatter less

    def with_size(self) -> float:
        """Return the covariance of gaps and the sizes of their calls; 0 if none is known."""
        weight = self._weight
        return (self._sized - self._sum * self._sizes / weight) / weight if weight else 0.0

    @property
    def seen(self) -> float:
        """Gaps that the mean rests on; older ones fade."""
        return self._weight + self._longest_weight

    def state(self) -> tuple[float, ...]:
        """Return all of it."""
        return _STATE(self)

    @classmethod
    def from_state(cls, state: tuple[float, ...]) -> CallGaps:
        """Return the gaps that ``state()`` described. Raises ValueError."""
        gaps = cls()
        for name, value in zip(cls.__slots__, state, strict=True):
            setattr(gaps, name, value)
        if gaps.seen and not gaps._samples:
            raise ValueError("not the state of gaps")
        return gaps


#: All of it at once: it is asked for at every verdict.
_STATE: Final = attrgetter(*CallGaps.__slots__)
