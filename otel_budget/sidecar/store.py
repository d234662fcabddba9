"""The ledger on disk: what a killed sidecar knows again when it comes back.

- One transaction per tick, only if something changed, and always before anything is published: a
  sequence or a use that somebody has seen is never taken back.
- A run that was forgotten or superseded stays as an archived row for 30 days, and is adopted again
  when it turns up with the same start time. A damaged file is set aside, not overwritten.
- At most one row of a session id is live.
"""

from __future__ import annotations

import json
import logging
import math
import sqlite3
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from otel_budget import wire
from otel_budget.errors import InvalidValueError, OtelBudgetError
from otel_budget.ledger import record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from otel_budget.ledger.account import Account
    from otel_budget.model.verdict import Verdict

logger = logging.getLogger(__name__)

#: What is in the file, each with its version. Another version of any of them is refused.
VERSIONS = {
    "schema_version": "1",
    "account_format": str(record.FORMAT),
    "verdict_version": str(wire.VERSION),
}
#: Seconds to wait for a predecessor that is still closing the file.
_LOCK_TIMEOUT = 2.0
#: Seconds an archived run is kept, and seconds between two looks for older ones.
KEEP_ARCHIVED = 30 * 86_400.0
PURGE_EVERY = 3600.0

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE account (
    session_id TEXT NOT NULL,
    started_at TEXT NOT NULL,  -- as repr, so that it is exact; '' where the run does not say
    archived INTEGER NOT NULL,
    archived_at REAL,  -- Unix time; NULL for a live one
    body TEXT NOT NULL,
    PRIMARY KEY (session_id, started_at)
);
CREATE UNIQUE INDEX one_live_run ON account (session_id) WHERE archived = 0;
CREATE INDEX archived_since ON account (archived_at) WHERE archived = 1;
CREATE TABLE verdict (
    session_id TEXT NOT NULL,
    started_at TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (session_id, started_at)
);
"""


class StoreError(OtelBudgetError):
    """Say that the storage cannot be used, and what to do.

    path: the file. problem: what is wrong with it.
    """

    def __init__(self, path: str, problem: str, advice: str) -> None:
        """Keep the fields."""
        self.path, self.problem, self.advice = path, problem, advice
        super().__init__(f"storage {path}: {problem}; {advice}")


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

    def __bool__(self) -> bool:
        """True if there is anything to write. A sequence moves only along with a verdict."""
        return bool(self.accounts or self.archived or self.verdicts)


class Store:
    """One SQLite file. Used from one thread at a time."""

    def __init__(self, connection: sqlite3.Connection, time: Callable[[], float]) -> None:
        """Take over a connection that ``open_store`` made. time: returns Unix seconds."""
        self._db, self._time = connection, time
        self._purged_at = -math.inf

    def load(self) -> Restored:
        """Return the live accounts, their last verdicts and the sequence."""
        accounts = self._db.execute("SELECT body FROM account WHERE archived = 0").fetchall()
        verdicts = self._db.execute("SELECT body FROM verdict").fetchall()
        row = self._db.execute("SELECT value FROM meta WHERE key = 'sequence'").fetchone()
        return Restored(
            accounts=tuple(record.load(json.loads(body)) for (body,) in accounts),
            verdicts=tuple(wire.from_json(body) for (body,) in verdicts),
            sequence=int(row[0]),
        )

    def archived(self, session_id: str, started_at: float | None) -> Account | None:
        """Return the account of a run that was forgotten; None if there is none."""
        row = self._db.execute(
            "SELECT body FROM account WHERE session_id = ? AND started_at = ? AND archived = 1",
            (session_id, _key(started_at)),
        ).fetchone()
        return None if row is None else record.load(json.loads(row[0]))

    def commit(self, changes: Changes) -> None:
        """Write what changed, all or nothing. Raises sqlite3.Error; nothing is written then."""
        if not changes:
            return
        now = self._time()
        purging = abs(now - self._purged_at) >= PURGE_EVERY
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._archive(changes.archived, now)
            self._write_accounts(changes.accounts)
            self._write_verdicts(changes.verdicts)
            self._db.execute(
                "UPDATE meta SET value = ? WHERE key = 'sequence'", (str(changes.sequence),)
            )
            if purging:
                self._purge(now - KEEP_ARCHIVED)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        if purging:
            self._purged_at = now

    def close(self) -> None:
        """Close the file; it is whole without its side files then."""
        self._db.close()

    def _archive(self, accounts: Iterable[Account], now: float) -> None:
        for account in accounts:
            key = (account.session_id, _key(account.started_at))
            self._db.execute("INSERT OR REPLACE INTO account VALUES (?, ?, 1, ?, ?)",
                             (*key, now, _body(account)))  # fmt: skip
            self._db.execute("DELETE FROM verdict WHERE session_id = ? AND started_at = ?", key)

    def _purge(self, before: float) -> None:
        """Delete what was archived before a Unix time."""
        self._db.execute("DELETE FROM account WHERE archived = 1 AND archived_at < ?", (before,))

    def _write_accounts(self, accounts: Iterable[Account]) -> None:
        for account in accounts:
            key = (account.session_id, _key(account.started_at))
            # A run whose start became known after it was first stored has a new key.
            for table in ("account WHERE archived = 0 AND", "verdict WHERE"):
                self._db.execute(
                    f"DELETE FROM {table} session_id = ? AND started_at <> ?",  # noqa: S608 - two constants
                    key,
                )
            self._db.execute("INSERT OR REPLACE INTO account VALUES (?, ?, 0, NULL, ?)",
                             (*key, _body(account)))  # fmt: skip

    def _write_verdicts(self, verdicts: Iterable[Verdict]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO verdict VALUES (?, ?, ?)",
            ((v.session_id, _key(v.started_at), wire.to_json(v)) for v in verdicts),
        )


def open_store(path: str, time: Callable[[], float] = time.time) -> tuple[Store, Restored]:
    """Open or make the storage at ``path`` and return it with what is in it.

    time: returns Unix seconds, by which archived runs grow old.
    A damaged file is renamed and a new one begun. Raises StoreError for a file that cannot be
    opened, is in use, or was written by a newer version.
    """
    try:
        return _open(path, time)
    except (sqlite3.OperationalError, OSError) as exc:
        raise StoreError(path, f"cannot be opened: {exc}", _advice(exc)) from exc
    except (sqlite3.DatabaseError, ValueError, KeyError, TypeError, InvalidValueError) as exc:
        aside = _set_aside(path)
        logger.error(  # noqa: TRY400 - the file is at fault, a traceback would hide what matters
            "storage %s is damaged (%s): set aside as %s; beginning with an empty ledger, what "
            "runs used before is unknown until they are read again", path, exc, aside,
        )  # fmt: skip
    return _open(path, time)


def _open(path: str, time: Callable[[], float]) -> tuple[Store, Restored]:
    connection = sqlite3.connect(
        path,
        timeout=_LOCK_TIMEOUT,
        isolation_level=None,  # transactions are begun and ended where they are meant
        check_same_thread=False,  # ticks run in worker threads, one after the other
    )
    try:
        # One sidecar per file: a second one would give out the same sequences.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: with NORMAL a power cut takes back the last transactions, and with them uses and
        # sequences that were published already. A tick writes once, so this costs one fsync.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN EXCLUSIVE")
        _check_version(connection, path)
        connection.execute("COMMIT")
        _check_whole(connection)
        store = Store(connection, time)
        return store, store.load()
    except BaseException:
        connection.close()
        raise


def _check_version(connection: sqlite3.Connection, path: str) -> None:
    """Make the tables in an empty file; refuse tables this version does not know."""
    tables = {
        name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
    }
    if not tables:
        for statement in _SCHEMA.split(";\n"):
            connection.execute(statement)
        rows = [*VERSIONS.items(), ("sequence", "0")]
        connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
        return
    elsewhere = "name another file in storage.path, or with --storage"
    found = dict(connection.execute("SELECT key, value FROM meta")) if "meta" in tables else {}
    for key, ours in VERSIONS.items():
        if key not in found:
            raise StoreError(path, "is a database of something else", elsewhere)
        if found[key] != ours:
            problem = f"has {key} {found[key]}, this version of otel-budget reads {ours}"
            raise StoreError(path, problem, f"upgrade otel-budget, or {elsewhere}")


def _check_whole(connection: sqlite3.Connection) -> None:
    (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if answer != "ok":
        raise sqlite3.DatabaseError(answer)


def _set_aside(path: str) -> str:
    """Rename a damaged file and what belongs to it; return its new name."""
    suffix = f".damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    for part in ("-wal", "-shm", ""):
        file = Path(path + part)
        if file.exists():
            file.rename(path + suffix + part)
    return path + suffix


def _advice(problem: Exception) -> str:
    if "locked" in str(problem):
        return (
            "another sidecar uses it: stop that one, or name another file in storage.path, or with "
            "--storage"
        )
    return (
        "storage.path, or --storage, must name a file in a folder that exists and can be written to"
    )


def _key(started_at: float | None) -> str:
    return "" if started_at is None else repr(started_at)


def _body(account: Account) -> str:
    return json.dumps(record.dump(account), separators=(",", ":"))
