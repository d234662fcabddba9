"""The storage's file: what is in it, what it may not be, and what becomes of a damaged one."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import Connection, DatabaseError
from sqlite3 import Error as SqliteError
from typing import TYPE_CHECKING

from otel_budget.core import verdict_json
from otel_budget.errors import OtelBudgetError
from otel_budget.sidecar.storage import codec

if TYPE_CHECKING:
    from collections.abc import Collection

logger = logging.getLogger(__name__)

#: What is in the file, each with its version. A newer version of any of them is refused, an older
#: one brought up to date.
VERSIONS = {
    "schema_version": "2",
    "account_format": str(codec.FORMAT),
    "verdict_version": str(verdict_json.VERSION),
}
#: How every SQLite file begins that is not empty.
_HEADER = b"SQLite format 3\0"
_ELSEWHERE = "name another file in storage.path, or with --storage"
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
_ACTIONS = """
CREATE TABLE operator_action (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,  -- Unix time
    session_id TEXT NOT NULL,
    started_at TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX action_of_run ON operator_action (session_id, started_at);
"""
#: What to do to a file of an older version to have the next one: by key and the older version.
_MIGRATIONS = {
    ("schema_version", "1"): _ACTIONS,
    ("account_format", "1"): "",  # its accounts are read as they are, and written in the newest
    ("account_format", "2"): "",
    ("account_format", "3"): "",
}
#: What versions of before do not have, and do not mind.
TABLES = """
CREATE TABLE IF NOT EXISTS archived_run (
    session_id TEXT NOT NULL,
    started_at TEXT NOT NULL,
    target TEXT NOT NULL,  -- that showed it
    at REAL NOT NULL,  -- as archived_at of its account
    bytes INTEGER NOT NULL,
    used TEXT NOT NULL,
    PRIMARY KEY (session_id, started_at)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS archived_of_target ON archived_run (target, at, bytes)
"""
#: Rows that could not be read, out of the way of what is written later. Made when there are any.
UNREADABLE = """
CREATE TABLE IF NOT EXISTS unreadable (
    kind TEXT NOT NULL, session_id TEXT NOT NULL, started_at TEXT NOT NULL, body TEXT NOT NULL
)
"""


class StoreError(OtelBudgetError):
    """Say that the storage cannot be used, and what to do.

    path: the file. problem: what is wrong with it.
    """

    def __init__(self, path: str, problem: str, advice: str) -> None:
        """Keep the fields."""
        self.path, self.problem, self.advice = path, problem, advice
        super().__init__(f"storage {path}: {problem}; {advice}")


#: What is raised where something cannot be stored, whatever it is.
NOT_STORED = (SqliteError, OSError, StoreError)


def check_kind(path: str) -> None:
    """Refuse a file that never was a database: who wrote it wants to keep it where it is."""
    file = Path(path)
    if not file.exists():
        return
    with file.open("rb") as opened:
        begin = opened.read(len(_HEADER))
    if begin not in (b"", _HEADER):
        raise StoreError(path, "is not a database", _ELSEWHERE)


def check_version(connection: Connection, path: str) -> None:
    """Make the tables in an empty file, bring those of an older version up to date, refuse others.

    Within the caller's transaction, so that a file is never between two versions.
    """
    tables = {
        name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
    }
    if not tables:
        _execute(connection, _SCHEMA + _ACTIONS)
        _execute(connection, TABLES)
        rows = [*VERSIONS.items(), ("sequence", "0")]
        connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
        return
    query = "SELECT CAST(key AS BLOB), CAST(value AS BLOB) FROM meta"
    stored = connection.execute(query) if "meta" in tables else ()
    found = {
        key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, value in stored
    }
    for key, ours in VERSIONS.items():
        if key not in found:
            raise StoreError(path, "is a database of something else", _ELSEWHERE)
        found[key] = _migrated(connection, key, found[key])
        if found[key] != ours:
            problem = f"has {key} {found[key]}, this version of otel-budget reads {ours}"
            raise StoreError(path, problem, f"upgrade otel-budget, or {_ELSEWHERE}")
    _execute(connection, TABLES)


def _migrated(connection: Connection, key: str, version: str) -> str:
    """Bring what a key stands for up to date, as far as that is known; return its version then."""
    begun = version
    while (key, version) in _MIGRATIONS and version != VERSIONS[key]:
        _execute(connection, _MIGRATIONS[key, version])
        version = str(int(version) + 1)
    if version != begun:
        connection.execute("UPDATE meta SET value = ? WHERE key = ?", (version, key))
        logger.info("storage: brought %s from %s to %s", key, begun, version)
    return version


def _execute(connection: Connection, script: str) -> None:
    """Run statements one by one: executescript would end the transaction."""
    for statement in script.split(";\n"):
        connection.execute(statement)


def check_whole(connection: Connection, *, with_indices: bool) -> None:
    """Raise DatabaseError for a file that SQLite finds damaged."""
    check = "integrity_check" if with_indices else "quick_check"
    (answer,) = connection.execute(f"PRAGMA {check}(1)").fetchone()
    if answer != "ok":
        raise DatabaseError(answer)


def side_files(path: str) -> tuple[Path, Path]:
    """Return the paths of what SQLite keeps beside a file: its log, and the log's index."""
    real = os.path.realpath(path)
    return Path(f"{real}-wal"), Path(f"{real}-shm")


def set_aside(path: str, why: str = "damaged", parts: Collection[Path] | None = None) -> str:
    """Rename a file that cannot be used and what belongs to it; return its new name.

    parts: which of it to rename, if that is not all of it.
    """
    real = Path(os.path.realpath(path))
    aside = f"{real}.{why}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    for part in (*side_files(path), real):
        if part.exists() and (parts is None or part in parts):
            part.rename(aside + str(part).removeprefix(str(real)))
    return aside


def keep_log(path: str, log: bytes) -> str:
    """Write what a log was; return where."""
    aside = f"{os.path.realpath(path)}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-wal"
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(log)
    return aside


def in_use(path: str) -> StoreError:
    """Return the refusal of a file that another sidecar has."""
    return StoreError(path, "another sidecar uses it", f"stop that one, or {_ELSEWHERE}")


def advice(problem: Exception) -> str:
    """Say what to do about a file that cannot be opened."""
    if "locked" in str(problem):
        return f"another program has locked it: stop that one, or {_ELSEWHERE}"
    return (
        "storage.path, or --storage, must name a file in a folder that exists and can be written to"
    )
