"""How fresh the data of one run are, how often and how late they come, and how fast they grow.

Silence is measured by the age of the newest sample. Two things are not held against a run:

What was not watched (``Absences``): silence counts only while the sidecar runs. A ledger that was
closed is another case: it has not waited for anything yet when it is opened again
(``Freshness.watched_from``).

What its samples are always late by (``Lag``): some stores hide the newest seconds, and a source
that shows every sample half a minute late would look silent for ever.
- It is known from the second sample on that is seen to arrive. One alone says nothing: it may be
  the last of a process that died long ago.
- It is the least of a few ages, so what readings add now and then is no part of it.
- It may shrink at any time; it grows only to where two rows of samples agree: a source that falls
  further and further behind is silent in the end. More than ``LONGEST_LAG`` is not allowed for.
- No more than the spacing of the samples is no lag: readings and samples have different rhythms.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.resources import ZERO
from otel_budget.ledger.call_pace import CallPace
from otel_budget.ledger.rate import Rate, faded

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_budget.core.quantities import Number
    from otel_budget.ledger.target_series import TargetSeries

_GAPS_KEPT = 5
_NO_RATE = Rate()


class StoredPace(NamedTuple):
    """A run's pace as it was written last."""

    pace: CallPace
    """The very one: it has gone on since."""
    calls: float
    """Calls that it had seen by then."""
    tells_growth: bool
    """Whether they were seen apart from each other by then."""
    at: float
    """When the newest sample was taken."""
    text: str


class Freshness:
    """The moments of a run's samples. Times in seconds on the reader's own clock."""

    def __init__(self, first_seen_at: float) -> None:
        """Begin with no confirmed sample."""
        self.sampled_at: float | None = None
        """The newest confirmed sample; None until there is one."""
        self.watched_from = first_seen_at
        """Since when it is watched: a restarted sidecar missed nothing before."""
        self.gaps: tuple[float, ...] = ()
        self.expected_gap = 1.0
        self.least_gap = 0.0
        """What its gap is at least: samples that were asked for in between are no rhythm."""
        self.lag = Lag()
        """What its samples are late by, time and again."""
        self.rates: dict[str, Rate] = {}
        """How fast it spends, of a run that has counted no two calls yet, or counts none."""
        self.pace = CallPace()
        """How large its calls are, and how they grow."""
        self.stored_pace: StoredPace | None = None
        """The same as it is on disk, or about to be; None if it is to be written anew."""
        self._rated: dict[str, Number] | None = None
        """The totals at the last update of pace and rates."""

    def watch_anew(self, now: float) -> None:
        """Take note that from now on it is watched in another way, with other gaps."""
        self.watched_from, self.gaps = now, ()

    def silent_for(self, now: float) -> float:
        """Return seconds without a confirmed sample while it was watched."""
        newest = self.watched_from
        if self.sampled_at is not None:
            newest = max(newest, self.sampled_at)
        return max(0.0, now - newest)

    def gap(self) -> float:
        """Return the usual seconds between two samples."""
        gaps = self.gaps
        if not gaps:
            return self.expected_gap
        return max(sorted(gaps)[(len(gaps) - 1) // 2], self.least_gap)  # the lower median

    def count_from(self, totals: dict[str, Number], at: float) -> None:
        """Let pace and rates go on from totals that rose, but not by what was spent just now."""
        self._rated = totals
        self.pace = CallPace()
        self.pace.observe(totals, at)

    def mark_fresh(
        self,
        series: TargetSeries,
        before: dict[str, Number],
        after: dict[str, Number],
        read_at: float | None = None,
    ) -> None:
        """Take note of a confirmed sample at one target, and of the totals before and after it.

        read_at: when it arrived; None if that is not known.
        """
        at = series.seen_at
        if series.seen_before is not None and series.seen_before >= self.watched_from:
            self.gaps = (*self.gaps[1 - _GAPS_KEPT :], at - series.seen_before)
        gap = math.inf if self.sampled_at is None else at - self.sampled_at
        if gap <= 0:
            return
        if read_at is not None:
            self.lag.observe(read_at - at, self.gap)
        known = self.sampled_at is not None
        self.sampled_at = at
        calls = after.get(semconv.API_CALLS)
        if calls and after is not self._rated:  # else it was told just these totals before
            self.pace.observe(after, at)
        if calls and calls > 1:
            if self.rates:
                self.rates = {}
        elif known:
            self._rate(before, after, gap)
        self._rated = after

    def _rate(self, before: dict[str, Number], after: dict[str, Number], gap: float) -> None:
        """Take what was spent in so many seconds."""
        at = self.sampled_at or 0.0
        base = before if self._rated is None else self._rated
        fading, rates = faded(gap), self.rates
        if base is after:  # as it is with most runs at most samples: nothing was spent
            for resource in after:
                known, seconds, spent_at = rates.get(resource, _NO_RATE)
                rates[resource] = Rate(known * fading, seconds * fading + gap, spent_at)
            return
        for resource, total in after.items():
            spent = float(total - base.get(resource, ZERO[resource]))  # type: ignore[operator]
            rates[resource] = rates.get(resource, _NO_RATE).observe(spent, gap, at, fading)


#: Seconds. Past this, the default look-back of the stores, they show a sample no more.
LONGEST_LAG: Final = 300.0
_LAGS_IN_ROW: Final = 5
_LAGS_LEAST: Final = 2
#: Share of the spacing of samples by which the least of two rows may differ.
_LAGS_ALIKE: Final = 0.5


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
        if first and self._count >= _LAGS_LEAST:
            self._steady = self._least
        elif self._count < _LAGS_IN_ROW:
            return
        gap = usual_gap()
        if self._count >= _LAGS_IN_ROW:
            if self._least <= self._before + _LAGS_ALIKE * gap:
                self._steady = self._least
            self._before, self._count, self._least = self._least, 0, math.inf
        self.seconds = self._steady if gap < self._steady <= LONGEST_LAG else 0.0


Spell = tuple[float, float]
"""From when to when, in seconds on the reader's own clock."""

#: Spells that are kept apart. A run that was silent for longer than they go back is stopped sooner.
SPELLS_KEPT = 100


class Absences:
    """The newest spells that were not watched, in their order."""

    def __init__(self) -> None:
        """Begin with none."""
        self._spells: list[Spell] = []
        self._until = -math.inf

    def add(self, spell: Spell) -> None:
        """Take in a spell that ends after all others; it may overlap with them."""
        begin, end = spell
        while self._spells and self._spells[-1][1] >= begin:
            begin, end = min(begin, self._spells[-1][0]), max(end, self._spells.pop()[1])
        self._spells = [*self._spells, (begin, end)][-SPELLS_KEPT:]
        self._until = end

    def since(self, moment: float) -> float:
        """Return how many seconds were not watched since a moment."""
        if moment >= self._until:
            return 0.0  # as it is for nearly every run at nearly every tick
        return sum(end - max(begin, moment) for begin, end in self._spells if end > moment)

    def silent_for(self, run: Freshness, now: float) -> float:
        """Return the watched seconds without a confirmed sample of a run."""
        silent = run.silent_for(now)
        return silent - self.since(now - silent)
