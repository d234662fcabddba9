"""What one target showed of a process: its series, and when they were seen.

Samples of one target count in the order they were taken. A sample older than one that was seen
there before says nothing new, and must not look like a reset; nor must a lower value at the same
time, which may come from another replica of a Prometheus server.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.core.resources import ZERO
from otel_budget.ledger.branches import Branches
from otel_budget.ledger.counter import CounterState, first

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.observation import RunObservation
    from otel_budget.core.quantities import Number

#: So many series that are gone are kept apart at one target; one is gone after so many seconds.
SERIES_KEPT = 100
FOLD_AFTER = 600.0
#: Series of one run at one target that are remembered at most beside those of the newest sample.
SERIES_MOST = 2000
#: Seconds after which a sample that is shown again is kept, and not only read twice.
_KEPT_AFTER = 1.0
#: Share of a sum of money by which it drops where the same amounts are added in another order.
_ROUNDED_OFF = Decimal("1e-9")
_NONE: frozenset[str] = frozenset()


class TargetSeries:
    """What one target showed of an incarnation. Times in seconds on the reader's own clock."""

    __slots__ = (
        "active", "branches", "counters", "first_at", "folded", "implausible_since", "kept",
        "lacking", "lasted", "seen_at", "seen_before", "shown", "shown_at", "sums",
    )  # fmt: skip

    def __init__(self, seen_at: float) -> None:
        """Begin with the first sample, taken at ``seen_at``."""
        self.first_at = self.seen_at = seen_at
        self.seen_before: float | None = None
        """When the sample before the newest was taken."""
        self.lasted: float | None = None
        self.active: float | None = None
        """The duration and the active time in the newest sample."""
        self.kept = False
        """True while that is shown again and again."""
        self.implausible_since: float | None = None
        """None while its newest values are plausible."""
        self.counters: dict[tuple[str, str], CounterState] = {}
        self.shown: Mapping[tuple[str, str], Number] = {}
        """The newest sample."""
        self.shown_at: dict[tuple[str, str], float] = {}
        """When each series that is not in it was last there."""
        self.folded: dict[str, Number] = {}
        """Per resource, what series counted that are long gone."""
        self.sums: dict[str, Number] = {}
        """Per resource, what all series ever counted."""
        self.branches: dict[tuple[str, str], Branches] = {}
        """Of series that dropped, what may show that several processes write them."""
        self.lacking = False
        """True if the newest sample has no series of a resource that was counted before."""

    def repeats(self, reading: RunObservation) -> bool:
        """Tell whether a reading is the newest sample once more, of a run that goes on.

        A page that somebody keeps (a Pushgateway, a file, a cache) is no sign of life: in what a
        live process shows, one of its two times has moved.
        """
        attributes = reading.attributes
        if attributes.active is None or (attributes.duration, attributes.active) != (
            self.lasted,
            self.active,
        ):
            return False
        return (
            attributes.duration is not None
            and attributes.state not in semconv.ENDED_STATES
            and not reading.implausible
            and reading.counters == self.known_series()
        )

    def keeps(self, at: float) -> bool:
        """Take note of a repeated sample; True, once, where it is shown again and again."""
        before, self.kept = self.kept, at - self.seen_at > _KEPT_AFTER
        return self.kept and not before

    def known_series(self) -> Mapping[tuple[str, str], Number]:
        """Return the newest sample; as it was stored, if there was none since."""
        return self.shown or {key: state.last for key, state in self.counters.items()}

    def observe(self, reading: RunObservation) -> tuple[int, bool]:
        """Take in one reading that is not older than the last.

        Returns the resets it showed, and whether what is counted changed.
        """
        at, before = reading.sampled_at, self.seen_at
        self.lasted, self.active = reading.attributes.duration, reading.attributes.active
        self.kept = False
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
        if len(self.counters) > SERIES_KEPT:
            self._fold(at)
        return resets, changed

    def _take(self, counters: Mapping[tuple[str, str], Number], *, newer: bool) -> tuple[int, bool]:
        resets, changed = 0, False
        for key, value in counters.items():
            known = self.counters.get(key)
            if known is None:
                state, before, reset = first(value), ZERO[key[0]], False
            elif value != known.last and (newer or value > known.last):
                before = known.total
                if value < known.last or key in self.branches:
                    state, reset = self._jump(key, known, value)
                else:
                    state, reset = known.observe(value)
            else:
                continue
            self.counters[key], changed = state, True
            self.sums[key[0]] = self.sums.get(key[0], ZERO[key[0]]) + (state.total - before)  # type: ignore[operator]
            resets += reset
        return resets, changed

    def _jump(
        self, key: tuple[str, str], known: CounterState, value: Number
    ) -> tuple[CounterState, bool]:
        """Take in a value of a series that drops, or did."""
        last, money = known.last, isinstance(value, Decimal)
        if money and 0 < last - value <= last * _ROUNDED_OFF:  # type: ignore[operator] # one series is one type
            return known, False
        branches = self.branches.get(key)
        if branches is None:
            branches = self.branches[key] = Branches(known.last)
        elif self.shown and key in self.shown_at:
            branches.came_back()
        others = any(other.recognised for other in self.branches.values())
        observed = branches.observe(known, value, others=others)
        if branches.is_calm:
            del self.branches[key]
        return observed

    @property
    def alternating(self) -> frozenset[str]:
        """The resources of which a series was found to be written by several processes."""
        if not self.branches:
            return _NONE
        return frozenset(key[0] for key, branches in self.branches.items() if branches.doubtful)

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
        for (resource, _), state in self.counters.items():
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
            resource, total = key[0], self.counters.pop(key).total
            self.branches.pop(key, None)
            self.folded[resource] = self.folded.get(resource, ZERO[resource]) + total  # type: ignore[operator]
            del self.shown_at[key]
