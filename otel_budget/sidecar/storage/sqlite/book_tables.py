"""The books of shared budgets on disk: only rows that changed are written, within the commit.

A window that is over is one row, to which late use is added. They are kept for 400 days, and no
more than so many: the oldest go first, a piece with each commit.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.logs.text import one_line, some
from otel_budget.sidecar.storage import book_rows
from otel_budget.sidecar.storage.records import UNREADABLE_ROW
from otel_budget.sidecar.storage.sqlite.schema import BOOKS, UNREADABLE, execute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeVar

    from otel_budget.core.budget import BudgetKey, Group
    from otel_budget.ledger.book_values import (
        BookChanges,
        ClosedWindow,
        StoredBook,
        StoredCells,
    )
    from otel_budget.sidecar.storage.sqlite.rows import Rows

    T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Seconds for which a closed window is kept, and seconds between two looks for older ones.
KEEP_WINDOWS: Final = 400 * 86_400.0
_PURGE_EVERY: Final = 3600.0
#: Closed windows that are kept at most: some 100 MB.
WINDOWS_MOST: Final = 250_000
#: Rows that are deleted at most with one commit.
_PIECE: Final = 500


class ReadBooks(NamedTuple):
    """What could be read."""

    books: list[StoredBook]
    cells: list[StoredCells]
    damaged: list[BudgetKey]
    """Groups with a row that could not be read."""


class BookTables:
    """The rows of the books in one open storage."""

    def __init__(self, rows: Rows, most: int = WINDOWS_MOST) -> None:
        """Take what has the connection. most: closed windows that are kept."""
        self._rows, self._most = rows, most
        self._tidied_at: float | None = None
        self._made = False
        """True if the tables are known to be there."""
        self._number: int | None = None
        """Closed windows there are; None if they have to be counted."""

    def recount(self) -> None:
        """Take note that what is stored is not what was counted."""
        self._number, self._made = None, False

    @property
    def _there(self) -> bool:
        """True if there are any books."""
        if not self._made:
            query = "SELECT 1 FROM sqlite_master WHERE name = 'budget_window'"
            self._made = self._rows.db.execute(query).fetchone() is not None
        return self._made

    def write(self, changes: BookChanges, commit: int) -> None:
        """Write what changed."""
        if not changes:
            return
        db = self._rows.db
        if not self._there:
            execute(db, BOOKS)
            self._made = True
        for name in changes.gone:
            db.execute("DELETE FROM budget_book WHERE name = ?", (name,))
            db.execute("DELETE FROM budget_cells WHERE budget = ?", (name,))
        db.executemany(
            "INSERT OR REPLACE INTO budget_book VALUES (?, ?)",
            ((book.name, book_rows.header_body(book, commit)) for book in changes.books),
        )
        for cells in changes.cells:
            place = cells.budget, book_rows.group_key(cells.group), cells.chunk
            if cells.cells:
                db.execute(
                    "INSERT OR REPLACE INTO budget_cells VALUES (?, ?, ?, ?)",
                    (*place, book_rows.cells_body(cells, commit)),
                )
            else:
                db.execute(
                    "DELETE FROM budget_cells WHERE budget = ? AND group_key = ? AND chunk = ?",
                    place,
                )
        for window in changes.closings:
            self._add(window, commit)

    def put(self, changes: BookChanges, commit: int) -> None:
        """Write what was salvaged in the place of what is there; closed windows are whole."""
        if changes and self._there:
            self._rows.db.executemany(
                "DELETE FROM budget_window "
                "WHERE budget = ? AND group_key = ? AND start = ? AND counted_from = ?",
                [
                    (w.budget, book_rows.group_key(w.group), w.start, w.counted_from)
                    for w in changes.closings
                ],
            )
        self._number = None
        self.write(changes, commit)

    def _add(self, window: ClosedWindow, commit: int) -> None:
        """Add to a closed window, which may be there."""
        place = (
            window.budget, book_rows.group_key(window.group), window.start, window.counted_from,
        )  # fmt: skip
        row = self._rows.db.execute(
            "SELECT CAST(body AS BLOB) FROM budget_window "
            "WHERE budget = ? AND group_key = ? AND start = ? AND counted_from = ?",
            place,
        ).fetchone()
        if row is not None:
            try:
                window = book_rows.merged(book_rows.window_of(row[0]), window)
            except UNREADABLE_ROW as exc:
                self._put_aside("budget_window", [row[0]], [f"{window.budget}: {exc}"])
                window = window._replace(at_least=True)
        elif self._number is not None:
            self._number += 1
        self._rows.db.execute(
            "INSERT OR REPLACE INTO budget_window VALUES (?, ?, ?, ?, ?, ?)",
            (*place, min(window.end, 1e300), book_rows.window_body(window, commit)),
        )

    def tidy(self, now: float) -> None:
        """Delete a piece of what is too old, or too much. now: by Age."""
        if not self._there:
            return
        if self._tidied_at is None:
            self._tidied_at = now  # not at once: a start has other things to do
        if self._number is None:
            (self._number,) = self._rows.db.execute("SELECT count(*) FROM budget_window").fetchone()
        too_many = self._number - self._most
        if now - self._tidied_at < _PURGE_EVERY and too_many <= 0:
            return
        self._tidied_at = now
        gone = self._rows.db.execute(
            "DELETE FROM budget_window WHERE rowid IN (SELECT rowid FROM budget_window "
            "WHERE ended_at < ? ORDER BY ended_at LIMIT ?)",
            (now - KEEP_WINDOWS, _PIECE),
        ).rowcount
        too_many = min(too_many - gone, _PIECE)
        if too_many > 0:
            gone += self._rows.db.execute(
                "DELETE FROM budget_window WHERE rowid IN (SELECT rowid FROM budget_window "
                "ORDER BY ended_at LIMIT ?)",
                (too_many,),
            ).rowcount
        self._number -= gone

    def load(self) -> ReadBooks:
        """Return the books; what cannot be read is put aside."""
        if not self._there:
            return ReadBooks([], [], [])
        headers, _ = self._readable(
            "SELECT CAST(name AS BLOB), CAST('null' AS BLOB), CAST(body AS BLOB) FROM budget_book",
            "budget_book", book_rows.header_of,
        )  # fmt: skip
        cells, damaged = self._readable(
            "SELECT CAST(budget AS BLOB), CAST(group_key AS BLOB), CAST(body AS BLOB) "
            "FROM budget_cells",
            "budget_cells", book_rows.cells_of,
        )  # fmt: skip
        return ReadBooks(headers, cells, damaged)

    def closed_windows(self, budget: str, group: Group, most: int) -> list[ClosedWindow]:
        """Return windows that are over, the newest first."""
        if not self._there:
            return []
        rows = self._rows.db.execute(
            "SELECT CAST(body AS BLOB) FROM budget_window WHERE budget = ? AND group_key = ? "
            "ORDER BY ended_at DESC, start DESC LIMIT ?",
            (budget, book_rows.group_key(group), most),
        ).fetchall()
        found = []
        for (body,) in rows:
            try:
                found.append(book_rows.in_whole_tokens(book_rows.window_of(body)))
            except UNREADABLE_ROW as exc:
                self._rows.unreadable += 1
                logger.error(  # noqa: TRY400 - the file is at fault
                    "storage: a closed window of the budget %s cannot be read: %s", budget,
                    one_line(str(exc)),
                )  # fmt: skip
        return found

    def _readable(
        self, query: str, table: str, load: Callable[[bytes], T]
    ) -> tuple[list[T], list[BudgetKey]]:
        """Return what can be read of a table, and whose the other rows are."""
        found: list[T] = []
        damaged: list[BudgetKey] = []
        bad: list[bytes] = []
        problems: list[str] = []
        for name, group, body in self._rows.db.execute(query).fetchall():
            try:
                found.append(load(body))
            except UNREADABLE_ROW as exc:
                bad.append(body)
                problems.append(one_line(f"{name!r}: {type(exc).__name__}: {exc}"))
                try:
                    damaged.append((name.decode(), book_rows.group_of(group.decode())))
                except UNREADABLE_ROW:
                    problems.append("of a group that cannot be read either")
        if bad:
            self._put_aside(table, bad, problems)
        return found, damaged

    def _put_aside(self, table: str, bodies: Sequence[object], problems: Iterable[str]) -> None:
        """Keep rows that cannot be read where nothing overwrites them, and say so."""
        self._rows.unreadable += len(bodies)
        self._rows.db.execute(UNREADABLE)
        self._rows.db.executemany(
            "INSERT INTO unreadable VALUES (?, '', '', ?)", [(table, body) for body in bodies]
        )
        self._rows.db.executemany(
            f"DELETE FROM {table} WHERE CAST(body AS BLOB) = ?",  # noqa: S608 - constant
            [(body,) for body in bodies],
        )
        logger.error(
            "storage: %d rows of the table %s cannot be read; they are kept in the table "
            "unreadable. What these groups of budgets used before is known only in part, and is "
            "shown as 'at least'. Check the disk, and compare with a backup: %s",
            len(bodies), table, some(list(problems), "; "),
        )  # fmt: skip
