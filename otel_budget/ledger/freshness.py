"""How fresh the data of one run are, how often they come, and how fast they grow."""

from __future__ import annotations

import math
from statistics import median_low
from typing import TYPE_CHECKING

from otel_budget.core.resources import ZERO
from otel_budget.ledger.lag import Lag
from otel_budget.ledger.rate import Rate, faded

if TYPE_CHECKING:
    from otel_budget.core.quantities import Number
    from otel_budget.ledger.target_series import TargetSeries

_GAPS_KEPT = 5
_NO_RATE = Rate()


class Freshness:
    """The moments of a run's samples. Times in seconds on the reader's own clock."""

    def __init__(self, first_seen_at: float) -> None:
        """Begin with no confirmed sample."""
        self.sampled_at: float | None = None
        """The newest confirmed sample; None until there is one."""
        self.watched_from = first_seen_at
        """Since when somebody listens: a restarted sidecar missed nothing before."""
        self.gaps: tuple[float, ...] = ()
        self.expected_gap = 1.0
        self.lag = Lag()
        """What its samples are late by, time and again."""
        self.rates: dict[str, Rate] = {}
        self._rated: dict[str, Number] | None = None
        """The totals at the last update of the rates."""

    def listened_anew(self, now: float) -> None:
        """Take note that from now on it is listened to in another way: another pace, too."""
        self.watched_from, self.gaps = now, ()

    def silent_for(self, now: float) -> float:
        """Return seconds without a confirmed sample while somebody listened."""
        newest = self.watched_from
        if self.sampled_at is not None:
            newest = max(newest, self.sampled_at)
        return max(0.0, now - newest)

    def gap(self) -> float:
        """Return the usual seconds between two samples."""
        return median_low(self.gaps) if self.gaps else self.expected_gap

    def count_from(self, totals: dict[str, Number]) -> None:
        """Let the rates go on from totals that rose, but not by what was spent just now."""
        self._rated = totals

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
            self.gaps = (*self.gaps, at - series.seen_before)[-_GAPS_KEPT:]
        gap = math.inf if self.sampled_at is None else at - self.sampled_at
        if gap <= 0:
            return
        if read_at is not None:
            self.lag.observe(read_at - at, self.gap)
        if self.sampled_at is None:
            self.sampled_at, self._rated = at, after
            return
        base = before if self._rated is None else self._rated
        self.sampled_at, self._rated = at, after
        fading = faded(gap)
        for resource, total in after.items():
            spent = 0.0
            if base is not after:
                spent = float(total - base.get(resource, ZERO[resource]))  # type: ignore[operator]
            self.rates[resource] = self.rates.get(resource, _NO_RATE).observe(
                spent, gap, at, fading
            )
