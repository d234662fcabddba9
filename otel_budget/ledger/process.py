"""One process that carries a run, and what was seen of it at each target.

Seen through two targets (a pair of Prometheus servers, a target listed twice), the larger sum
counts, once.

That a process reports its run as over is no proof (``Ending``): one that goes on to use something,
or whose duration goes on, is not. It is believed again once it stood still for a while. What it
shows together with that state was used before it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_budget import semconv
from otel_budget.core.observation import RunAttributes
from otel_budget.core.resources import COUNTED, ZERO
from otel_budget.ledger.attributes import (
    REPORTS_MOST,
    TargetReport,
    begun_with,
    filled,
    reported_together,
)
from otel_budget.ledger.target_series import TargetSeries

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from otel_budget.core.observation import RunObservation
    from otel_budget.core.quantities import Number

#: Attributes that count calls of which something is unknown.
UNSURE = ("unpriced_calls", "unknown_usage_calls", "estimated_calls")
#: A process that gave no sample for so many of its usual gaps is not surely alive any more.
SILENT_GAPS = 5
#: Seconds by which the clock of a run's host may be ahead of ours.
_FARTHEST_AHEAD = 86_400.0
#: Seconds by which the dates of samples may differ from one to the next.
JITTER = 1.0


def cannot_be(start: float | None, reading: RunObservation) -> bool:
    """Tell whether a start time cannot be: clocks may differ by hours, not by days.

    0 is how an exporter shows that it knows none.
    """
    return start is not None and (start == 0 or start > reading.sampled_at + _FARTHEST_AHEAD)


class Taken(NamedTuple):
    """What one reading of a process brought to light."""

    resets: int = 0
    new: bool = False
    """True if it was a new sample at its target."""
    counted: bool = False
    """True if what is counted may have changed."""
    stated: bool = False
    """True if what is carried over or unsure did."""
    lacking: bool = False
    """True if a counter that was there before is missing in it."""
    kept: bool = False
    """True if its target is found to show the sample before again and again."""
    goes_on: bool = False
    """True, once, if it is found to go on although it says that it is over."""


class Process:
    """One process that carries the run."""

    __slots__ = (
        "attributes", "attributes_at", "began_at", "carried_over", "ending", "outlived",
        "reports", "run_started_at", "started_at", "stated", "target_series", "timed", "unsure",
    )  # fmt: skip

    def __init__(self, started_at: float | None, attributes: RunAttributes | None = None) -> None:
        """Begin with nothing seen.

        started_at: Unix time by the agent's clock; None: not said. attributes: of the process
        before, for as long as this one's own are not whole.
        """
        self.started_at = started_at
        self.run_started_at: float | None = None
        """Start of the run it carries, if that is another one than its totals were begun for."""
        self.target_series: dict[str, TargetSeries] = {}
        self.carried_over: dict[str, Number] = {}
        self.stated: Mapping[str, Number] | None = None
        """What it said of that in its newest sample."""
        self.unsure: dict[str, int] = {}
        """Per name in ``UNSURE``, the most calls it ever showed."""
        self.attributes = (
            RunAttributes() if attributes is None else attributes._replace(state=None, active=None)
        )
        self.attributes_at: float | None = None
        """When the sample its attributes came from was taken."""
        self.began_at: float | None = None
        """When the run began on the reader's own clock, by this process's newest sample."""
        self.outlived = False
        """True once it went on beside a newer one."""
        self.timed = False
        """True if that follows from a duration, which needs no other clock."""
        self.reports: dict[str, TargetReport] = {}
        """What each target says, if there are several."""
        self.ending: Ending | None = None
        """What it showed since it says that the run is over, if it does."""

    @property
    def place(self) -> float:
        """Where it stands among the processes of its run; without a start time, first."""
        return self.started_at or 0.0

    @property
    def first_at(self) -> float:
        """When it was first seen."""
        return min([series.first_at for series in self.target_series.values()], default=-math.inf)

    def begins_as_stated(self, seconds: float) -> bool:
        """Tell whether the run began when its own host says, and before it was first seen here.

        seconds: by which the clock here was behind when it was seen.
        """
        began_at = self.began_at
        if began_at is None or self.timed or began_at != self.attributes.started_at:
            return False
        return began_at <= self.first_at + seconds

    @property
    def last_at(self) -> float:
        """When it was last seen."""
        return max([series.seen_at for series in self.target_series.values()], default=-math.inf)

    def observe(self, reading: RunObservation, *, whole: bool) -> Taken:
        """Take in one reading. whole: False when something of the run is known to be missing."""
        stated = self._take_stated(reading.attributes)
        series, at = self.target_series.get(reading.target), reading.sampled_at
        if (
            series is not None
            and reading.attributes.duration == series.lasted
            and series.repeats(reading)
        ):
            lacking = series.lacking and self.started_at is not None
            return Taken(stated=stated, lacking=lacking, kept=series.keeps(at))
        if series is None:
            series = self.target_series[reading.target] = TargetSeries(at)
            taken = Taken(series.observe(reading)[0], new=True, counted=True, stated=stated)
        elif at < series.seen_at:
            taken = Taken(stated=stated)
        else:
            new = at > series.seen_at
            resets, counted = series.observe(reading)
            # Of a process that does not say when it started, a series may go by a restart.
            lacking = series.lacking and self.started_at is not None
            taken = Taken(resets, new, counted, stated, lacking)
        self._take_attributes(reading, whole=whole, grew=taken.counted)
        if self.attributes.state in semconv.ENDED_STATES:
            whole = whole and bool(reading.counters)
            return taken._replace(goes_on=self.mind_end(reading.sampled_at, whole=whole))
        self.ending = None
        return taken

    def mind_end(self, at: float, *, whole: bool) -> bool:
        """Take what it shows at ``at`` as of a process that says it is over.

        whole: False if something of it is missing. Returns True, once, if it is found to go on.
        """
        if self.ending is None:
            self.ending = Ending(at, self.used, self.attributes.duration)
            return False
        return self.ending.observe(at, self.used, self.attributes.duration, whole=whole)

    def told(self, state: str, at: float) -> None:
        """Take note of the state of the run as somebody else tells it at ``at``."""
        ended_at = at if state in semconv.ENDED_STATES else None
        self.attributes = self.attributes._replace(state=state)
        self.reports = {
            place: report._replace(
                attributes=report.attributes._replace(state=state), ended_at=ended_at
            )
            for place, report in self.reports.items()
        }
        self.ending = None
        if ended_at is not None:
            self.mind_end(at, whole=True)

    def hear_only(self, is_heard: Callable[[str], bool]) -> None:
        """Forget what targets say that are not listened to any more."""
        self.reports = {
            place: report
            for place, report in self.reports.items()
            if is_heard(place) or is_heard(place.rpartition(" ")[0])
        }
        if self.reports:
            newest = max(self.reports.values(), key=lambda report: report.at)
            self.attributes_at, self.attributes, self.began_at, self.timed = newest[:4]

    @property
    def used(self) -> list[Number]:
        """What it counted itself, per resource in ``COUNTED``; 0 if that is unknown."""
        return [self.counted(resource) for resource in COUNTED]

    @property
    def goes_on(self) -> bool:
        """True while it goes on although it says that the run is over."""
        return self.ending is not None and self.ending.is_refuted

    def _take_stated(self, attributes: RunAttributes) -> bool:
        """Take in what only grows of what it says; return whether anything did."""
        changed = False
        if attributes.carried_over is not self.stated:
            self.stated = attributes.carried_over
            for resource, value in attributes.carried_over.items():
                if value > self.carried_over.get(resource, ZERO.get(resource, 0)):
                    self.carried_over[resource], changed = value, True
        if not (
            attributes.unpriced_calls
            or attributes.unknown_usage_calls
            or attributes.estimated_calls
        ):
            return changed  # as it is with most runs at every sample
        for name in UNSURE:
            calls = getattr(attributes, name)
            if calls and math.ceil(calls) > self.unsure.get(name, 0):
                self.unsure[name], changed = math.ceil(calls), True
        return changed

    @property
    def alternating(self) -> frozenset[str]:
        """The resources of which a series is found to be written by several processes."""
        return frozenset[str]().union(
            *[series.alternating for series in self.target_series.values()]
        )

    def knows(self, resource: str) -> bool:
        """Tell whether anything was ever said about a resource: unknown is not 0."""
        if resource in self.carried_over:
            return True
        return any([resource in series.sums for series in self.target_series.values()])  # noqa: C419 - quicker

    def totals(self, counters: Collection[str] = COUNTED) -> dict[str, Number]:
        """Return what it used, with what it brought along, as far as that is known.

        counters: as in ``totals_of``.
        """
        if len(self.target_series) == 1 and not self.carried_over:
            (only,) = self.target_series.values()  # as it is with most runs at every sample
            return {resource: only.sums[resource] for resource in counters if resource in only.sums}
        return {
            resource: self.begins_from(resource) + self.counted(resource)  # type: ignore[operator]
            for resource in counters
            if self.knows(resource)
        }

    def begins_from(self, resource: str) -> Number:
        """Return what it says it brought along from a checkpoint."""
        return self.carried_over.get(resource, ZERO[resource])

    def counted(self, resource: str) -> Number:
        """Return what it counted itself: the larger of its targets' sums."""
        sums = [series.sums.get(resource, ZERO[resource]) for series in self.target_series.values()]
        return sums[0] if len(sums) == 1 else max(sums, default=ZERO[resource])

    def _take_attributes(self, reading: RunObservation, *, whole: bool, grew: bool) -> None:
        if len(self.target_series) == 1 and not self.target_series[reading.target].branches:
            self._take_said(reading, whole=whole, grew=grew)
        else:
            self._take_report(reading, whole=whole, grew=grew)

    def _take_report(self, reading: RunObservation, *, whole: bool, grew: bool) -> None:
        """Take in what one of several targets says, or one where several processes write."""
        reports, place = self.reports, reading.target
        if self.target_series[place].alternating:
            place = f"{place} {int(reading.sampled_at * 1000) % REPORTS_MOST}"
        for target, series in self.target_series.items():
            if target not in reports and (
                target != reading.target or series.seen_before is not None
            ):
                at = series.seen_at if series.seen_before is None else series.seen_before
                report = TargetReport(at, self.attributes, self.began_at, self.timed, at)
                reports[target] = report.follow(None)
        before = reports.get(place)
        self.attributes_at = None
        if before is not None:
            self.attributes_at, self.attributes, self.began_at, self.timed = before[:4]
        else:
            self.began_at, self.timed = None, False
        self._take_said(reading, whole=whole, grew=grew)
        at = reading.sampled_at if self.attributes_at is None else self.attributes_at
        said = TargetReport(at, self.attributes, self.began_at, self.timed, at if whole else 0.0)
        reports[place] = said.follow(before)
        spacing = [v.seen_at - v.seen_before for v in self.target_series.values() if v.seen_before]
        together = reported_together(reports, SILENT_GAPS * max(1.0, *spacing, 1.0))
        self.attributes_at, self.attributes, self.began_at, self.timed = together[:4]

    def _take_said(self, reading: RunObservation, *, whole: bool, grew: bool) -> None:
        """Take in what a target says."""
        if self.attributes_at is not None and reading.sampled_at < self.attributes_at:
            return
        known = self.attributes
        if whole and self.attributes_at is None:
            known = begun_with(reading.attributes, known)
        self.attributes = filled(reading.attributes, known, whole=whole)
        if (
            grew
            and reading.attributes.state is None
            and self.attributes.state in semconv.ENDED_STATES
        ):
            self.attributes = self.attributes._replace(state=None)  # who uses more has not ended
        self.attributes_at = reading.sampled_at
        self._take_beginning(reading)

    def _take_beginning(self, reading: RunObservation) -> None:
        """Work out again when the run began, unless it differs by no more than samples do anyway.

        Within that the earliest counts, so that the duration does not go down by it.
        """
        stated, known = reading.attributes, self.began_at
        if stated.duration is not None:
            began_at = reading.sampled_at - stated.duration
            if known is None or not self.timed or not 0 <= began_at - known <= JITTER:
                self.began_at, self.timed = began_at, True
        elif stated.started_at is not None and not self.timed:
            began_at = min(stated.started_at, reading.sampled_at)
            self.began_at = began_at if known is None else min(known, began_at)


