"""The runs on the pages of one target, of which only the lines that changed are read.

Most lines of a page are those of the page before (see line_diff.py). A line that is another one is
a known series with another value, or a new series, which the parser reads. What is not as usual
(OpenMetrics, another type) has the page read as a whole, by PageReader, which is the reference:
what comes out here is what it would have given.

Timestamps are taken off the lines first: some exporters write the present time on each, and the
lines would be others at every scrape. Of a page without any none are looked for.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from otel_budget.core.owner_labels import NO_DETAILS, Details
from otel_budget.core.samples import Assembled, Sample, later, told_times
from otel_budget.sources.exposition import (
    LONGEST_LINE,
    VALUE,
    PageLimits,
    PageReader,
    apart,
    is_openmetrics,
    milliseconds,
    note_type,
)
from otel_budget.sources.incremental.line_diff import Changes, LineDiff, UnusualError
from otel_budget.sources.incremental.series_index import SeriesIndex, Slot
from otel_budget.sources.session_assembly import assemble, needed
from otel_budget.sources.target_process import process_at

if TYPE_CHECKING:
    from collections.abc import Iterable

_LINES_PER_LOOK: Final = 256


class ScrapePage:
    """Read the pages of one target, one after the other."""

    def __init__(
        self, target: str, limits: PageLimits, seconds: float, details: Details = NO_DETAILS
    ) -> None:
        """seconds: processor time that reading a page may take. details: what of it is read."""
        self._target, self._limits, self._seconds = target, limits, seconds
        self._details = details
        self._reader = PageReader(needed(details), limits, seconds)
        self._forget()

    def read(self, body: bytes, content_type: str, sampled_at: float) -> Assembled:
        """Return the runs on a page. Raises ExpositionError as PageReader does."""
        try:
            if not (self._diff and self._take(body, content_type)):
                return self._read_whole(body, content_type, sampled_at)
            return self._found(sampled_at)
        except Exception:
            self._forget()  # whatever it was, the next page does not build upon it
            raise

    def shows(self, session_id: str) -> bool:
        """Tell whether a run was on the last page."""
        return self._index.shows(session_id) or session_id in self._odd

    def _forget(self) -> None:
        self._index = SeriesIndex(self._target, process_at(self._target), self._details)
        self._diff: LineDiff[str, Slot] = LineDiff(" ")
        """The lines of the page before, without timestamps; none if it was not as usual."""
        self._timed = False
        """True if lines bear timestamps."""
        self._times: list[str | None] = []
        """Those of all lines, if they do."""
        self._judged: list[tuple[int, str]] | None = None
        """Places of judged counters, and their session ids; None if these may have changed."""
        self._declared: dict[str, str] = {}
        self._odd: frozenset[str] = frozenset()
        """The runs on a page that was not as usual."""

    def _read_whole(self, body: bytes, content_type: str, sampled_at: float) -> Assembled:
        found = self._reader.read_lines(body, content_type)
        if any(line is None for line, _ in found):
            samples = [sample for _, sample in found]
            read = assemble(samples, self._target, sampled_at, self._index.process, self._details)
            self._odd = frozenset(session.session_id for session in read.sessions)
            return read
        self._timed = any(sample.timestamp is not None for _, sample in found)
        lines = body.decode("utf-8").split("\n")
        slots: list[Slot | None] = []
        ours = iter(found)
        awaited = next(ours, None)
        for line in lines:
            if awaited is None or line != awaited[0]:
                slots.append(None)
                continue
            slots.append(self._index.add(awaited[1]))
            awaited = next(ours, None)
        self._diff.replace(self._apart(lines), Changes(slots=slots))
        self._declared = _declared(lines)
        wanted = needed(self._details)
        self._reader = PageReader(wanted, self._limits, self._seconds)  # what it knew is here now
        return self._found(sampled_at)

    def _found(self, sampled_at: float) -> Assembled:
        found = self._index.read(lambda _target, _session_id: sampled_at)
        return replace(found, times=self._newest()) if self._timed else found

    def _apart(self, lines: list[str]) -> list[str]:
        """Return the lines without their timestamps, which are kept; of a page that has any."""
        if not self._timed:
            return lines
        pairs = [apart(line) for line in lines]
        self._times = [at for _, at in pairs]
        return [row for row, _ in pairs]

    def _newest(self) -> dict[str, float]:
        """Return the times of runs, as Assembled has them."""
        if self._judged is None:
            self._judged = [
                (place, slot.session.session_id)
                for place, slot in enumerate(self._diff.slots)
                if slot is not None and slot.kind.judged and slot.session.counters is not None
            ]
        read = {text: milliseconds(text) for text in set(self._times)}
        newest: dict[str, float | None] = {}
        for place, session_id in self._judged:
            newest[session_id] = later(newest.get(session_id), read[self._times[place]])
        return told_times(newest.items())

    def _take(self, body: bytes, content_type: str) -> bool:
        """Take in what differs from the page before; False if that is not enough."""
        try:
            self._take_changes(self._apart(self._lines(body, content_type)))
        except (UnusualError, UnicodeDecodeError):
            self._reader.learn({self._diff.series(row): slot.series for row, slot in self._diff})
            self._forget()
            return False
        return True

    def _lines(self, body: bytes, content_type: str) -> list[str]:
        lines = body.decode("utf-8").split("\n")
        if is_openmetrics(content_type) or lines[-1] or len(lines) > self._limits.samples:
            raise UnusualError
        return lines

    def _take_changes(self, lines: list[str]) -> None:
        until = time.thread_time() + self._seconds
        changes = self._diff.changes(lines)
        if changes.slots is not None:
            self._judged = None
        if changes.slots is not None or any(
            slot is None and lines[place].startswith("#") for place, slot, _ in changes.values
        ):
            self._take_types(lines, changes)
        for number, (place, slot, value) in enumerate(changes.values):
            if slot is not None:
                self._index.change(slot, _value(lines[place], value))
            elif self._new_slot(lines[place]) is not None:
                raise UnusualError
            _look_at_time(number, until)
        for slot in changes.gone:
            self._index.remove(slot)
        for number, place in enumerate(changes.came):
            slot = self._new_slot(lines[place])
            if changes.slots is not None:
                changes.slots[place] = slot
            _look_at_time(number, until)
        self._diff.replace(lines, changes)

    def _take_types(self, lines: list[str], changes: Changes[str, Slot]) -> None:
        """Take in the types a page declares, if no series that stays has another one."""
        declared = _declared(lines)
        names = declared.keys() | self._declared.keys()
        retyped = {name for name in names if declared.get(name) != self._declared.get(name)}
        slots = [slot for _, slot in self._diff] if changes.slots is None else changes.slots
        if retyped and any(slot is not None and slot.name in retyped for slot in slots):
            raise UnusualError
        self._declared = declared

    def _new_slot(self, line: str) -> Slot | None:
        if not line or line.startswith("#"):
            return None
        sample = self._exactly(line)
        return None if sample is None else self._index.add(sample)

    def _exactly(self, line: str) -> Sample | None:
        """Return what the parser makes of a line that is not known; None if it is not wanted."""
        if len(line) > LONGEST_LINE or line != line.strip():
            raise UnusualError
        try:
            found = list(self._reader.exactly(line, 0))
        except Exception as exc:  # the whole page is read then, and says what is wrong with it
            raise UnusualError from exc
        if len(found) > 1 or not all(usual and at is None for _, _, usual, at in found):
            raise UnusualError
        return next(
            (
                Sample(*series, value, self._declared.get(series[0]))
                for series, value, _, _ in found
            ),
            None,
        )


def _value(line: str, value: str) -> float:
    if VALUE.fullmatch(value) is None or len(line) > LONGEST_LINE:
        raise UnusualError
    return float(value)


def _look_at_time(number: int, until: float) -> None:
    if number % _LINES_PER_LOOK == 0 and time.thread_time() > until:
        raise UnusualError


def _declared(lines: Iterable[str]) -> dict[str, str]:
    """Return the types a page declares."""
    declared: dict[str, str] = {}
    for line in lines:
        if line.startswith("#"):
            note_type(line, declared)
    return declared
