"""The ledger on disk: what a killed sidecar knows again when it comes back.

- One transaction per tick, only if something changed, and always before anything is published: a
  sequence or a use that somebody has seen is never taken back.
- A run that was forgotten or superseded stays as an archived row for 30 days, and is adopted again
  when it turns up with the same start time. A damaged file is set aside, not overwritten; a row
  that cannot be read is put into a table of its own, and costs no other run. A file that is no
  database is not touched.
- At most one row of a session id is live.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from otel_budget import wire
from otel_budget.ledger import record
from otel_budget.sidecar.storage_access import Storage, open_storage
from otel_budget.sidecar.storage_file import UNREADABLE, StoreError, advice, check_kind, set_aside
from otel_budget.sources.notices import one_line, some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from otel_budget.ledger.account import Account
    from otel_budget.model.order import Order
    from otel_budget.model.verdict import Verdict

logger = logging.getLogger(__name__)

T = TypeVar("T")
_UNREADABLE_ROW = (
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip

#: Seconds to wait for a predecessor that is still closing the file.
_LOCK_TIMEOUT = 2.0
#: Seconds an archived run is kept, and seconds between two looks for older ones.
KEEP_ARCHIVED = 30 * 86_400.0
PURGE_EVERY = 3600.0
#: Seconds for which it is kept what operators ordered.
KEEP_ACTIONS = 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class Restored:
    """What the last process left behind."""

    accounts: tuple[Account, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    """The last published verdict of each of these runs."""
    sequence: int = 0
    """The last one given out; 0 before the first."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What one tick changed."""

    sequence: int
    accounts: Sequence[Account] = field(default=())
    """Live ones with something new in them."""
    archived: Sequence[Account] = field(default=())
    """Those that were forgotten, or superseded by a new run."""
    verdicts: Sequence[Verdict] = field(default=())
    """Those with a new sequence."""
    action: tuple[Account, Order] | None = None
    """What an operator ordered, for which run."""

    def __bool__(self) -> bool:
        """True if there is anything to write. A sequence moves only along with a verdict."""
        return bool(self.accounts or self.archived or self.verdicts or self.action)


