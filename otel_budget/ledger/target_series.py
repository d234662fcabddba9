"""What one target showed of a process: its series, and when they were seen.

Samples of one target count in the order they were taken: one that is older than another that was
seen there before says nothing new. What counts of their values is in counter.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.ledger.counter import Counters

if TYPE_CHECKING:
    from otel_budget.core.observation import RunObservation

#: Seconds after which a sample that is shown again is kept, and not only read twice.
_KEPT_AFTER = 1.0


class TargetSeries(Counters):
    """What one target showed of a process. Times in seconds on the reader's own clock."""

    __slots__ = (
        "active", "first_at", "implausible_since", "kept", "lasted", "seen_at", "seen_before",
    )  # fmt: skip

    def __init__(self, seen_at: float) -> None:
        """Begin with the first sample, taken at ``seen_at``."""
        super().__init__()
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

    def repeats(self, reading: RunObservation) -> bool:
        """Tell whether a reading is the newest sample once more, of a run that goes on.

        A page that is kept (by a Pushgateway, a file, a cache) is no sign of life: in what a
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

    def observe(self, reading: RunObservation) -> tuple[int, bool]:
        """Take in one reading that is not older than the last.

        Returns the resets it showed, and whether what is counted changed.
        """
        at, before = reading.sampled_at, self.seen_at
        self.lasted, self.active = reading.attributes.duration, reading.attributes.active
        self.kept = False
        if at > before:
            self.seen_before, self.seen_at = self.seen_at, at
        if reading.implausible:
            if self.implausible_since is None:
                self.implausible_since = at
        elif reading.counters:
            self.implausible_since = None
        if reading.counters is self.shown:
            return 0, False  # a source gives the same mapping again if nothing in it changed
        return self.take(reading.counters, at, before)
