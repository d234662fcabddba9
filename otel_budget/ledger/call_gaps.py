"""Seconds from one call of a run to the next: a fading mean that a pause does not spoil.

A gap counts for no more than a few usual ones, so that an hour in which a person was waited for is
no pace. The longest is kept apart, as what is usual is not known yet when the first ones come.
"""

from __future__ import annotations

from typing import Final

from otel_budget.ledger.size_trend import FADE

#: A gap counts for no more than so many usual ones. Chosen on one half of the runs in
#: evaluation/data/mini_swe_runs.csv: 3 to 6 differ by a twentieth of the error.
_MOST: Final = 6.0


class CallGaps:
    """Gaps as they come. O(1) state."""

    __slots__ = (
        "_longest", "_longest_weight", "_samples", "_sized", "_sizes", "_squares", "_sum",
        "_weight",
    )  # fmt: skip

    def __init__(self) -> None:
        """Begin with none."""
        self._sum = self._squares = self._weight = self._samples = 0.0
        """Fading sums of all but the longest: of gaps, of their squares, of ones; of samples."""
        self._sizes = self._sized = 0.0
        """The same of the sizes of their calls, and of gaps times sizes."""
        self._longest = self._longest_weight = 0.0

    def observe(self, gap: float, size: float, made: float) -> None:
        """Take the mean gap, in seconds, of so many new calls, and their mean size."""
        fade, share = FADE, 1.0
        if made != 1:
            fade = FADE**made
            share = (1 - fade) / (1 - FADE)
        self._longest_weight *= fade
        if gap > self._longest:
            gap, self._longest = self._longest, gap
            share, self._longest_weight = self._longest_weight, share
        if self._weight and gap * self._weight > _MOST * self._sum:
            gap = _MOST * self._sum / self._weight
        part = share * gap
        self._sum = self._sum * fade + part
        self._squares = self._squares * fade + part * gap
        self._sizes = self._sizes * fade + share * size
        self._sized = self._sized * fade + part * size
        self._weight = self._weight * fade + share
        self._samples = self._samples * fade + 1.0

    def mean_and_variance(self) -> tuple[float, float] | None:
        """Return seconds from one call to the next, and the variance of one gap; None of none."""
        weight = self._weight + self._longest_weight
        if not weight:
            return None
        longest = self._longest
        if self._weight and self._sum:
            longest = min(longest, _MOST * self._sum / self._weight)
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
        return tuple(getattr(self, name) for name in self.__slots__)

    @classmethod
    def from_state(cls, state: tuple[float, ...]) -> CallGaps:
        """Return the gaps that ``state()`` described. Raises ValueError."""
        gaps = cls()
        for name, value in zip(cls.__slots__, state, strict=True):
            setattr(gaps, name, value)
        return gaps
