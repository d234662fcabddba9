"""What can still be read of a damaged storage, row by row, without SQLite.

Each row is a text with a digest, so it is found, and known to be whole, wherever it lies: in the
file, in its log, behind a damaged index or the page that led to it. Of several copies of a row the
one of the last commit counts.
"""

from __future__ import annotations

import json
import mmap
import re
import struct
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_budget.ledger.book_values import BookChanges, ClosedWindow, StoredBook, StoredCells
from otel_budget.sidecar.storage import book_rows
from otel_budget.sidecar.storage.records import (
    UNREADABLE_ROW,
    Key,
    override_of,
    past_run_of,
    run_of,
    verdict_of,
)
from otel_budget.sidecar.storage.recovery import recovered
from otel_budget.sidecar.storage.shared_rows import top_up_of
from otel_budget.sidecar.storage.sqlite.audit_table import BEGIN, entry_of
from otel_budget.sidecar.storage.sqlite.file import side_files
from otel_budget.sidecar.storage.sqlite.shared_tables import write_top_ups
from otel_budget.sidecar.storage.sqlite.state import LEAP, State, state_of, write_state

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterator

    from otel_budget.core.audit import AuditEntry
    from otel_budget.core.budget import TopUp
    from otel_budget.core.override import Override
    from otel_budget.core.verdict import Verdict
    from otel_budget.ledger.run import RunTotals
    from otel_budget.policy.suggester import PastRun
    from otel_budget.sidecar.storage.sqlite.writer import Writer

#: How the rows of accounts, verdicts, orders, past runs, the audit log, grants, books and the state
#: begin; all is printable.
_BEGIN: Final = re.compile(rb'\{"(?:format|version|kind|sequence|workflow|number|top_up|book)":')
_END: Final = re.compile(rb'"digest":"[0-9a-f]{16}"\}')
_PRINTABLE: Final = re.compile(rb"[\x20-\x7e]*")
_PAGE: Final = 4096
_FRAME_HEAD, _LOG_HEAD = 24, 32
#: Bytes of the longest row, and of what lies before its text: its keys and a time.
_LONGEST, _BEFORE = 1 << 24, 512


#: A file's content, or a log's.
_Data = bytes | mmap.mmap


@dataclass(slots=True)
class Salvaged:
    """Rows that are whole, by the key of their run."""

    runs: dict[Key, tuple[int, RunTotals, float | None]] = field(default_factory=dict)
    """With the commit that wrote it, and when it was archived; None of a live run."""
    verdicts: dict[Key, Verdict] = field(default_factory=dict)
    overrides: list[tuple[Key, Override]] = field(default_factory=list)
    past_runs: dict[Key, PastRun] = field(default_factory=dict)
    audit: dict[int, tuple[AuditEntry, str]] = field(default_factory=dict)
    """Entries of the audit log by number, each with its text."""
    top_ups: dict[str, TopUp] = field(default_factory=dict)
    """By their own keys."""
    books: dict[tuple[object, ...], tuple[int, StoredBook | StoredCells | ClosedWindow]] = field(
        default_factory=dict
    )
    """Rows of the books of shared budgets by place, each with the commit that wrote it."""
    state: State | None = None

    @property
    def commit(self) -> int:
        """The last commit of which there is something in it; 0 if there is none."""
        known = 0 if self.state is None else self.state.commit
        commits = [commit for commit, _, _ in self.runs.values()]
        commits += [commit for commit, _ in self.books.values()]
        return max(commits, default=known)


def salvaged(path: str, lost_log: bytes = b"") -> Salvaged:
    """Return what can be read of a file and of the log beside it.

    lost_log: look through this log alone; the file is what it goes with.
    """
    log = lost_log
    if not log:
        with suppress(OSError):
            log = side_files(path)[0].read_bytes()
    search = _Search()
    with _mapped(path) as file:
        pages = _Pages(file, log)
        for data in (log,) if lost_log else (file, log):
            search.look_through(data, pages)
        pages.release()
    search.find_overrides()
    return search.found


@contextmanager
def _mapped(path: str) -> Iterator[_Data]:
    """Give a file's content without having it in memory at once."""
    with Path(path).open("rb") as file:
        if not file.seek(0, 2):
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield mapped


