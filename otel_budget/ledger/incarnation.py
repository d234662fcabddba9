"""One process that carries a run, and what was seen of it at each target.

- Samples of one target count in the order they were taken. A sample older than one that was seen
  there before says nothing new, and must not look like a reset; nor must a lower value at the same
  time, which may come from another replica of a Prometheus server.
- Seen through two targets (a pair of Prometheus servers, a target listed twice), the larger sum
  counts, once.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from otel_budget import semconv
from otel_budget.ledger.counter import CounterState, first
from otel_budget.ledger.facts import begun_with, filled
from otel_budget.model.reading import SessionFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_budget.model.reading import SessionReading
    from otel_budget.model.usage import Number

#: Facts that count calls of which something is unknown.
UNSURE = ("unpriced_calls", "unknown_usage_calls", "estimated_calls")
COUNTED = (semconv.TOKENS, semconv.API_CALLS, semconv.COST)
#: So many series that are gone are kept apart at one target; one is gone after so many seconds.
SERIES_KEPT = 100
FOLD_AFTER = 600.0
#: Series of one run at one target that are remembered at most beside those of the newest sample.
SERIES_MOST = 2000
#: Seconds by which the dates of samples may differ from one to the next.
JITTER = 1.0
ZERO: dict[str, Number] = {
    semconv.TOKENS: 0,
    semconv.API_CALLS: 0,
    semconv.COST: Decimal(0),
}


class Taken(NamedTuple):
    """What one reading of an incarnation brought to light."""

    resets: int = 0
    new: bool = False
    """True if it was a new sample at its target."""
    counted: bool = False
    """True if what is counted may have changed."""
    stated: bool = False
    """True if what is carried over or unsure did."""
    lacking: bool = False
    """True if a counter that was there before is missing in it."""


class View:
    """What one target showed of an incarnation. Times in seconds on the reader's own clock."""

    __slots__ = (
        "folded", "implausible_since", "lacking", "seen_at", "seen_before", "series", "shown",
        "shown_at", "sums",
    )  # fmt: skip

    def __init__(self, seen_at: float) -> None:
        """Begin with the first sample, taken at ``seen_at``."""
        self.seen_at = seen_at
        self.seen_before: float | None = None
        """When the sample before the newest was taken."""
        self.implausible_since: float | None = None
        """None while its newest values are plausible."""
        self.series: dict[tuple[str, str], CounterState] = {}
        self.shown: Mapping[tuple[str, str], Number] = {}
        """The newest sample."""
        self.shown_at: dict[tuple[str, str], float] = {}
        """When each series that is not in it was last there."""
        self.folded: dict[str, Number] = {}
        """Per resource, what series counted that are long gone."""
        self.sums: dict[str, Number] = {}
        """Per resource, what all series ever counted."""
        self.lacking = False
        """True if the newest sample has no series of a resource that was counted before."""

    def observe(self, reading: SessionReading) -> tuple[int, bool]:
        """Take in one reading that is not older than the last.

        Returns the resets it showed, and whether what is counted changed.
        """
        at, before = reading.sampled_at, self.seen_at
        newer = at > before
        if newer:
            self.seen_before, self.seen_at = self.seen_at, at
        if reading.implausible:
            if self.implausible_since is None:
                self.implausible_since = at
        elif reading.counters:
            self.implausible_since = None
        if reading.counters is self.shown:
            return 0, False  # a source gives the same mapping again if nothing in it changed
        resets, changed = self._take(reading.counters, newer=newer)
        self._note_absent(reading.counters, before)
        if len(self.series) > SERIES_KEPT:
            self._fold(at)
        return resets, changed

    def _take(self, counters: Mapping[tuple[str, str], Number], *, newer: bool) -> tuple[int, bool]:
        resets, changed = 0, False
        for key, value in counters.items():
            known = self.series.get(key)
            if known is None:
                state, before, reset = first(value), ZERO[key[0]], False
            elif value != known.last and (newer or value > known.last):
                before = known.total
                state, reset = known.observe(value)
            else:
                continue
            self.series[key], changed = state, True
            self.sums[key[0]] = self.sums.get(key[0], ZERO[key[0]]) + (state.total - before)  # type: ignore[operator]
            resets += reset
        return resets, changed

    def _note_absent(self, counters: Mapping[tuple[str, str], Number], until: float) -> None:
        """Note which series are not there any more, and which are again."""
        for key in self.shown:
            if key not in counters:
                self.shown_at[key] = until
        if self.shown_at or self.lacking:
            for key in counters:
                self.shown_at.pop(key, None)
            self.lacking = not self.sums.keys() <= {resource for resource, _ in counters}
        self.shown = counters

    def sum_up(self) -> None:
        """Work the sums out from what is kept of the series."""
        self.sums = dict(self.folded)
        for (resource, _), state in self.series.items():
            self.sums[resource] = self.sums.get(resource, ZERO[resource]) + state.total  # type: ignore[operator]

    def _fold(self, at: float) -> None:
        """Keep only the sum of series that are long gone, once there are many of them.

        An agent that labels its series by request would make them grow without bound. One that
        comes back after all counts as a new one.
        """
        gone = [key for key, shown_at in self.shown_at.items() if at - shown_at > FOLD_AFTER]
        if len(gone) <= SERIES_KEPT:
            if len(self.shown_at) <= SERIES_MOST:
                return
            gone = sorted(self.shown_at, key=self.shown_at.__getitem__)[:-SERIES_KEPT]
        for key in gone:
            resource, total = key[0], self.series.pop(key).total
            self.folded[resource] = self.folded.get(resource, ZERO[resource]) + total  # type: ignore[operator]
            del self.shown_at[key]


