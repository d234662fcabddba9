"""The tables of shared budgets beside their books: grants, reservations, who was told to go on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from otel_budget.logs.text import one_line, some
from otel_budget.sidecar.storage.records import UNREADABLE_ROW
from otel_budget.sidecar.storage.shared_rows import (
    choice_body,
    choice_of,
    choice_place,
    hold_body,
    hold_of,
    top_up_body,
    top_up_of,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

    from otel_budget.core.budget import TopUp
    from otel_budget.ledger.holds import Hold
    from otel_budget.policy.finish_most import Choice
    from otel_budget.sidecar.storage.base import SharedChanges
    from otel_budget.sidecar.storage.sqlite.rows import Rows

logger = logging.getLogger(__name__)

T = TypeVar("T")
#: Made when there is anything to put into them.
_TABLES = (
    "CREATE TABLE IF NOT EXISTS top_up (place TEXT PRIMARY KEY, body TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS budget_choice (place TEXT PRIMARY KEY, body TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS budget_hold (place TEXT PRIMARY KEY, body TEXT NOT NULL)",
)


def write_shared(db: sqlite3.Connection, changes: SharedChanges) -> None:
    """Write what is new, within the caller's transaction."""
    if not changes:
        return
    for table in _TABLES:
        db.execute(table)
    write_top_ups(db, changes.top_ups)
    db.executemany("DELETE FROM top_up WHERE place = ?", [(key,) for key in changes.gone])
    db.executemany(
        "DELETE FROM budget_choice WHERE place = ?",
        [(choice_place(*key, session_id),) for key, session_id in changes.dropped],
    )
    db.executemany(
        "INSERT OR REPLACE INTO budget_choice VALUES (?, ?)",
        [(choice_place(*one.key, one.session_id), choice_body(one)) for one in changes.choices],
    )
    db.executemany("DELETE FROM budget_hold WHERE place = ?", [(one,) for one in changes.forgotten])
    db.executemany(
        "INSERT OR REPLACE INTO budget_hold VALUES (?, ?)",
        [(one.id, hold_body(one)) for one in changes.holds],
    )


def write_top_ups(db: sqlite3.Connection, given: Iterable[TopUp]) -> None:
    """Write grants, within the caller's transaction."""
    db.execute(_TABLES[0])
    db.executemany(
        "INSERT OR REPLACE INTO top_up VALUES (?, ?)",
        [(one.key, top_up_body(one)) for one in given],
    )


def read_shared(
    rows: Rows,
) -> tuple[tuple[TopUp, ...], tuple[Choice, ...], tuple[Hold, ...]]:
    """Return what can be read of them."""
    grants = _readable(rows, "top_up", top_up_of, "these grants do not hold any more")
    choices = _readable(rows, "budget_choice", choice_of, "these runs are chosen anew")
    holds = _readable(rows, "budget_hold", hold_of, "what they held is free")
    return grants, choices, holds


def _readable(
    rows: Rows, table: str, load: Callable[[bytes], T], what_follows: str
) -> tuple[T, ...]:
    tables = "SELECT 1 FROM sqlite_master WHERE name = ?"
    if not rows.db.execute(tables, (table,)).fetchone():
        return ()
    found: list[T] = []
    problems: list[str] = []
    stored = rows.db.execute(f"SELECT CAST(body AS BLOB) FROM {table}")  # noqa: S608 - two constants
    for (body,) in stored.fetchall():
        try:
            found.append(load(body))
        except UNREADABLE_ROW as exc:
            problems.append(one_line(f"{type(exc).__name__}: {exc}"))
    if problems:
        rows.unreadable += len(problems)
        logger.error(
            "storage: %d rows of the table %s cannot be read: %s. Check the disk, and compare with "
            "a backup: %s", len(problems), table, what_follows, some(problems, "; "),
        )  # fmt: skip
    return tuple(found)
