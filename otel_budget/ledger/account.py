"""One run in the ledger: its incarnations, what they counted, and what it said about itself.

How a total comes about:
- A series is a counter (counter.py); the series of one name at one target are summed.
- An incarnation that says when it started is one process wherever it is seen: seen through two
  targets (a pair of Prometheus servers, a target listed twice), the larger sum counts, once.
  Without a start time the target stands for it.
- Incarnations follow one another by their start. Each begins from the larger of what is known up
  to then and what it says it carried over from its checkpoint:
  ``total = max(total so far, carried over) + what it counted``.
  So neither a checkpoint older than the last scrape nor a scrape older than the checkpoint loses
  or doubles anything, and the order in which samples arrive does not matter.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from statistics import median
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.ledger.counter import CounterState, first
from otel_budget.ledger.rate import Rate
from otel_budget.model.reading import SessionFacts

if TYPE_CHECKING:
    from otel_budget.model.reading import SessionReading
    from otel_budget.model.usage import Number

COUNTED = (semconv.TOKENS, semconv.API_CALLS, semconv.COST)
ZERO: dict[str, Number] = {
    semconv.TOKENS: 0,
    semconv.API_CALLS: 0,
    semconv.COST: Decimal(0),
}
_GAPS_KEPT = 5

Series = dict[tuple[str, str], CounterState]


class Incarnation:
    """One process that carries the run, and what was seen of it at each target."""

    __slots__ = ("carried_over", "started_at", "targets")

    def __init__(self, started_at: float | None) -> None:
        """Begin with nothing seen."""
        self.started_at = started_at
        self.targets: dict[str, Series] = {}
        self.carried_over: dict[str, Number] = {}

    def observe(self, reading: SessionReading) -> int:
        """Take in one reading; return the number of counter resets it showed."""
        series = self.targets.setdefault(reading.target, {})
        resets = 0
        for key, value in reading.counters.items():
            known = series.get(key)
            if known is None:
                series[key] = first(value)
            else:
                series[key], reset = known.observe(value)
                resets += reset
        for resource, value in reading.facts.carried_over.items():
            if value > self.carried_over.get(resource, ZERO.get(resource, 0)):
                self.carried_over[resource] = value
        return resets

    def counted(self, resource: str) -> Number:
        """Return what this incarnation counted: the larger of its targets' sums."""
        sums = (
            sum((s.total for (name, _), s in series.items() if name == resource), ZERO[resource])
            for series in self.targets.values()
        )
        return max(sums, default=ZERO[resource])


class Account:
    """All the ledger knows about one run."""

    def __init__(self, session_id: str, started_at: float | None, first_seen_at: float) -> None:
        """Open an account for a run that was just seen for the first time."""
        self.session_id = session_id
        self.started_at = started_at
        self.first_seen_at = first_seen_at
        self.began_at = first_seen_at
        """When the run began on our own clock, as well as it is known."""
        self.incarnations: dict[str, Incarnation] = {}
        self.facts = SessionFacts()
        self.targets: set[str] = set()
        self.sampled_at: float | None = None
        """The newest confirmed sample; None until there is one."""
        self.watched_from = first_seen_at
        """Silence counts from here at the earliest: a restarted sidecar missed nothing before."""
        self.gaps: deque[float] = deque(maxlen=_GAPS_KEPT)
        self.expected_gap = 1.0
        self.implausible_since: float | None = None
        self.ended_at: float | None = None
        self.rates: dict[str, Rate] = {}
        self.resets = 0
        self.revision = 0
        """Grows whenever something worth storing changed."""

    def observe(self, reading: SessionReading, *, confirmed: bool) -> tuple[int, bool]:
        """Take in one reading of this run.

        confirmed: False when the source says that something is missing: values still count, but
        they do not make the run fresh. Returns the number of counter resets, and whether the
        reading brought a new incarnation to a run that had one.
        """
        before = self.totals()
        inc_at = reading.facts.incarnation_at
        key = f"t:{reading.target}" if inc_at is None else f"i:{inc_at!r}"
        incarnation = self.incarnations.get(key)
        replaced = incarnation is None and inc_at is not None and bool(self.incarnations)
        if incarnation is None:
            incarnation = self.incarnations[key] = Incarnation(inc_at)
            self.revision += 1
        resets = incarnation.observe(reading)
        self.resets += resets + replaced
        self._take_facts(reading, newest=self._is_newest(incarnation))
        after = self.totals()
        if before != after or resets:
            self.revision += 1
        if reading.implausible:
            if self.implausible_since is None:
                self.implausible_since = reading.sampled_at
        elif reading.counters:
            self.implausible_since = None
        if confirmed and reading.counters:
            self._mark_fresh(reading.sampled_at, before, after)
        return resets, replaced

    def totals(self) -> dict[str, Number]:
        """Return tokens, API calls and cost over all incarnations."""
        in_order = sorted(self.incarnations.values(), key=lambda i: i.started_at or 0.0)
        totals = dict(ZERO)
        for incarnation in in_order:
            for resource in COUNTED:
                start = incarnation.carried_over.get(resource, ZERO[resource])
                counted = incarnation.counted(resource)
                totals[resource] = max(totals[resource], start) + counted  # type: ignore[operator]
        return totals

    def duration(self, now: float) -> float:
        """Return seconds since the run began; it stands still once the run has ended."""
        if self.ended_at is not None and self.facts.duration is not None:
            return self.facts.duration
        return max(0.0, (now if self.ended_at is None else self.ended_at) - self.began_at)

    def gap(self) -> float:
        """Return the usual seconds between two samples."""
        return median(self.gaps) if self.gaps else self.expected_gap

    def _is_newest(self, incarnation: Incarnation) -> bool:
        newest = max((i.started_at or 0.0) for i in self.incarnations.values())
        return (incarnation.started_at or 0.0) >= newest

    def _take_facts(self, reading: SessionReading, *, newest: bool) -> None:
        self.targets.add(reading.target)
        facts = reading.facts
        if self.started_at is None and facts.started_at is not None:
            self.started_at = facts.started_at
        if facts.duration is not None:
            # The earliest beginning that any sample implies: the duration never goes down.
            self.began_at = min(self.began_at, reading.sampled_at - facts.duration)
        elif facts.started_at is not None:
            self.began_at = min(self.began_at, facts.started_at)
        if not newest:
            return
        ended = facts.state in semconv.ENDED_STATES
        if ended != (self.ended_at is not None):
            self.ended_at = reading.sampled_at if ended else None
        if _lasting(facts) != _lasting(self.facts):
            self.revision += 1
        self.facts = facts

    def _mark_fresh(self, at: float, before: dict[str, Number], after: dict[str, Number]) -> None:
        if self.sampled_at is None:
            self.sampled_at = at
            return
        gap = at - self.sampled_at
        if gap <= 0:
            return
        self.gaps.append(gap)
        self.sampled_at = at
        for resource in COUNTED:
            spent = float(after[resource] - before[resource])  # type: ignore[operator]
            self.rates[resource] = self.rates.get(resource, Rate()).observe(spent, gap, at)


def _lasting(facts: SessionFacts) -> tuple[object, ...]:
    """Return the facts that matter after a restart; the duration goes on by the clock."""
    return (facts.limits, facts.thresholds, facts.completion_threshold, facts.progress, facts.state)
