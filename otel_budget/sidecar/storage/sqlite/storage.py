"""The ledger on disk: what a killed sidecar knows again when it comes back.

- One transaction per tick, only if something changed, and always before anything is published: a
  sequence or a use that was published is never taken back.
- A run that was forgotten or superseded stays as an archived row for 30 days, and is adopted again
  when it turns up with the same start time. A damaged file is set aside, not overwritten; a row
  that cannot be read costs no other run (rows.py), and its run does not start over
  (recovery.py). A file that is no database is not touched.
- At most one row of a session id is live.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sqlite3
import time
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from otel_budget.ledger.book_values import BookChanges, StoredBooks
from otel_budget.logs.text import one_line, some
from otel_budget.sidecar.clock import CLOCK_SET, Boot, move
from otel_budget.sidecar.storage.base import (
    Restored,
    StorageError,
    StorageStats,
    UnusableStorageError,
)
from otel_budget.sidecar.storage.records import Key, override_of, past_run_of, run_of, verdict_of
from otel_budget.sidecar.storage.recovery import keys_of, lost_use, raised, recovered
from otel_budget.sidecar.storage.sqlite.archive import ARCHIVE_SIZE, Archive
from otel_budget.sidecar.storage.sqlite.audit_table import AUDIT_KEEP, AUDIT_SIZE, AuditTable
from otel_budget.sidecar.storage.sqlite.book_tables import BookTables
from otel_budget.sidecar.storage.sqlite.file import (
    OpenFile,
    advice,
    keep_log,
    open_file,
    set_aside,
)
from otel_budget.sidecar.storage.sqlite.renewal import is_damage, renewed
from otel_budget.sidecar.storage.sqlite.rows import Rows, placed
from otel_budget.sidecar.storage.sqlite.salvage import (
    Salvaged,
    books_in,
    newer_than,
    put_in,
    salvaged,
    state_after,
)
from otel_budget.sidecar.storage.sqlite.schema import check_kind
from otel_budget.sidecar.storage.sqlite.shared_tables import read_shared, write_shared
from otel_budget.sidecar.storage.sqlite.state import (
    LEAP,
    Age,
    LastCommit,
    State,
    read_state,
    write_state,
)
from otel_budget.sidecar.storage.sqlite.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from otel_budget.core.audit import AuditPage, AuditQuery
    from otel_budget.core.budget import Group
    from otel_budget.core.override import Override
    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import Verdict
    from otel_budget.ledger.book_values import ClosedWindow
    from otel_budget.ledger.run import RunTotals
    from otel_budget.policy.suggester import PastRun
    from otel_budget.sidecar.storage.base import Changes

logger = logging.getLogger(__name__)

#: Seconds to wait for a predecessor that is still closing the file.
_LOCK_TIMEOUT = 2.0


class SqliteStorage:
    """One SQLite file. Used from one thread at a time."""

    def __init__(
        self,
        file: OpenFile,
        time: Callable[[], float],
        archive_size: int = ARCHIVE_SIZE,
        boot: Callable[[], Boot] = Boot,
        *,
        audit_size: int = AUDIT_SIZE,
        audit_keep: float = AUDIT_KEEP,
    ) -> None:
        """Take over an open file.

        time: returns Unix seconds. archive_size: bytes that archived runs may take. boot: returns
        the time that cannot be set. audit_size, audit_keep: bytes and seconds of the audit log.
        """
        self._file, self._time, self._boot = file, time, boot
        self._rows = Rows(file.connection)
        self._archive = Archive(self._rows, archive_size)
        self._audit = AuditTable(self._rows, audit_size, audit_keep)
        self._incidents: list[Mapping[str, Any]] = []
        self._lost_numbers = False
        """True if the newest entries of the audit log may be lost."""
        self._state = State(0, Age(time(), time()))
        self._last = LastCommit(file.path)
        self._renewals = 0
        self._writer = Writer(self._rows, self._archive)
        self._books = BookTables(self._rows)

    @property
    def _db(self) -> sqlite3.Connection:
        return self._file.connection

    def renew(self) -> bool:
        """Replace the file by a new one if it is gone or damaged; see ``Storage``."""
        if not self._file.problem():
            return False
        with _as_storage_errors():
            self._file, whole, damaged = renewed(self._file)
            self._rows.db = self._file.connection
            self._archive.recount()
            self._books.recount()
            self._audit.recount()
            self._renewals += 1
            if not whole:
                self._writer.live.clear()
            if damaged:
                self.take_over(salvaged(damaged), live=False)
        return not whole

    def load(self) -> Restored:
        """Return the live accounts, their last verdicts and the sequence."""
        runs, misplaced, lost = self._rows.readable("account", "WHERE archived = 0", placed(run_of))
        verdicts = self._rows.readable("verdict", "", placed(verdict_of)).found
        published = max((verdict.sequence or 0 for verdict in verdicts), default=0)
        self._state = self._mind_last(read_state(self._db, self._time(), published))
        if misplaced or lost:
            runs += self._restore(misplaced, lost, verdicts)
        self._writer.live = {a.session_id: Key.of(a.session_id, a.started_at)[1] for a in runs}
        top_ups, choices, holds = read_shared(self._rows)
        return Restored(
            runs=tuple(runs),
            verdicts=tuple(
                verdict for verdict in verdicts if verdict.session_id in self._writer.live
            ),
            sequence=self._state.sequence,
            past_runs=self._past_runs(),
            books=self._stored_books(verdicts),
            stored_at=self._state.age.wall if self._state.commit else None,
            top_ups=top_ups,
            choices=choices,
            holds=holds,
        )

    def _stored_books(self, verdicts: Sequence[Verdict]) -> StoredBooks:
        read = self._books.load()
        lost = tuple(lost_use(key, verdicts) for key in dict.fromkeys(read.damaged))
        return StoredBooks(tuple(read.books), tuple(read.cells), lost)

    def with_damaged_books(self, restored: Restored) -> Restored:
        """Return what was restored with books that may lack their newest rows, and say so.

        Each group has used at least what is left of it, or what a verdict said of it.
        """
        books, verdicts = restored.books, restored.verdicts
        keys = {(cells.budget, cells.group): None for cells in books.cells}
        keys |= dict.fromkeys(keys_of(verdicts))
        lost = tuple(lost_use(key, verdicts) for key in keys)
        names = sorted({budget for budget, _ in keys})
        logger.error(
            "storage %s: of shared budgets, what could be read of these was restored, and is shown "
            "as 'at least' until their windows end: %s. Every other begins anew now, which its "
            "counted_from says. Compare with a backup", self._file.path,
            some(names, ", ") if names else "none",
        )  # fmt: skip
        at = self._state.age.wall
        return dataclasses.replace(restored, books=books._replace(lost=lost, damaged_at=at))

    def note_anew(self, found: Salvaged) -> None:
        """Take note that this is a new file in the place of a damaged one."""
        self._lost_numbers = True
        self._incidents.append(
            {"event": "log_begun_anew", "why": "damaged", "entries": len(found.audit)}
        )

    def with_incidents(self, restored: Restored) -> Restored:
        """Return what was restored with what was wrong, and where the audit log goes on."""
        number = self._audit.last_number() + (LEAP if self._lost_numbers else 0)
        return dataclasses.replace(restored, audit_number=number, incidents=tuple(self._incidents))

    def _past_runs(self) -> tuple[PastRun, ...]:
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'past_run'").fetchone():
            return ()
        read = self._rows.readable("past_run", "", placed(past_run_of))
        return tuple(read.found + read.misplaced)

    def mind_clock(self, runs: Sequence[RunTotals]) -> float:
        """Put live runs, and their orders, on a clock that was set since they were stored.

        Return by how many seconds it was.
        """
        ahead = self._state.clock_was_set(self._time(), self._boot())
        if abs(ahead) < CLOCK_SET:
            return 0.0
        for run in runs:
            move(run, ahead)
        self._incidents.append({"event": "clock_set", "seconds": round(ahead, 3)})
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._state = self._state.next(self._state.sequence, self._time(), self._boot())
            self._writer.runs(runs, self._state.commit)
            write_state(self._db, self._state)
        logger.warning(
            "the system's clock was set since the storage was written last, by %+.0f s: durations "
            "of runs and times of overrides were moved by as much", ahead,
        )  # fmt: skip
        return ahead

    def _mind_last(self, state: State) -> State:
        """Return the state, with a sequence behind all that were given out."""
        commit, sequence = self._last.read()
        if self._file.lost_log or not state.commit or commit <= state.commit:
            return state  # what was in the log is taken out of it
        logger.error(
            "storage %s: %d commits are missing from it: its log was removed or cut off, or it was "
            "replaced by an older copy. What runs used in them is unknown until the runs are read "
            "again; overrides given in them are lost", self._file.path, commit - state.commit,
        )  # fmt: skip
        self._lost_numbers = True
        self._incidents.append({"event": "commits_lost", "commits": commit - state.commit})
        return state._replace(sequence=max(sequence, state.sequence), commit=commit)

    def archived(self, session_id: str, started_at: float | None) -> RunTotals | None:
        """Return a run that was archived; None if it never was."""
        key = Key.of(session_id, started_at)
        where = "WHERE session_id = ? AND started_at = ? AND archived = 1"
        try:
            read = self._rows.readable("account", where, placed(run_of), *key)
        except sqlite3.Error as exc:
            if not is_damage(exc):
                raise _storage_error(exc) from exc
            self._file.damage = f"it is damaged ({exc})"
            return recovered(session_id, started_at, self._time())
        if read.found:
            return read.found[0]
        if not read.lost and not read.misplaced:
            return None
        with _as_storage_errors():
            return self._recovered(key, used=self._archive.used(key))

    def overrides(self, session_id: str, started_at: float | None, most: int) -> list[Override]:
        """Return what operators ordered for a run, the newest first. most: -1 for all."""
        with _as_storage_errors():
            return self._overrides(session_id, started_at, most)

    def _overrides(self, session_id: str, started_at: float | None, most: int) -> list[Override]:
        where = "WHERE session_id = ? AND started_at = ? ORDER BY id DESC LIMIT ?"
        key = Key.of(session_id, started_at)
        return self._rows.readable("operator_action", where, override_of, *key, most).found

    def _restore(
        self, whole: Sequence[RunTotals], lost: Iterable[Key], verdicts: Iterable[Verdict]
    ) -> list[RunTotals]:
        """Return, and store again, live runs of which the rows were put aside.

        whole: those that were only misplaced. lost: of the others it is what else is known.
        """
        known = {Key.of(v.session_id, v.started_at): v for v in verdicts}
        runs = {run.session_id: run for run in whole}
        for key in lost:
            if key.session_id not in runs:
                runs[key.session_id] = self._recovered(key, known.get(key))
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._writer.runs(list(runs.values()), self._state.commit)
        return list(runs.values())

    def _recovered(
        self,
        key: Key,
        verdict: Verdict | None = None,
        used: Mapping[str, Number] = MappingProxyType({}),
    ) -> RunTotals:
        overrides = self._overrides(key.session_id, key.start, -1)[::-1]
        return recovered(
            key.session_id, key.start, self._time(), verdict=verdict, used=used, overrides=overrides
        )

    def take_over(self, found: Salvaged, *, live: bool) -> None:
        """Write what was salvaged of a file that cannot be used any more. live: as in put_in."""
        self._state = state_after(found, self._state)
        newer = self._audit.last_number()
        audit = [found.audit[number] for number in sorted(found.audit) if number > newer]
        put_in(self._db, self._writer, found, self._state, self._time(), live=live)
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._audit.put(audit)
            books = books_in(found)
            books = books if live else BookChanges(closings=books.closings)
            self._books.put(books, self._state.commit)

    def raise_to_verdicts(self, restored: Restored) -> None:
        """Raise runs to what was published of them, after damage that may have cost newer rows."""
        behind = raised(restored.runs, restored.verdicts)
        if not behind:
            return
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._writer.runs(behind, self._state.commit)
        logger.error(
            "storage: the newest rows of %d runs were lost; each has used at least what its last "
            "verdict said: %s", len(behind), some([one_line(a.session_id) for a in behind], ", "),
        )  # fmt: skip

    def take_back(self, log: bytes) -> bool:
        """Write what was in the end of a log that SQLite could not read; tell if there was any."""
        found, known = salvaged(self._file.path, log), self._state
        if found.commit <= known.commit:
            return False
        found = newer_than(found, known)
        found.overrides = [
            (key, override)
            for key, override in found.overrides
            if override not in self._overrides(key.session_id, key.start, -1)
        ]
        self._lost_numbers = True
        self._incidents.append({"event": "log_taken_back", "runs": len(found.runs)})
        last = max(known.sequence, self._last.read()[1], found.state.sequence if found.state else 0)
        found.state = known._replace(sequence=last, commit=found.commit)
        self.take_over(found, live=True)
        logger.error(
            "storage %s: its log is damaged and was set aside as %s. Of the last commits, %d runs "
            "and %d overrides could still be read and were restored. Check the disk",
            self._file.path, keep_log(self._file.path, log), len(found.runs),
            len(found.overrides),
        )  # fmt: skip
        return True

    def commit(self, changes: Changes) -> None:
        """Write what changed, all or nothing."""
        if changes or self._archive.is_behind or self._audit.is_behind:
            with _as_storage_errors(), self._file.unsynced(changes.unsynced):
                self._commit(changes)

    def _commit(self, changes: Changes) -> None:
        wall = self._time() - changes.clock_set
        state = self._state.next(changes.sequence, wall, self._boot())
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for run in changes.archived:
                self._writer.archived(run, state.age.now, state.commit)
            written = self._writer.runs(changes.runs, state.commit)
            self._writer.verdicts(changes.verdicts)
            self._writer.past_runs(changes.past_runs, changes.dropped)
            self._books.write(changes.books, state.commit)
            write_shared(self._db, changes.shared)
            if changes.override is not None:
                run, override = changes.override
                self._writer.override(Key.of(run.session_id, run.started_at), override)
            self._audit.write(changes.audit)
            write_state(self._db, state)
            self._archive.tidy(state.age.now)
            self._books.tidy(state.age.now)
            self._audit.tidy(state.age.now, len(changes.audit))
            self._db.execute("COMMIT")
        except BaseException as exc:
            if isinstance(exc, sqlite3.DatabaseError) and is_damage(exc):
                self._file.damage = f"it is damaged ({exc})"
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._archive.recount()
            self._books.recount()
            self._audit.recount()
            raise
        self._state = state
        self._last.note(state.commit, state.sequence)
        for run in changes.archived:
            self._writer.live.pop(run.session_id, None)
        self._writer.live.update(written)
        if self._archive.is_behind or self._audit.is_behind:
            self._file.shrink()

    def closed_windows(self, budget: str, group: Group, most: int) -> list[ClosedWindow]:
        """Return windows of a budget's group that are over, the newest first; see ``Storage``."""
        with _as_storage_errors():
            return self._books.closed_windows(budget, group, most)

    def audit(self, query: AuditQuery) -> AuditPage:
        """Return entries of the audit log."""
        with _as_storage_errors():
            return self._audit.read(query)

    def stats(self) -> StorageStats:
        """Return how the storage is."""
        return StorageStats(
            self._file.size(), self._rows.unreadable, self._archive.evicted, self._renewals,
            *self._audit.stats(),
        )  # fmt: skip

    def close(self) -> None:
        """Close the file; it is whole without its side files then, unless it is being read."""
        self._file.close()
        self._last.close(whole=not self._file.has_log())


