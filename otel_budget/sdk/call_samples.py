"""The calls of one run as its forecast sees them: samples of its totals, taken as it counts.

Counting pays next to nothing for it: a sample is due at a number of calls (``next_at``) that the
guard has among its watermarks, so no further look is taken at each call. One is taken at each of
the first 128 calls, later at each second one, each third one, and so on. Unless somebody asks
meanwhile only the first and the newest are kept: what lies between is one lump, as it is between
two scrapes.

The clock is the active time: a pause is not how long a call takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.resources import FURTHER
from otel_budget.ledger.call_pace import CallPace
from otel_budget.sdk.phase_counters import Further, plus

if TYPE_CHECKING:
    from decimal import Decimal

    from otel_budget.core.quantities import Number
    from otel_budget.core.usage import ResourceUsage
    from otel_budget.sdk.run_counters import RunCounters

#: So many calls are sampled one by one; of n calls, each ``1 + n // EACH``-th.
EACH: Final = 128
#: Samples kept for one who asks: 4 KiB of a run that nobody ever asks.
KEPT: Final = 16


#: What a process had counted when a call had been: API calls, tokens, cost, further resources, and
#: when, by the clock of the active time. A plain tuple takes a quarter of the time to make.
_Sample = tuple[int, int, "Decimal", Further, float]


class CallSamples:
    """Samples of one run's totals, and the pace that follows from them. Hold the record's lock."""

    __slots__ = ("_last", "_pace", "_samples", "_seen", "next_at")

    def __init__(self) -> None:
        """Begin without a call."""
        self.next_at = 1
        """API calls, by this process's count, at which the next sample is due."""
        self._last: _Sample | None = None
        self._samples: list[_Sample] = []
        self._pace: CallPace | None = None
        self._seen = 0
        """API calls that the pace knows of."""

    def take(self, counted: RunCounters, at: float) -> None:
        """Take the sample that is due, if the newest call has said what it used.

        Its tokens may come later, in an operation of their own; a call that brings none, as one
        that failed, is one with the next. at: seconds, by the clock of the active time.
        """
        calls, tokens, cost = counted.api_calls, counted.tokens, counted.cost_usd
        if counted.busy or calls < self.next_at:
            return  # in the middle of an addition: the next operation is as good
        last, step = self._last, 1 + calls // EACH
        if calls < self.next_at + step and (
            (tokens == last[1] and cost == last[2]) if last else not (tokens or cost)
        ):
            return
        self._last = calls, tokens, cost, counted.further, at
        self.next_at = calls + step
        self._samples.append(self._last)
        if len(self._samples) > KEPT:
            del self._samples[1]

    @property
    def newest(self) -> object:
        """The newest sample: as long as it is the same one, so is the pace."""
        return self._last

    def pace(self, carried: ResourceUsage, began_at: float) -> CallPace:
        """Return how the run's calls are by now, by its active seconds.

        carried: use of a resumed run. began_at: when this process took it up, by the clock of
        the samples.
        """
        # Should something come between, it begins anew, with all calls so far as one lump.
        pace, self._pace = self._pace, None
        taken, self._samples = self._samples, []
        if pace is None:
            pace, self._seen = CallPace(), 0
            if not taken and self._last is not None:
                taken = [self._last]
            if not taken:  # of what was carried only the mean is known, and calls have grown since
                return pace
            if carried.api_calls:
                pace.observe(_carried(carried), carried.active_seconds)
        for sample in taken:
            if sample[0] <= self._seen:
                continue  # a signal handler came in the middle of it, with a newer one
            self._seen = sample[0]
            pace.observe(_totals(sample, carried), carried.active_seconds + sample[4] - began_at)
        self._pace = pace
        return pace


def _carried(carried: ResourceUsage) -> dict[str, Number]:
    totals: dict[str, Number] = {
        semconv.TOKENS: carried.tokens,
        semconv.API_CALLS: carried.api_calls,
        semconv.COST: carried.cost_usd,
    }
    further = {name: getattr(carried, row.usage_key) for name, row in FURTHER.items()}
    return totals | {name: number for name, number in further.items() if number}


def _totals(sample: _Sample, carried: ResourceUsage) -> dict[str, Number]:
    """Return what the run had used in all, over all its processes."""
    calls, tokens, cost, further, _ = sample
    totals: dict[str, Number] = {
        semconv.TOKENS: carried.tokens + tokens,
        semconv.API_CALLS: carried.api_calls + calls,
        semconv.COST: plus(carried.cost_usd, cost),
    }
    for name, number in further.items():
        totals[name] = getattr(carried, FURTHER[name].usage_key) + number
    return totals
