"""The size of a run's calls, one after the other: how large the newest is, and how they grow.

A context grows by what each call adds to it, so the best guess at the next size is the newest one
and the mean growth. Where sizes jump to and fro about a line (calls of unknown size among others)
the line is the better guess. How much of a surprise is kept follows from whether surprises stay or
are taken back: the gain of a local level with drift (A. C. Harvey, Forecasting, Structural Time
Series Models and the Kalman Filter, 1989, chapter 4), and at least that of a straight line through
all sizes so far.

A size that is nowhere near the expected one (a failed call, a sub-agent with a context of its own)
is no step of the growth: it counts for the mean, and the line goes on. Two in a row are a new
beginning, as of a context that was compacted: the growth stays.
"""

from __future__ import annotations

import math
from operator import attrgetter
from typing import Final, NamedTuple

#: What is left, one call later, of what older calls have shown: half after 60 calls.
_FADE: Final = 0.5 ** (1 / 60)
#: The same of sizes that were nowhere near, as how often they come changes sooner: half after 14.
_STRAY_FADE: Final = 0.95
#: Times by which a size is nowhere near the expected one.
_FAR: Final = 2.5
#: Calls in a row of such sizes that are a new beginning.
_IN_A_ROW: Final = 2
#: Calls before which nothing is expected yet: the first size that is nowhere near is a beginning.
_FEW: Final = 3
#: Times its size before it was compacted that a context may have and be compacted any moment.
_PAST_TOP: Final = 1.2
#: Calls over which growth is a mean; of more, the older ones fade. And at a new beginning.
_GROWTH_OVER: Final = 50.0
_GROWTH_OVER_ANEW: Final = 10.0
#: Share of the misses that may be taken back by chance.
_CHANCE: Final = 0.1
#: Nobody knows how few calls scatter: as if two more had missed by this share of their size ...
_DOUBT_CALLS, _DOUBT_SHARE = 2.0, 0.05
#: ... and as if growth had been missed by this share of it over one call.
_DOUBT_GROWTH: Final = 0.3
#: Standard deviations to each side of 80 % of what came. A normal distribution has 1.28; growth is
#: rarely large, and the deviation mostly of those few. The halves of the runs in
#: evaluation/data/mini_swe_runs.csv give 0.83 and 0.9.
_SPREAD: Final = 0.85


def faded(made: float) -> tuple[float, float]:
    """Return what is left of a fading sum after so many calls, and what as many ones add to it."""
    if made == 1:
        return _FADE, 1.0
    left = _FADE**made
    return left, (1 - left) / (1 - _FADE)


class CallSize(NamedTuple):
    """What calls use of one resource, and how surely: the k-th from now is newest + k growth.

    Variances are in units squared.
    """

    newest: float
    """Units that the newest call used, less what it used by chance."""
    growth: float
    """Units by which each call uses more than the one before; may be negative."""
    noise: float = 0.0
    """Variance of single calls about that line."""
    walk: float = 0.0
    """Variance of what a call grows by, which the calls after it keep."""
    newest_variance: float = 0.0
    """Of ``newest`` as it is known."""
    growth_variance: float = 0.0
    """Of ``growth`` as it is known."""
    spread: float = _SPREAD
    """Standard deviations to each side of the range."""
    top: float = 0.0
    """Size at which the context was compacted, and will be again; 0: it was not."""
    bottom: float = 0.0
    """Size of the call after that."""