class Store:
    """One SQLite file. Used from one thread at a time."""

    def __init__(self, storage: Storage, time: Callable[[], float]) -> None:
        """Take over a storage that is open. time: returns Unix seconds."""
        self._storage, self._db, self._time = storage, storage.connection, time
        # Not at once: a machine that just started may not know what time it is.
        self._purged_at = time()
        self._live: dict[str, str] = {}
        """Session id to the key under which its live account is on disk."""

    def load(self) -> Restored:
        """Return the live accounts, their last verdicts and the sequence."""
        accounts = self._readable("account", "WHERE archived = 0", record.from_json)
        verdicts = self._readable("verdict", "", wire.from_json)
        row = self._db.execute("SELECT value FROM meta WHERE key = 'sequence'").fetchone()
        self._live = {account.session_id: _key(account.started_at) for account in accounts}
        return Restored(
            accounts=tuple(accounts),
            verdicts=tuple(verdict for verdict in verdicts if verdict.session_id in self._live),
            sequence=int(row[0]),
        )

    def archived(self, session_id: str, started_at: float | None) -> Account | None:
        """Return the account of a run that was forgotten; None if there is none."""
        where = "WHERE session_id = ? AND started_at = ? AND archived = 1"
        found = self._readable("account", where, record.from_json, session_id, _key(started_at))
        return found[0] if found else None

    def actions(self, session_id: str, started_at: float | None, most: int) -> list[Order]:
        """Return what operators ordered for a run, the newest first."""
        rows = self._db.execute(
            "SELECT body FROM operator_action WHERE session_id = ? AND started_at = ? "
            "ORDER BY id DESC LIMIT ?",
            (session_id, _key(started_at), most),
        )
        return [record.load_order(json.loads(body)) for (body,) in rows]

    def commit(self, changes: Changes) -> None:
        """Write what changed, all or nothing. Raises sqlite3.Error; nothing is written then."""
        if not changes:
            return
        now = self._time()
        purging = abs(now - self._purged_at) >= PURGE_EVERY
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._archive(changes.archived, now)
            written = self._write_accounts(changes.accounts)
            self._write_verdicts(changes.verdicts)
            if changes.action is not None:
                self._write_action(*changes.action)
            self._db.execute(
                "UPDATE meta SET value = ? WHERE key = 'sequence'", (str(changes.sequence),)
            )
            if purging:
                self._purge(now)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        for account in changes.archived:
            self._live.pop(account.session_id, None)
        self._live.update(written)
        if purging:
            self._purged_at = now

    def close(self) -> None:
        """Close the file; it is whole without its side files then, unless somebody reads it."""
        self._storage.close()

    def _readable(
        self, table: str, where: str, load: Callable[[str], T], *values: object
    ) -> list[T]:
        """Return what can be read of some rows; put aside those that cannot, and say so."""
        rows = self._db.execute(
            f"SELECT session_id, started_at, body FROM {table} {where}",  # noqa: S608 - constants
            values,
        ).fetchall()
        found: list[T] = []
        bad: list[tuple[str, ...]] = []
        problems: list[str] = []
        for session_id, started_at, body in rows:
            try:
                found.append(load(body))
            except _UNREADABLE_ROW as exc:
                bad.append((table, session_id, started_at, body))
                problems.append(one_line(f"{session_id}: {type(exc).__name__}: {exc}"))
        if bad:
            self._put_aside(table, bad)
            logger.error(
                "storage: %d rows of the table %s cannot be read; they are kept in the table "
                "unreadable, and what these runs used before is unknown: %s",
                len(bad), table, some(problems, "; "),
            )  # fmt: skip
        return found

    def _put_aside(self, table: str, rows: Sequence[tuple[str, ...]]) -> None:
        """Move rows into a table of their own, where nothing overwrites them."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(UNREADABLE)
            self._db.executemany("INSERT INTO unreadable VALUES (?, ?, ?, ?)", rows)
            self._db.executemany(
                f"DELETE FROM {table} WHERE session_id = ? AND started_at = ?",  # noqa: S608 - constant
                [row[1:3] for row in rows],
            )

    def _archive(self, accounts: Iterable[Account], now: float) -> None:
        for account in accounts:
            key = (account.session_id, _key(account.started_at))
            self._db.execute("INSERT OR REPLACE INTO account VALUES (?, ?, 1, ?, ?)",
                             (*key, now, record.to_json(account)))  # fmt: skip
            self._db.execute("DELETE FROM verdict WHERE session_id = ? AND started_at = ?", key)

    def _purge(self, now: float) -> None:
        """Delete what was kept for long enough."""
        self._db.execute(
            "DELETE FROM account WHERE archived = 1 AND archived_at < ?", (now - KEEP_ARCHIVED,)
        )
        self._db.execute("DELETE FROM operator_action WHERE at < ?", (now - KEEP_ACTIONS,))

    def _write_action(self, account: Account, order: Order) -> None:
        self._db.execute(
            "INSERT INTO operator_action (at, session_id, started_at, body) VALUES (?, ?, ?, ?)",
            (order.at, account.session_id, _key(account.started_at),
             json.dumps(record.dump_order(order))),
        )  # fmt: skip

    def _write_accounts(self, accounts: Sequence[Account]) -> list[tuple[str, str]]:
        """Write live accounts; return the key of each row, by session id."""
        keys = [(a.session_id, _key(a.started_at)) for a in accounts]
        # Only a row that is under another key stays beside the new one: of a run whose start
        # became known after it was first stored, or of another run of the same id.
        moved = [(sid, key) for sid, key in keys if self._live.get(sid) != key]
        for table in ("account WHERE archived = 0 AND", "verdict WHERE"):
            self._db.executemany(
                f"DELETE FROM {table} session_id = ? AND started_at <> ?",  # noqa: S608 - two constants
                moved,
            )
        self._db.executemany(
            "INSERT INTO account VALUES (?, ?, 0, NULL, ?) ON CONFLICT (session_id, started_at) "
            "DO UPDATE SET archived = 0, archived_at = NULL, body = excluded.body",
            ((*key, record.to_json(a)) for key, a in zip(keys, accounts, strict=True)),
        )
        return keys

    def _write_verdicts(self, verdicts: Iterable[Verdict]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO verdict VALUES (?, ?, ?)",
            ((v.session_id, _key(v.started_at), wire.to_json(v)) for v in verdicts),
        )


def open_store(path: str, time: Callable[[], float] = time.time) -> tuple[Store, Restored]:
    """Open or make the storage at ``path`` and return it with what is in it.

    time: returns Unix seconds, by which archived runs grow old.
    A damaged file is renamed and a new one begun. Raises StoreError for a file that cannot be
    opened, is in use, is no database, or was written by a newer version.
    """
    try:
        check_kind(path)
        return _opened(path, time)
    except (sqlite3.OperationalError, OSError) as exc:
        raise StoreError(path, f"cannot be opened: {exc}", advice(exc)) from exc
    except (sqlite3.DatabaseError, ValueError, TypeError) as exc:
        aside = set_aside(path)
        logger.error(  # noqa: TRY400 - the file is at fault, a traceback would hide what matters
            "storage %s is damaged (%s): set aside as %s; beginning with an empty ledger, what "
            "runs used before is unknown until they are read again", path, exc, aside,
        )  # fmt: skip
    return _opened(path, time)


def _opened(path: str, time: Callable[[], float]) -> tuple[Store, Restored]:
    storage = open_storage(path, _LOCK_TIMEOUT)
    try:
        store = Store(storage, time)
        return store, store.load()
    except BaseException:
        storage.close()
        raise


def _key(started_at: float | None) -> str:
    return "" if started_at is None else repr(started_at)
