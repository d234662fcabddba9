"""The sessions on the pages of one target, of which only the lines that changed are read.

Most lines of a page are those of the page before: sets tell which are not. A line that is new is a
known series with another value, or a new series, which the parser reads. What is not as usual (a
line twice, timestamps, OpenMetrics, another type) has the page read as a whole, by PageReader,
which is the reference: what comes out here is what it would have given.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.sources.assemble import NEEDED, Assembled, Sample, assemble
from otel_budget.sources.parse import (
    LONGEST_LINE,
    VALUE,
    PageLimits,
    PageReader,
    is_openmetrics,
    note_type,
)
from otel_budget.sources.standing import Slot, Standing

if TYPE_CHECKING:
    from collections.abc import Iterable

_LINES_PER_LOOK: Final = 256


class _Change(NamedTuple):
    """What is different on a page, found out before anything is changed by it."""

    values: list[tuple[str, str, float]]
    """The line there was, the one there is, and its value."""
    came: list[tuple[str, Sample]]
    gone: Iterable[str]
    comments: frozenset[str]
    declared: dict[str, str]


class _UnusualError(Exception):
    """The page has to be read as a whole."""


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
            if self._slots and not is_openmetrics(content_type):
                try:
                    self._apply(self._compare(body))
                    return self._standing.read(lambda _target, _session_id: sampled_at)
                except _UnusualError:
                    self._reader.learn({_series(ln): s.series for ln, s in self._slots.items()})
                    self._forget()
            return self._read_whole(body, content_type, sampled_at)
        except Exception:
            self._forget()  # whatever it was, the next page does not build upon it
            raise

    def shows(self, session_id: str) -> bool:
        """Tell whether a session was on the last page."""
        return self._standing.shows(session_id) or session_id in self._odd

    def _forget(self) -> None:
        self._standing = Standing(self._target)
        self._slots: dict[str, Slot] = {}
        """Line to series; empty if the page before was not as usual."""
        self._comments: frozenset[str] = frozenset()
        self._declared: dict[str, str] = {}
        self._odd: frozenset[str] = frozenset()
        """The sessions on a page that was not as usual."""

    def _read_whole(self, body: bytes, content_type: str, sampled_at: float) -> Assembled:
        found = self._reader.read_lines(body, content_type)
        lines = {line for line, _ in found}
        if None in lines or len(lines) != len(found):
            read = assemble([sample for _, sample in found], self._target, sampled_at)
            self._odd = frozenset(session.session_id for session in read.sessions)
            return read
        for line, sample in found:
            self._slots[str(line)] = self._standing.add(sample)
        self._comments, self._declared = _declared(body.decode("utf-8").split("\n"))
        self._reader = PageReader(NEEDED, self._limits, self._seconds)  # what it knew is here now
        return self._standing.read(lambda _target, _session_id: sampled_at)

    def _compare(self, body: bytes) -> _Change:
        """Return what is different from the page before."""
        try:
            lines = body.decode("utf-8").split("\n")
        except UnicodeDecodeError as exc:
            raise _UnusualError from exc
        page = set(lines)
        if lines[-1] or len(page) != len(lines) or len(lines) > self._limits.samples:
            raise _UnusualError
        new = page.difference(self._slots, self._comments, ("",))
        gone = self._slots.keys() - page
        comments, declared = self._comments, self._declared
        if any(line.startswith("#") for line in new) or not comments <= page:
            comments, declared = _declared(lines)
            new -= comments
        values, came = self._read_new(new, {_series(line): line for line in gone}, declared)
        if len(came) > 1:  # in the order of the page, whatever that of a set is
            of_line = dict(came)
            came = [(line, of_line[line]) for line in lines if line in of_line]
        gone.difference_update(old for old, _, _ in values)
        if declared is not self._declared:
            self._check_types(declared, gone)
        return _Change(values, came, gone, comments, declared)

    def _read_new(
        self, new: set[str], gone: dict[str, str], declared: dict[str, str]
    ) -> tuple[list[tuple[str, str, float]], list[tuple[str, Sample]]]:
        """Return which lines give a series another value, and which series came."""
        values: list[tuple[str, str, float]] = []
        came: list[tuple[str, Sample]] = []
        until = time.thread_time() + self._seconds
        for number, line in enumerate(new):
            text, _, value = line.rpartition(" ")
            before = gone.pop(text, None)
            if before is None:
                came += self._new_series(line, declared)
            elif VALUE.fullmatch(value) is None:
                raise _UnusualError
            else:
                values.append((before, line, float(value)))
            if number % _LINES_PER_LOOK == 0 and time.thread_time() > until:
                raise _UnusualError
        return values, came

    def _new_series(self, line: str, declared: dict[str, str]) -> list[tuple[str, Sample]]:
        if len(line) > LONGEST_LINE or line != line.strip():
            raise _UnusualError
        try:
            found = list(self._reader.exactly(line, 0))
        except Exception as exc:  # the whole page is read then, and says what is wrong with it
            raise _UnusualError from exc
        if len(found) > 1 or not all(usual for _, _, usual in found):
            raise _UnusualError
        return [
            (line, Sample(*series, value, declared.get(series[0]))) for series, value, _ in found
        ]

    def _check_types(self, declared: dict[str, str], gone: set[str]) -> None:
        """Have the page read as a whole if a series that is there got another type."""
        other = {
            name
            for name in declared.keys() | self._declared.keys()
            if declared.get(name) != self._declared.get(name)
        }
        if any(slot.name in other and line not in gone for line, slot in self._slots.items()):
            raise _UnusualError

    def _apply(self, change: _Change) -> None:
        slots, standing = self._slots, self._standing
        for before, line, value in change.values:
            slot = slots[line] = slots.pop(before)
            standing.change(slot, value)
        for line in change.gone:
            standing.remove(slots.pop(line))
        for line, sample in change.came:
            slots[line] = standing.add(sample)
        self._comments, self._declared = change.comments, change.declared


def _series(line: str) -> str:
    return line.rpartition(" ")[0]


def _declared(lines: Iterable[str]) -> tuple[frozenset[str], dict[str, str]]:
    """Return the comments of a page, and the types it declares."""
    declared: dict[str, str] = {}
    comments = [line for line in lines if line.startswith("#")]
    for line in comments:
        note_type(line, declared)
    return frozenset(comments), declared
