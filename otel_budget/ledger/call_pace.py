"""How large a run's calls are, how they grow, and how long they take: from its totals alone.

An agent re-sends a growing context with each call: its tokens follow a line (``size_trend``). What
else a call takes (money, tool calls, seconds) scatters far more from one call to the next. It is
the fading mean of what calls took, part of which goes with the size of the context. O(1) state for
a run, whatever it does; a sample may hold no call, one, or many.
"""

from __future__ import annotations

import math
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.forecast import Estimate
from otel_budget.ledger.call_gaps import CallGaps
from otel_budget.ledger.size_trend import CallSize, SizeTrend, faded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_budget.core.quantities import Number

#: Nothing grows faster than this with the context, whatever chance makes of a few calls.
_MOST_SHARE: Final = 1.5
#: Standard deviations to each side of 80 % of what came: costs of single calls have a long tail
#: (a cache that was missed). The halves of the recorded runs give 1.9 and 1.8.
_MEAN_SPREAD: Final = 1.9
#: Share of the square of a mean below which a difference of sums is rounding.
_ROUNDING: Final = 1e-9
#: No call takes less than this share of the mean, whatever its size.
_LEAST: Final = 0.1
#: A mean below this is what is left of a sum that has faded: calls use nothing of it any more.
_NOTHING: Final = 1e-30
#: No number of a state is as large: totals end at 2^53, and fading sums hold at most their squares.
_LARGEST: Final = 1e60
#: Fading sums of each resource beside the context.
_SUMS: Final = 3
_NO_SUMS: Final = (0.0,) * _SUMS
_ONE_CALL: Final = CallSize(1.0, 0.0)
_CALLS: Final = semconv.API_CALLS


class _Share(NamedTuple):
    """How far what a call takes goes with its context: 0 not at all, 1 in proportion."""

    share: float
    doubt: float
    """Variance of the share as it is known."""
    left: float = 0.0
    """Variance of what calls take beside that, in units squared."""


#: Before a run shows its own. Cost: with a cache at a tenth of the price half of it is the context,
#: the other half is what is new. Both are chosen on one half of the runs in
#: evaluation/data/mini_swe_runs.csv.
_COST_SHARE: Final = _Share(0.5, 0.1**2)
_SECONDS_SHARE: Final = _Share(0.15, 0.05**2)


class CallTime(NamedTuple):
    """Seconds from one call to the next: the k-th from now takes newest + k growth."""

    newest: float
    """Above 0."""
    growth: float
    """May be negative."""
    scatter: float
    """Variance of one of them, as a share of ``newest`` squared."""
    seen: float
    """Calls that it rests on; older ones fade."""