class SizeTrend:
    """Sizes as they come. O(1) state."""

    __slots__ = (
        "_again", "_bottom", "_expected", "_gain", "_growth", "_level", "_made", "_miss", "_over",
        "_returned", "_row", "_seen", "_size", "_squares", "_stray", "_took", "_top", "_weight",
    )  # fmt: skip

    def __init__(self) -> None:
        """Begin with no call."""
        self._level = self._growth = 0.0
        """Of the newest call."""
        self._size = self._made = 0.0
        """Mean size of the newest sample, and its calls."""
        self._seen = 0.0
        """Calls that the line goes through."""
        self._over = 0.0
        """Calls from the middle of the first sample to that of the newest."""
        self._gain = 1.0
        """Share of a surprise that stays: 1 of a walk, 0 of a line with noise about it."""
        self._miss = 0.0
        """By how much the newest size missed the one before it and the growth."""
        self._squares = self._returned = self._weight = 0.0
        """Fading sums: of such misses squared; of each times the one before it; of ones."""
        self._row = 0.0
        """Newest calls in a row that were nowhere near."""
        self._again = 0.0
        """1 once the first sizes were given up."""
        self._top = self._bottom = 0.0
        """Of the newest context that was compacted, its size before and after."""
        self._took = self._expected = self._stray = 0.0
        """Fading sums, once a size was nowhere near: of all sizes, of those expected, and of the
        squares of what was between them."""

    def observe(self, size: float, made: float) -> None:
        """Take the mean size of so many new calls."""
        if not self._seen:
            self._begin(size, made)
            return
        expected = self._level + self._growth * (made + 1) / 2
        expected = expected if expected > 0.0 else 0.0
        if size * _FAR < expected or size > expected * _FAR:
            self._take_stray(size, made, expected)
            return
        step = (self._made + made) / 2
        miss = size - self._size - self._growth * step
        fade = _FADE if made == 1 else _FADE**made
        squares = self._squares = self._squares * fade + miss * miss / step
        returned = self._returned = self._returned * fade + miss * self._miss / step
        self._weight = self._weight * fade + 1.0
        self._miss, self._size, self._made, self._row = miss, size, made, 0.0
        seen = self._seen = self._seen + made
        over = self._over + step
        over = self._over = _GROWTH_OVER if over > _GROWTH_OVER else over
        gain = self._gain = 1.0 if returned >= -_CHANCE * squares else _gain(squares, -returned)
        straight = made / (seen * (seen + 1))  # of a line: Brookner, Tracking and Kalman Filtering
        off = size - expected
        share, steep, mean = gain / over, 6 * straight, 1 / over
        share = steep if steep > share else share
        self._growth += off * (share if share < mean else mean)
        kept = straight * (4 * seen - 2)
        kept = kept if kept > gain else gain
        level = expected + (kept if kept < 1.0 else 1.0) * off + self._growth * (made - 1) / 2
        self._level = level if level > 0.0 else 0.0
        if self._expected:
            fade = _STRAY_FADE**made
            self._took = self._took * fade + size * made
            self._expected = self._expected * fade + size * made
            self._stray *= fade

    def size(self) -> CallSize:
        """Return what a call uses now, how it grows, and how surely."""
        level, growth = self._level, self._growth
        weight, over = self._weight + _DOUBT_CALLS, max(self._over, self._made)
        doubt = _DOUBT_SHARE * level
        squares = (self._squares + _DOUBT_CALLS * doubt * doubt) / weight
        noise = -self._returned / weight if self._gain < 1 else 0.0
        walk = max(0.0, squares - 2 * noise)
        newest = self._gain * noise
        if self._made > 1:  # nobody saw how the calls of one sample grew
            alone = self._made / self._seen * level / 3
            newest += walk * (self._made - 1) / 3 + alone * alone
        doubt = _DOUBT_GROWTH * level / (over + 1)
        # As products: a power that is too large is an error, and a product infinite.
        slope = walk / over + 12 * noise / (over * over * over) + doubt * doubt
        top = 0.0 if level > self._top * _PAST_TOP else self._top
        if not self._expected:
            return CallSize(level, growth, noise, walk, newest, slope, _SPREAD, top, self._bottom)
        share = self._took / self._expected
        square = share * share
        noise = noise * square + self._stray * level / self._expected
        return CallSize(
            level * share, growth * share, noise, walk * square, newest * square, slope * square,
            _SPREAD, top * share, self._bottom * share,
        )  # fmt: skip

    @property
    def tells_growth(self) -> bool:
        """True once calls were seen apart from each other."""
        return self._over > 0

    @property
    def has_begun(self) -> bool:
        """True once a call was seen."""
        return self._seen > 0 and self._made > 0

    def state(self) -> tuple[float, ...]:
        """Return all of it."""
        return _STATE(self)

    @classmethod
    def from_state(cls, state: tuple[float, ...]) -> SizeTrend:
        """Return the trend that ``state()`` described. Raises ValueError."""
        trend = cls()
        for name, value in zip(cls.__slots__, state, strict=True):
            if value < 0 and name not in _SIGNED:
                raise ValueError("not the state of a trend")
            setattr(trend, name, value)
        return trend

    def _begin(self, size: float, made: float) -> None:
        """Go on from here, with no growth known."""
        self._level = self._size = size
        self._growth = self._miss = self._over = self._row = 0.0
        self._seen = self._made = made

    def _take_stray(self, size: float, made: float, expected: float) -> None:
        """Take a size that is nowhere near: once for the mean, twice for a new beginning."""
        if not self._again and (self._seen < _FEW or not self._over):
            self._again = 1.0
            self._begin(size, made)
            return
        self._row += made
        if self._row >= _IN_A_ROW:
            if size < expected:
                self._top, self._bottom = self._level, size
            self._level = max(0.0, size + self._growth * (made - 1) / 2)
            self._size, self._made, self._row, self._miss = size, made, 0.0, 0.0
            self._took = self._expected = self._stray = 0.0
            self._over = min(self._over, _GROWTH_OVER_ANEW)
            return
        if not self._expected:
            self._took = self._expected = expected * min(self._seen, 1 / (1 - _STRAY_FADE))
        fade, off = _STRAY_FADE**made, size - expected
        self._took = self._took * fade + size * made
        self._expected = self._expected * fade + expected * made
        self._stray = self._stray * fade + off * off * made
        self._level = max(0.0, self._level + self._growth * made)
        self._size, self._made, self._miss = self._level, 1.0, 0.0


#: What may be below 0 in a state.
_SIGNED: Final = frozenset(("_growth", "_miss", "_returned"))
#: All of it at once: it is asked for at every verdict.
_STATE: Final = attrgetter(*SizeTrend.__slots__)


def _gain(squares: float, back: float) -> float:
    """Return the share of a surprise that stays, from the mean of misses squared (walk + 2 noise)
    and that of each times the one before it (back: noise).
    """
    ratio = squares / back - 2  # of walk to noise
    return (math.sqrt(ratio * (ratio + 4)) - ratio) / 2 if ratio > 0 else 0.0