def _storage_error(problem: Exception) -> StorageError:
    return StorageError(f"{type(problem).__name__}: {problem}")


@contextlib.contextmanager
def _as_storage_errors() -> Iterator[None]:
    """Raise as a StorageError what SQLite or the file system raises."""
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        raise _storage_error(exc) from exc


def open_sqlite(
    path: str,
    time: Callable[[], float] = time.time,
    archive_size: int = ARCHIVE_SIZE,
    boot: Callable[[], Boot] = Boot,
    *,
    audit_size: int = AUDIT_SIZE,
    audit_keep: float = AUDIT_KEEP,
) -> tuple[SqliteStorage, Restored]:
    """Open or make the storage at ``path`` and return it with what is in it.

    time: returns Unix seconds, by which archived runs grow old. archive_size: bytes that these may
    take. boot: returns the time that cannot be set; by default it is not known. audit_size,
    audit_keep: bytes and seconds of the audit log.
    A damaged file is renamed and a new one begun. Raises UnusableStorageError for a file that
    cannot be opened, is in use, is no database, or was written by a newer version.
    """
    make = partial(
        SqliteStorage, time=time, archive_size=archive_size, boot=boot, audit_size=audit_size,
        audit_keep=audit_keep,
    )  # fmt: skip
    try:
        check_kind(path)
        return _opened(path, make)
    except (sqlite3.OperationalError, OSError) as exc:
        raise UnusableStorageError(path, f"cannot be opened: {exc}", advice(exc)) from exc
    except (sqlite3.DatabaseError, ValueError, TypeError) as exc:
        aside = set_aside(path)
        problem = str(exc)
    found = salvaged(aside)
    store, _ = _opened(path, make)
    store.take_over(found, live=True)
    store.note_anew(found)
    restored = store.with_damaged_books(store.load())
    store.raise_to_verdicts(restored)
    restored = dataclasses.replace(restored, clock_set=store.mind_clock(restored.runs))
    logger.error(
        "storage %s is damaged (%s) and was set aside as %s. %d runs could be read from it (%d of "
        "them archived) and %d overrides; what other runs used before is unknown until they are "
        "read again. Check the disk, and compare with a backup",
        path, problem, aside, len(found.runs),
        sum(at is not None for _, _, at in found.runs.values()), len(found.overrides),
    )  # fmt: skip
    return store, store.with_incidents(restored)


def _opened(path: str, make: Callable[[OpenFile], SqliteStorage]) -> tuple[SqliteStorage, Restored]:
    storage = open_file(path, _LOCK_TIMEOUT)
    try:
        store = make(storage)
        restored = store.load()
        if storage.lost_log:
            taken_back = store.take_back(storage.lost_log)
            if not taken_back:
                storage.lost_log = b""  # nothing newer is in it: what is missing is to be said
            restored = store.load()
            if taken_back:
                restored = store.with_damaged_books(restored)
                store.raise_to_verdicts(restored)
        restored = dataclasses.replace(restored, clock_set=store.mind_clock(restored.runs))
    except BaseException:
        storage.close()
        raise
    return store, store.with_incidents(restored)