class CallPace:
    """What is known of a run's calls."""

    __slots__ = (
        "_at", "_calls", "_context", "_gaps", "_ones", "_rest", "_samples", "_size", "_sizes",
        "_squares", "_time", "_times_known", "_trend", "_used",
    )  # fmt: skip

    def __init__(self) -> None:
        """Begin with a run of which nothing is known."""
        self._calls = 0.0
        self._at: float | None = None
        """When the newest call was seen; before one, since when none was."""
        self._used: dict[str, float] = {}
        """Per resource, the totals as of then."""
        self._context = semconv.TOKENS
        """The resource whose size is that of the context; without tokens, cost."""
        self._trend = SizeTrend()
        self._gaps = CallGaps()
        self._ones = self._sizes = self._squares = self._samples = 0.0
        """Fading sums: of calls, their sizes, the squares of these; of samples."""
        self._size: CallSize | None = None
        self._time: CallTime | None = None
        self._times_known = False
        """Whether ``_time`` is that of now; ``_size``, unless None, is. Both follow from the rest:
        every limited resource asks for them."""
        self._rest: dict[str, tuple[float, ...]] = {}
        """Per other resource fading sums: of what calls used of it, of that times their size, and
        of its square."""

    def observe(self, totals: Mapping[str, Number], at: float) -> None:
        """Take what the run has used as of a time in seconds; its totals never go down.

        totals: per counted resource, what was used in all. To be called with every sample, also
        with one in which nothing has changed. What was used before the first is taken for calls of
        one size, as nobody saw them apart.
        """
        calls = float(totals.get(_CALLS, 0))
        made = calls - self._calls
        if made <= 0:
            if self._at is None:
                self._at = at
            return
        if not self._calls:
            self._context = _context_of(totals)
            self._take(totals, made)
        else:
            size = self._take(totals, made)
            if self._at is not None and at >= self._at:
                self._gaps.observe(at - self._at, size, made)
        self._calls, self._at = calls, at
        self._size, self._times_known = None, False

    def _take(self, totals: Mapping[str, Number], made: float) -> float:
        """Add to the sums what so many new calls used; return the size of their context."""
        used, context = self._used, self._context
        fade, share = faded(made)
        total = float(totals.get(context, 0))
        size = max(0.0, total - used.get(context, 0.0)) / made
        used[context] = total
        self._trend.observe(size, made)
        part = share * size
        self._ones = self._ones * fade + share
        self._sizes = self._sizes * fade + part
        self._squares = self._squares * fade + part * size
        self._samples = self._samples * fade + 1.0
        for name, amount in totals.items():
            if name == context or name == _CALLS:  # noqa: PLR1714, SIM109 - twice as fast
                continue
            total = float(amount)
            each = max(0.0, total - used.get(name, 0.0)) / made
            used[name] = total
            part = share * each
            sum_, sized, squares = self._rest.get(name, _NO_SUMS)
            self._rest[name] = (
                sum_ * fade + part,
                sized * fade + part * size,
                squares * fade + part * each,
            )
        return size

    def size_of(self, resource: str) -> CallSize | None:
        """Return what calls use of a resource; None where no call of the run was seen."""
        if not self._calls:
            return None
        if resource == semconv.API_CALLS:
            return _ONE_CALL
        context = self._context_size()
        if resource == self._context:
            return context
        sums = self._rest.get(resource)
        return None if sums is None else self._with_context(resource, sums, context)

    def _context_size(self) -> CallSize:
        size = self._size
        if size is None:
            size = self._size = self._trend.size()
        return size

    def _share(self, mean: float, variance: float, both: float, before: _Share) -> _Share:
        """Return by which share of their mean amounts go with the context, and how surely.

        It is the slope of a line through amounts (their mean and variance) against the size of
        the context (both: their covariance), and what is known before a run shows its own, each
        weighed by how surely it is known (Bayes, normal). variance: in the result what is left.
        """
        ones, usual = self._ones, self._sizes / self._ones
        spread = self._squares / ones - usual * usual
        if spread <= _ROUNDING * usual * usual:
            return before._replace(left=variance)
        left = max(0.0, variance - both * both / spread)
        doubt = left / (mean * mean) / (ones * spread / (usual * usual))
        own, known = both / spread * usual / mean, before.doubt
        share = (own * known + before.share * doubt) / (known + doubt)
        return _Share(min(_MOST_SHARE, max(0.0, share)), known * doubt / (known + doubt), left)

    def _with_context(self, resource: str, sums: tuple[float, ...], context: CallSize) -> CallSize:
        """Return what calls use of a resource that goes with their context by a share."""
        ones, usual = self._ones, self._sizes / self._ones
        mean = sums[0] / ones
        variance = max(0.0, sums[2] / ones - mean * mean)
        lumps = max(1.0, ones / self._samples)  # means of several calls scatter less
        if resource != semconv.COST or usual < _NOTHING or mean < _NOTHING:
            variance *= lumps
            return CallSize(mean, 0.0, variance, 0.0, variance / ones, 0.0, _MEAN_SPREAD)
        found = self._share(mean, variance, sums[1] / ones - mean * usual, _COST_SHARE)
        variance = found.left * lumps
        scale = mean / usual
        per, doubt = found.share * scale, found.doubt * scale * scale
        ahead, square = context.newest - usual, per * per
        return CallSize(
            max(0.0, mean + per * ahead),
            per * context.growth,
            variance,
            square * context.walk,
            variance / ones + doubt * ahead * ahead + square * context.newest_variance,
            doubt * context.growth * context.growth + square * context.growth_variance,
            _MEAN_SPREAD,
            mean + per * (context.top - usual) if context.top else 0.0,
            mean + per * (context.bottom - usual),
        )

    def next_call(self, resource: str) -> Estimate | None:
        """Return what the next call will use of a resource, in its units; None: not known."""
        size = self.size_of(resource)
        if size is None:
            return None
        value = max(0.0, size.newest + size.growth)
        variance = size.noise + size.walk + size.newest_variance + size.growth_variance
        off = size.spread * math.sqrt(variance)
        return Estimate(value, max(0.0, value - off), value + off)

    def call_time(self) -> CallTime | None:
        """Return the seconds from one call to the next; None until two were seen apart."""
        if not self._times_known:
            self._time, self._times_known = self._found_time(), True
        return self._time

    def _found_time(self) -> CallTime | None:
        found = self._gaps.mean_and_variance()
        if found is None:
            return None
        mean, variance = found
        if mean < _NOTHING:
            return None
        newest, growth, usual = mean, 0.0, self._sizes / self._ones
        if usual >= _NOTHING:
            context = self._context_size()
            share = self._share(mean, variance, self._gaps.with_size(), _SECONDS_SHARE).share
            per = share * mean / usual
            newest = max(mean * _LEAST, mean + per * (context.newest - usual))
            growth = per * context.growth
        return CallTime(newest, growth, variance / (newest * newest), self._gaps.seen)

    @property
    def calls(self) -> float:
        """API calls made so far; 0 if the run counts none."""
        return self._calls

    @property
    def tells_growth(self) -> bool:
        """True once calls were seen apart from each other; of one lump only the mean is known."""
        return self._trend.tells_growth

    def is_idle(self, now: float) -> bool:
        """Tell whether no call was made for so long that nobody can tell when it goes on.

        now: on the clock of the samples.
        """
        return self._at is not None and now - self._at > self._gaps.idle_after()

    def move(self, seconds: float) -> None:
        """Put its moments on a clock that is ahead of the present one by so many seconds."""
        if self._at is not None:
            self._at += seconds

    def kept(self) -> tuple[Any, ...]:
        """Return what forecasts follow from, as it is now: for ``of_kept``, not to be stored."""
        return _KEPT(self), self._rest.copy(), self._trend.state(), self._gaps.state()

    @classmethod
    def of_kept(cls, kept: tuple[Any, ...]) -> CallPace:
        """Return a pace that foretells what the one did that was kept; it cannot go on."""
        pace = cls()
        numbers, pace._rest, trend, gaps = kept
        pace._calls, pace._at, pace._context, *sums = numbers
        pace._ones, pace._sizes, pace._squares, pace._samples = sums
        pace._trend, pace._gaps = SizeTrend.from_state(trend), CallGaps.from_state(gaps)
        return pace

    def state(self) -> tuple[Any, ...]:
        """Return all of it as nested tuples of numbers, text and None: JSON can hold them."""
        return (
            self._calls,
            self._at,
            self._context,
            tuple(self._used.items()),
            (self._ones, self._sizes, self._squares, self._samples),
            tuple((name, *sums) for name, sums in self._rest.items()),
            self._trend.state(),
            self._gaps.state(),
        )

    @classmethod
    def from_state(cls, state: Sequence[Any]) -> CallPace:
        """Return the pace that ``state()`` described; lists may stand for its tuples.

        Raises ValueError if it is not such a state: begin with a new one then.
        """
        pace = cls()
        try:
            calls, at, context, used, sums, rest, trend, gaps = state
            pace._calls, pace._at = _sum(calls), None if at is None else _number(at)
            pace._context = str(context)
            pace._used = {str(name): _sum(total) for name, total in used}
            pace._ones, pace._sizes, pace._squares, pace._samples = map(_sum, sums)
            pace._rest = {str(name): tuple(map(_sum, row)) for name, *row in rest}
            pace._trend = SizeTrend.from_state(tuple(map(_number, trend)))
            pace._gaps = CallGaps.from_state(tuple(map(_sum, gaps)))
        except TypeError as error:
            raise ValueError("not the state of a pace") from error
        seen = pace._ones and pace._samples and pace._trend.has_begun
        if any(len(row) != _SUMS for row in pace._rest.values()) or (calls and not seen):
            raise ValueError("not the state of a pace")
        return pace


#: What is kept at every verdict, all at once.
_KEPT: Final = attrgetter(
    "_calls", "_at", "_context", "_ones", "_sizes", "_squares", "_samples"
)  # fmt: skip


def _context_of(totals: Mapping[str, Number]) -> str:
    """Return the resource whose size is that of the context."""
    if not totals.get(semconv.TOKENS) and totals.get(semconv.COST):
        return semconv.COST
    return semconv.TOKENS


def _number(value: object) -> float:
    """Return a number of a state. Raises ValueError if it is none that runs can have brought up."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not -_LARGEST < value < _LARGEST:  # type: ignore[operator] # NaN: false
        raise ValueError("not the state of a pace")
    return float(value)  # type: ignore[arg-type]


def _sum(value: object) -> float:
    """Return a number of a state that is never below 0: a sum, a weight, a count or a flag."""
    number = _number(value)
    if number < 0:
        raise ValueError("not the state of a pace")
    return number