#: Seconds for which a process that went on has to stand still to be over, at least; longer if it
#: pauses longer: so many times its longest pause, up to the most.
_STILL, _PAUSES, _STILL_MOST = 30.0, 3, 1800.0
#: Seconds by which a duration may differ from one sample to the next.
_JITTER = 1.0
#: From so many signs that it goes on that is told: a last call may be counted after the end.
GOES_ON_FROM = 2


class Ending:
    """What a process showed when it said that its run is over, and what moved since."""

    __slots__ = ("duration", "moved_at", "moves", "pause", "seen_at", "shown_at", "used")

    def __init__(self, at: float, used: Sequence[Number], duration: float | None) -> None:
        """Take what it showed in a sample taken at ``at``, per resource that is counted."""
        self.shown_at = self.seen_at = at
        self.used, self.duration = used, duration
        self.moved_at: float | None = None
        """When it was last seen to have gone on."""
        self.moves = 0
        self.pause = 0.0
        """The longest it stood still before it went on."""

    def observe(
        self, at: float, used: Sequence[Number], duration: float | None, *, whole: bool
    ) -> bool:
        """Take in a later sample; return True, once, if it is worth telling that it goes on.

        whole: False if something of it is missing: then it does not show that it stands still.
        """
        longer = None not in (duration, self.duration) and duration > self.duration + _JITTER  # type: ignore[operator] # neither is None
        before = self.shown_at if self.moved_at is None else self.moved_at
        if at <= before:
            return False
        if whole:
            self.seen_at = at
        if used == self.used and not longer:
            return False
        self.pause = max(self.pause, at - before)
        self.used, self.duration, self.moved_at, self.seen_at = used, duration, at, at
        self.moves += 1
        return self.moves == GOES_ON_FROM

    def row(self) -> tuple[float | None, ...]:
        """Return it for the storage: all but what it used, which its process knows."""
        return (
            self.shown_at, self.seen_at, self.moved_at, self.moves, self.pause, self.duration,
        )  # fmt: skip

    @classmethod
    def of_row(cls, row: Sequence[Any], used: Sequence[Number]) -> Ending:
        """Return what ``row`` wrote."""
        shown_at, seen_at, moved_at, moves, pause, duration = row
        ending = cls(shown_at, used, duration)
        ending.seen_at, ending.moved_at = seen_at, moved_at
        ending.moves, ending.pause = moves, pause
        return ending

    @property
    def is_refuted(self) -> bool:
        """True if its process goes on, as of its newest sample."""
        if self.moved_at is None:
            return False
        still = _STILL if self.moves < GOES_ON_FROM else max(_STILL, _PAUSES * self.pause)
        return self.seen_at - self.moved_at <= min(still, _STILL_MOST)
