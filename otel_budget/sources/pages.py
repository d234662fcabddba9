"""The sessions on the pages of one target, of which only the lines that changed are read.

Most lines of a page are those of the page before (see rows.py). A line that is another one is a
known series with another value, or a new series, which the parser reads. What is not as usual
(timestamps, OpenMetrics, another type) has the page read as a whole, by PageReader, which is the
reference: what comes out here is what it would have given.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from otel_budget.sources.assemble import NEEDED, Assembled, Sample, assemble
from otel_budget.sources.parse import (
    LONGEST_LINE,
    VALUE,
    PageLimits,
    PageReader,
    is_openmetrics,
    note_type,
)
from otel_budget.sources.rows import Rows, UnusualError
from otel_budget.sources.standing import Slot, Standing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_LINES_PER_LOOK: Final = 256


class SessionPages:
    """Read the pages of one target, one after the other."""

    def __init__(self, target: str, limits: PageLimits, seconds: float) -> None:
        """Know nothing yet. seconds: processor time that reading a page may take."""
        self._target, self._limits, self._seconds = target, limits, seconds
        self._reader = PageReader(NEEDED, limits, seconds)
        self._forget()

    def read(self, body: bytes, content_type: str, sampled_at: float) -> Assembled:
        """Return the sessions on a page. Raises ExpositionError as PageReader does."""
        try:
            if not (self._rows and self._take(body, content_type)):
                return self._read_whole(body, content_type, sampled_at)
            return self._standing.read(lambda _target, _session_id: sampled_at)
        except Exception:
            self._forget()  # whatever it was, the next page does not build upon it
            raise

    def shows(self, session_id: str) -> bool:
        """Tell whether a session was on the last page."""
        return self._standing.shows(session_id) or session_id in self._odd

    def _forget(self) -> None:
        self._standing = Standing(self._target)
        self._rows: Rows[str, Slot] = Rows(" ")
        """The lines of the page before; none if it was not as usual."""
        self._declared: dict[str, str] = {}
        self._odd: frozenset[str] = frozenset()
        """The sessions on a page that was not as usual."""

    def _read_whole(self, body: bytes, content_type: str, sampled_at: float) -> Assembled:
        found = self._reader.read_lines(body, content_type)
        if any(line is None for line, _ in found):
            read = assemble([sample for _, sample in found], self._target, sampled_at)
            self._odd = frozenset(session.session_id for session in read.sessions)
            return read
        lines = body.decode("utf-8").split("\n")
        slots: list[Slot | None] = []
        ours = iter(found)
        awaited = next(ours, None)
        for line in lines:
            if awaited is None or line != awaited[0]:
                slots.append(None)
                continue
            slots.append(self._standing.add(awaited[1]))
            awaited = next(ours, None)
        self._rows.replace(lines, slots)
        self._declared = _declared(lines)
        self._reader = PageReader(NEEDED, self._limits, self._seconds)  # what it knew is here now
        return self._standing.read(lambda _target, _session_id: sampled_at)

    def _take(self, body: bytes, content_type: str) -> bool:
        """Take in what is different from the page before; False if that alone does not do."""
        try:
            lines = self._lines(body, content_type)
            until = time.thread_time() + self._seconds
            if not self._take_values(lines, until):
                self._take_series(lines, until)
        except (UnusualError, UnicodeDecodeError):
            self._reader.learn({self._rows.series(row): slot.series for row, slot in self._rows})
            self._forget()
            return False
        return True

    def _lines(self, body: bytes, content_type: str) -> list[str]:
        lines = body.decode("utf-8").split("\n")
        if is_openmetrics(content_type) or lines[-1] or len(lines) > self._limits.samples:
            raise UnusualError
        return lines

    def _take_values(self, lines: list[str], until: float) -> bool:
        """Take in other values; False if there are other series, or other types."""
        others = self._rows.others(lines)
        if others is None or any(
            slot is None and lines[place].startswith("#") for place, slot, _ in others
        ):
            return False
        for number, (place, slot, value) in enumerate(others):
            line = lines[place]
            if slot is not None:
                self._standing.change(slot, _value(line, value))
            elif self._exactly(line, self._declared) is not None:
                raise UnusualError
            self._rows.put(place, line)
            _look_at_time(number, until)
        return True

    def _take_series(self, lines: list[str], until: float) -> None:
        """Take in a page that has other series than the one before, or has them elsewhere."""
        declared = _declared(lines)
        names = declared.keys() | self._declared.keys()
        retyped = {name for name in names if declared.get(name) != self._declared.get(name)}
        known = self._rows.by_series()
        slots: list[Slot | None] = []
        for number, line in enumerate(lines):
            text, _, value = line.rpartition(" ")
            before = known.pop(text, None)
            if before is None:
                slots.append(self._new_slot(line, declared))
            else:
                slots.append(self._old_slot(before, line, value, retyped))
            _look_at_time(number, until)
        for _, slot in known.values():
            self._standing.remove(slot)
        self._rows.replace(lines, slots)
        self._declared = declared

    def _old_slot(
        self, before: tuple[str, Slot], line: str, value: str, retyped: Collection[str]
    ) -> Slot:
        row, slot = before
        if slot.name in retyped:
            raise UnusualError
        if line != row:
            self._standing.change(slot, _value(line, value))
        return slot

    def _new_slot(self, line: str, declared: dict[str, str]) -> Slot | None:
        if not line or line.startswith("#"):
            return None
        sample = self._exactly(line, declared)
        return None if sample is None else self._standing.add(sample)

    def _exactly(self, line: str, declared: dict[str, str]) -> Sample | None:
        """Return what the parser makes of a line that is not known; None if it is not wanted."""
        if len(line) > LONGEST_LINE or line != line.strip():
            raise UnusualError
        try:
            found = list(self._reader.exactly(line, 0))
        except Exception as exc:  # the whole page is read then, and says what is wrong with it
            raise UnusualError from exc
        if len(found) > 1 or not all(usual for _, _, usual in found):
            raise UnusualError
        return next(
            (Sample(*series, value, declared.get(series[0])) for series, value, _ in found), None
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