class _Pages:
    """The pages of a file, each as it is in the log if it is there."""

    def __init__(self, file: _Data, log: bytes) -> None:
        self._file, self._log = memoryview(file), memoryview(log)
        size = _FRAME_HEAD + _PAGE
        self._in_log = {
            struct.unpack_from(">I", log, at)[0]: at + _FRAME_HEAD
            for at in range(_LOG_HEAD, len(log) - size + 1, size)
        }

    def content(self, number: int) -> tuple[int, bytes]:
        """Return what an overflow page holds: the number of the next one, and its content."""
        at = self._in_log.get(number)
        source, at = (self._file, (number - 1) * _PAGE) if at is None else (self._log, at)
        page = bytes(source[at : at + _PAGE])
        if len(page) < _PAGE:
            return 0, b""
        return struct.unpack_from(">I", page)[0], page[4:]

    def release(self) -> None:
        """Let go of the file."""
        self._file.release()


class _Search:
    """Takes rows out of bytes."""

    def __init__(self) -> None:
        self.found = Salvaged()
        self._seen: set[int] = set()
        """Digests of texts that were looked at: pages are often copied whole."""
        self._overrides_found: list[tuple[bytes, bytes]] = []
        """Text, and the bytes before it, of orders; whose they are is known in the end."""

    def look_through(self, data: _Data, pages: _Pages) -> None:
        """Take every row that is whole."""
        with memoryview(data) as view:
            for begin in _BEGIN.finditer(view):
                start = begin.start()
                text = _text_at(view, start, pages)
                if not text or hash(text) in self._seen:
                    continue
                self._seen.add(hash(text))
                with suppress(*UNREADABLE_ROW):
                    self._take(text, bytes(view[max(0, start - _BEFORE) : start]))

    def find_overrides(self) -> None:
        """Find out whose the orders are: their keys stand before them."""
        found = self.found
        for key in {*found.runs, *found.verdicts}:
            place = "".join(key).encode()
            for text, before in self._overrides_found:
                if before.endswith(place):
                    with suppress(*UNREADABLE_ROW):
                        found.overrides.append((key, override_of(text, key)))

    def _take(self, text: bytes, before: bytes) -> None:
        found = self.found
        if text.startswith(b'{"kind"'):
            self._overrides_found.append((text, before))
        elif text.startswith(b'{"sequence"'):
            state = state_of(text)
            if found.state is None or found.state.commit < state.commit:
                found.state = state
        elif text.startswith(b'{"workflow"'):
            past_run = past_run_of(text)
            key = Key.of(*past_run.key)
            if key not in found.past_runs or found.past_runs[key].at < past_run.at:
                found.past_runs[key] = past_run
        elif text.startswith(b'{"version"'):
            verdict = verdict_of(text)
            key = Key.of(verdict.session_id, verdict.started_at)
            known = found.verdicts.get(key)
            if known is None or (known.sequence or 0) < (verdict.sequence or 0):
                found.verdicts[key] = verdict
        elif text.startswith(BEGIN.encode()):
            entry, line = entry_of(text)
            found.audit[entry.number] = entry, line
        elif text.startswith(b'{"top_up"'):
            given = top_up_of(text)
            found.top_ups[given.key] = given
        else:
            self._take_account(text, before)

    def _take_account(self, text: bytes, before: bytes) -> None:
        """Take what was used: of budgets, or by a run."""
        if text.startswith(b'{"book"'):
            self._take_book(text)
        else:
            self._take_run(text, before)

    def _take_run(self, text: bytes, before: bytes) -> None:
        found = self.found
        run = run_of(text)
        key = Key.of(run.session_id, run.started_at)
        commit = int(json.loads(text).get("commit", 0))
        if key not in found.runs or found.runs[key][0] < commit:
            found.runs[key] = commit, run, _archived_at(before, key)

    def _take_book(self, text: bytes) -> None:
        kind, commit = book_rows.kind_of(text)
        row: StoredBook | StoredCells | ClosedWindow
        if kind == book_rows.HEADER:
            row = book_rows.header_of(text)
            place: tuple[object, ...] = kind, row.name
        elif kind == book_rows.CELLS:
            row = book_rows.cells_of(text)
            place = kind, row.budget, row.group, row.chunk, row.key, row.counted_from
        else:
            row = book_rows.window_of(text)
            place = kind, row.budget, row.group, row.start, row.counted_from
        known = self.found.books.get(place)
        if known is None or known[0] < commit:
            self.found.books[place] = commit, row


def _text_at(view: memoryview, start: int, pages: _Pages) -> bytes:
    """Return what may be a row's text; empty if it has no end."""
    run = _PRINTABLE.match(view, start)
    stop = start if run is None else run.end()
    text = bytes(view[start:stop])
    end = _END.search(text)
    if end is None:
        text = _continued(text, bytes(view[stop : stop + 4]), pages)
        end = _END.search(text)
    return b"" if end is None else text[: end.end()]