class Incarnation:
    """One process that carries the run."""

    __slots__ = (
        "began_at", "carried_over", "facts", "facts_at", "outlived", "started_at", "stated",
        "timed", "unsure", "views",
    )  # fmt: skip

    def __init__(self, started_at: float | None, facts: SessionFacts | None = None) -> None:
        """Begin with nothing seen.

        started_at: Unix time by the agent's clock; None: not said. facts: of the incarnation
        before, for as long as this one's own are not whole.
        """
        self.started_at = started_at
        self.views: dict[str, View] = {}
        self.carried_over: dict[str, Number] = {}
        self.stated: Mapping[str, Number] | None = None
        """What it said of that in its newest sample."""
        self.unsure: dict[str, int] = {}
        """Per name in ``UNSURE``, the most calls it ever showed."""
        self.facts = SessionFacts() if facts is None else facts._replace(state=None, active=None)
        self.facts_at: float | None = None
        """When the sample the facts came from was taken."""
        self.began_at: float | None = None
        """When the run began on the reader's own clock, by this incarnation's newest sample."""
        self.outlived = False
        """True once it went on beside a newer one."""
        self.timed = False
        """True if that follows from a duration, which needs no other clock."""

    @property
    def place(self) -> float:
        """Where it stands among the incarnations of its run; without a start time, first."""
        return self.started_at or 0.0

    def observe(self, reading: SessionReading, *, whole: bool) -> Taken:
        """Take in one reading. whole: False when something of the run is known to be missing."""
        stated = self._take_stated(reading.facts)
        view, at = self.views.get(reading.target), reading.sampled_at
        if view is None:
            view = self.views[reading.target] = View(at)
            taken = Taken(view.observe(reading)[0], new=True, counted=True, stated=stated)
        elif at < view.seen_at:
            taken = Taken(stated=stated)
        else:
            new = at > view.seen_at
            resets, counted = view.observe(reading)
            # Of a process that does not say when it started, a series may go by a restart.
            lacking = view.lacking and self.started_at is not None
            taken = Taken(resets, new, counted, stated, lacking)
        self._take_facts(reading, whole=whole, grew=taken.counted)
        return taken

    def _take_stated(self, facts: SessionFacts) -> bool:
        """Take in what only grows of what it says; return whether anything did."""
        changed = False
        if facts.carried_over is not self.stated:
            self.stated = facts.carried_over
            for resource, value in facts.carried_over.items():
                if value > self.carried_over.get(resource, ZERO.get(resource, 0)):
                    self.carried_over[resource], changed = value, True
        for name in UNSURE:
            calls = getattr(facts, name)
            if calls and math.ceil(calls) > self.unsure.get(name, 0):
                self.unsure[name], changed = math.ceil(calls), True
        return changed

    def knows(self, resource: str) -> bool:
        """Tell whether anything was ever said about a resource: unknown is not 0."""
        if resource in self.carried_over:
            return True
        return any([resource in view.sums for view in self.views.values()])  # noqa: C419 - quicker

    def begins_from(self, resource: str) -> Number:
        """Return what it says it brought along from a checkpoint."""
        return self.carried_over.get(resource, ZERO[resource])

    def counted(self, resource: str) -> Number:
        """Return what it counted itself: the larger of its targets' sums."""
        sums = [view.sums.get(resource, ZERO[resource]) for view in self.views.values()]
        return sums[0] if len(sums) == 1 else max(sums, default=ZERO[resource])

    def _take_facts(self, reading: SessionReading, *, whole: bool, grew: bool) -> None:
        if self.facts_at is not None and reading.sampled_at < self.facts_at:
            return
        known = self.facts
        if whole and self.facts_at is None:
            known = begun_with(reading.facts, known)
        self.facts = filled(reading.facts, known, whole=whole)
        if grew and reading.facts.state is None and self.facts.state in semconv.ENDED_STATES:
            self.facts = self.facts._replace(state=None)  # who uses more has not ended
        self.facts_at = reading.sampled_at
        self._take_beginning(reading)

    def _take_beginning(self, reading: SessionReading) -> None:
        """Work out anew when the run began, unless it differs by no more than samples do anyway.

        Within that the earliest counts, so that the duration does not go down by it.
        """
        stated, known = reading.facts, self.began_at
        if stated.duration is not None:
            began_at = reading.sampled_at - stated.duration
            if known is None or not self.timed or not 0 <= began_at - known <= JITTER:
                self.began_at, self.timed = began_at, True
        elif stated.started_at is not None and not self.timed:
            began_at = min(stated.started_at, reading.sampled_at)
            self.began_at = began_at if known is None else min(known, began_at)


def totals_of(incarnations: Iterable[Incarnation]) -> dict[str, Number]:
    """Return what a row of incarnations has used together, as far as that is known."""
    row, totals = list(incarnations), dict[str, "Number"]()
    for resource in COUNTED:
        known = [i for i in row if i.knows(resource)]
        if not known:
            continue
        total = ZERO[resource]
        if len(known) > 1:
            known.sort(key=lambda i: (i.place, -i.begins_from(resource)))
        for incarnation in known:
            start, counted = incarnation.begins_from(resource), incarnation.counted(resource)
            total = max(total, start) + counted  # type: ignore[operator]
        totals[resource] = total
    return totals
