"""Rows of the storage one by one: one that cannot be read costs its own run, and no other.

It is put into a table of its own, where nothing overwrites it, counted, and said once. SQLite is
asked for bytes: it would refuse a whole answer for one byte that is no text.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sqlite3
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar, cast

from otel_budget.logs.text import one_line, some
from otel_budget.sidecar.storage.records import UNREADABLE_ROW, Key
from otel_budget.sidecar.storage.sqlite.schema import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_budget.core.verdict import Verdict
    from otel_budget.ledger.run import RunTotals
    from otel_budget.policy.suggester import PastRun

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R", "RunTotals", "Verdict", "PastRun")
#: Values of a row as SQLite has them, whatever damage made of them.
_Raw = tuple[object, ...]


class Misplaced(ValueError):  # noqa: N818 - what it is about could be read
    """Say that a row is whole, and not where it belongs.

    value: what is in it.
    """

    def __init__(self, value: object, key: Key) -> None:
        """Keep what was read, and where it belongs."""
        self.value = value
        super().__init__(f"it is of the run {key.session_id} of {key.started_at or 'no start'}")


class Read(NamedTuple, Generic[T]):
    """What came of reading some rows."""

    found: list[T]
    misplaced: list[T]
    """Whole ones that were under a wrong key: their rows are put aside."""
    lost: list[Key]
    """Whose the others are, as far as that is known."""


class Rows:
    """Reads rows of one open storage."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """Take the connection."""
        self.db = db
        self.unreadable = 0
        """Rows so far that could not be read."""

    def readable(
        self, table: str, where: str, load: Callable[[bytes, Key | None], T], *values: object
    ) -> Read[T]:
        """Return what can be read of some rows, and put aside the others.

        load: takes a row's text, and its key if that can be read; raises Misplaced, or one of
        UNREADABLE_ROW. Raises sqlite3.Error where SQLite itself cannot read.
        """
        rows = self.db.execute(
            "SELECT rowid, CAST(session_id AS BLOB), CAST(started_at AS BLOB), "  # noqa: S608 - constants
            f"CAST(body AS BLOB) FROM {table} {where}",
            values,
        ).fetchall()
        read: Read[T] = Read([], [], [])
        bad: list[_Raw] = []
        problems: list[str] = []
        for row in rows:
            key = _key(row[1], row[2])
            try:
                read.found.append(load(row[3], key))
            except UNREADABLE_ROW as exc:
                bad.append(row)
                problems.append(one_line(f"{_text(row[1])}: {type(exc).__name__}: {exc}"))
                if isinstance(exc, Misplaced):
                    read.misplaced.append(cast("T", exc.value))
                elif key is not None:
                    read.lost.append(key)
        if bad:
            self._put_aside(table, bad, problems)
        return read

    def _put_aside(self, table: str, rows: Sequence[_Raw], problems: Sequence[str]) -> None:
        self.unreadable += len(rows)
        kept = "they are kept in the table unreadable"
        try:
            with self.db:
                self.db.execute("BEGIN IMMEDIATE")
                self.db.execute(UNREADABLE)
                self.db.executemany(
                    "INSERT INTO unreadable VALUES (?, ?, ?, ?)",
                    [(table, *("" if v is None else _text(v) for v in row[1:])) for row in rows],
                )
                self.db.executemany(
                    f"DELETE FROM {table} WHERE rowid = ?",  # noqa: S608 - constant
                    [row[:1] for row in rows],
                )
        except sqlite3.Error as exc:
            kept = f"they stay where they are ({exc})"
        logger.error(
            "storage: %d rows of the table %s cannot be read; %s. What these runs used before is "
            "known only in part, and is shown as 'at least'. Check the disk, and compare with a "
            "backup: %s", len(rows), table, kept, some(problems, "; "),
        )  # fmt: skip


def _key(session_id: object, started_at: object) -> Key | None:
    """Return the key of a row; None if it is none."""
    texts = _text(session_id), _text(started_at)
    if isinstance(texts[0], str) and isinstance(texts[1], str):
        with contextlib.suppress(ValueError):
            key = Key(texts[0], texts[1])
            return key if math.isfinite(key.start or 0.0) else None
    return None


def _text(value: object) -> object:
    """Return bytes as text if they are, else as they are."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except ValueError:
        return value


def placed(load: Callable[[bytes], R]) -> Callable[[bytes, Key | None], R]:
    """Return what reads a row and raises Misplaced if it is of another run than its key says."""

    def read(body: bytes, key: Key | None) -> R:
        value = load(body)
        own = Key.of(value.session_id, value.started_at)
        if own != key:
            raise Misplaced(value, own)
        return value

    return read
