"""What is in the storage's file: its tables, their versions, and which files are refused."""

from __future__ import annotations

import logging
from pathlib import Path
from sqlite3 import Connection, DatabaseError

from otel_budget.core import verdict_json
from otel_budget.sidecar.storage import codec
from otel_budget.sidecar.storage.base import UnusableStorageError

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
ELSEWHERE = "name another file in storage.path, or with --storage"
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
CREATE INDEX IF NOT EXISTS archived_of_target ON archived_run (target, at, bytes);
CREATE TABLE IF NOT EXISTS audit (
    number INTEGER PRIMARY KEY,
    at REAL NOT NULL,  -- Unix time
    kind TEXT NOT NULL,
    session_id TEXT NOT NULL,  -- '' for none
    started_at TEXT NOT NULL,
    budget TEXT NOT NULL,  -- '' for none
    upto INTEGER NOT NULL,  -- bytes of all entries that there ever were, this one among them
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS audit_at ON audit (at, kind);
CREATE INDEX IF NOT EXISTS audit_of_run ON audit (session_id, at, kind) WHERE session_id <> '';
CREATE INDEX IF NOT EXISTS audit_of_budget ON audit (budget, at, kind) WHERE budget <> '';
CREATE INDEX IF NOT EXISTS audit_of_kind ON audit (kind, at) WHERE kind <> 'verdict'
"""
#: How runs ended, where limits are suggested. Made when there are any.
PAST_RUNS = """
CREATE TABLE IF NOT EXISTS past_run (
    session_id TEXT NOT NULL, started_at TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (session_id, started_at)
)
"""
#: The books of shared budgets. Made when there are any.
BOOKS = """
CREATE TABLE IF NOT EXISTS budget_book (name TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS budget_cells (
    budget TEXT NOT NULL,
    group_key TEXT NOT NULL,  -- as JSON
    chunk TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (budget, group_key, chunk)
);
CREATE TABLE IF NOT EXISTS budget_window (
    budget TEXT NOT NULL,
    group_key TEXT NOT NULL,
    start REAL NOT NULL,  -- Unix time, as the next two
    counted_from REAL NOT NULL,
    ended_at REAL NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (budget, group_key, start, counted_from)
);
CREATE INDEX IF NOT EXISTS windows_by_end ON budget_window (ended_at)
"""
#: Rows that could not be read, out of the way of what is written later. Made when there are any.
UNREADABLE = """
CREATE TABLE IF NOT EXISTS unreadable (
    kind TEXT NOT NULL, session_id TEXT NOT NULL, started_at TEXT NOT NULL, body TEXT NOT NULL
)
"""


def check_kind(path: str) -> None:
    """Refuse a file that never was a database: who wrote it wants to keep it where it is."""
    file = Path(path)
    if not file.exists():
        return
    with file.open("rb") as opened:
        begin = opened.read(len(_HEADER))
    if begin not in (b"", _HEADER):
        raise UnusableStorageError(path, "is not a database", ELSEWHERE)


def check_version(connection: Connection, path: str) -> None:
    """Make the tables in an empty file, bring those of an older version up to date, refuse others.

    Within the caller's transaction, so that a file is never between two versions.
    """
    tables = {
        name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
    }
    if not tables:
        execute(connection, _SCHEMA + _ACTIONS)
        execute(connection, TABLES)
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
            raise UnusableStorageError(path, "is a database of something else", ELSEWHERE)
        found[key] = _migrated(connection, key, found[key])
        if found[key] != ours:
            problem = f"has {key} {found[key]}, this version of otel-budget reads {ours}"
            raise UnusableStorageError(path, problem, f"upgrade otel-budget, or {ELSEWHERE}")
    execute(connection, TABLES)


def _migrated(connection: Connection, key: str, version: str) -> str:
    """Bring what a key stands for up to date, as far as that is known; return its version then."""
    begun = version
    while (key, version) in _MIGRATIONS and version != VERSIONS[key]:
        execute(connection, _MIGRATIONS[key, version])
        version = str(int(version) + 1)
    if version != begun:
        connection.execute("UPDATE meta SET value = ? WHERE key = ?", (version, key))
        logger.info("storage: migrated %s from %s to %s", key, begun, version)
    return version


def execute(connection: Connection, script: str) -> None:
    """Run statements one by one: executescript would end the transaction."""
    for statement in script.split(";\n"):
        connection.execute(statement)


def check_whole(connection: Connection, *, with_indices: bool) -> None:
    """Raise DatabaseError for a file that SQLite finds damaged."""
    check = "integrity_check" if with_indices else "quick_check"
    (answer,) = connection.execute(f"PRAGMA {check}(1)").fetchone()
    if answer != "ok":
        raise DatabaseError(answer)