def _continued(text: bytes, pointer: bytes, pages: _Pages) -> bytes:
    """Return a text that goes on in overflow pages. pointer: to the first."""
    number = int.from_bytes(pointer, "big")
    while number and len(text) < _LONGEST:
        number, more = pages.content(number)
        run = _PRINTABLE.match(more)
        text += b"" if run is None else run[0]
        if run is None or len(run[0]) < len(more):
            break
    return text


def _archived_at(before: bytes, key: Key) -> float | None:
    """Return when a run was archived: of one that was, that stands between its key and its text.

    SQLite writes a number without a fraction as an integer.
    """
    place = "".join(key).encode()
    if before.endswith(place):
        return None
    for size in (8, 6, 4):
        if before[:-size].endswith(place):
            number = before[-size:]
            if size == 8:  # noqa: PLR2004 - a double
                return float(struct.unpack(">d", number)[0])
            return float(int.from_bytes(number, "big"))
    return None


def state_after(found: Salvaged, known: State) -> State:
    """Return the state behind all of which there is something: no sequence is given twice."""
    published = max((v.sequence or 0 for v in found.verdicts.values()), default=0)
    if found.state is None:
        return State(published + LEAP, known.age, max(known.commit, found.commit))
    sequence = max(published, found.state.sequence, known.sequence)
    return found.state._replace(sequence=sequence, commit=max(known.commit, found.commit))


def put_in(
    db: sqlite3.Connection, writer: Writer, found: Salvaged, state: State, now: float, *, live: bool
) -> None:
    """Write it. now: Unix time.

    live: False where it is known which runs are live: all of them are archived then.
    """
    newest: dict[str, RunTotals] = {}
    with db:
        db.execute("BEGIN IMMEDIATE")
        for _, run, at in sorted(found.runs.values(), key=itemgetter(0)):
            before = newest.pop(run.session_id, None)
            if before is not None:
                writer.archived(before, state.age.now, state.commit)
            if live and at is None:
                newest[run.session_id] = run
            else:
                writer.archived(run, at or state.age.now, state.commit)
        if live:
            known = {*newest, *writer.live}
            newest.update((a.session_id, a) for a in _others(found, known, now))
            writer.verdicts(found.verdicts.values())
        writer.runs(list(newest.values()), state.commit)
        for key, override in sorted(found.overrides, key=lambda given: given[1].at):
            writer.override(key, override)
        writer.past_runs(found.past_runs.values(), ())
        if found.top_ups:
            write_top_ups(db, found.top_ups.values())
        write_state(db, state)


def _others(found: Salvaged, known: Collection[str], now: float) -> list[RunTotals]:
    """Return those runs of which only the verdict is there. known: ids of those that are live."""
    others = []
    for key, verdict in found.verdicts.items():
        if key.session_id not in known and key not in found.runs:
            overrides = [override for run, override in found.overrides if run == key]
            overrides.sort(key=lambda override: override.at)
            others.append(
                recovered(key.session_id, key.start, now, verdict=verdict, overrides=overrides)
            )
    return others


def books_in(found: Salvaged) -> BookChanges:
    """Return the books as they were: cells of an earlier life of a budget are none of its.

    A window that is in the history is closed, also where only an older copy of its cell is left.
    """
    rows = [row for _, row in found.books.values()]
    headers = {row.name: row for row in rows if isinstance(row, StoredBook)}
    windows = [row for row in rows if isinstance(row, ClosedWindow)]
    over = {(w.budget, w.group, w.counted_from, w.start) for w in windows}
    cells = [
        row._replace(
            cells=tuple(
                c._replace(
                    closed=c.closed or (row.budget, row.group, row.counted_from, c.start) in over
                )
                for c in row.cells
            )
        )
        for row in rows
        if isinstance(row, StoredCells) and _is_of(row, headers.get(row.budget))
    ]
    return BookChanges(tuple(headers.values()), (), tuple(cells), tuple(windows))


def _is_of(cells: StoredCells, header: StoredBook | None) -> bool:
    """Tell whether cells are of a book, or may be as its row was lost."""
    return header is None or (cells.key, cells.counted_from) == (header.key, header.counted_from)


def newer_than(found: Salvaged, known: State) -> Salvaged:
    """Leave only what was written after a commit."""
    found.runs = {key: row for key, row in found.runs.items() if row[0] > known.commit}
    found.books = {place: row for place, row in found.books.items() if row[0] > known.commit}
    found.verdicts = {
        key: v for key, v in found.verdicts.items() if (v.sequence or 0) > known.sequence
    }
    return found
