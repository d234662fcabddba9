"""Open the storage's file for one sidecar, and for everybody else to read and back up meanwhile.

A second sidecar would give out the same sequences. SQLite's exclusive mode keeps it out, and all
readers with it; so the lock is one of our own, on one byte of the file, far behind what SQLite
locks and writes. It belongs to the open file: by whatever name, and however the process ends. Where
the platform has no such lock, or no memory that processes share, it is SQLite's exclusive mode.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import sqlite3
import struct
import time
from dataclasses import dataclass
from typing import BinaryIO, Final

from otel_budget.sidecar.storage_file import check_version, check_whole, in_use

logger = logging.getLogger(__name__)

#: Where the locked byte is. SQLite locks a few from 2**30 on; no database becomes this large.
_PLACE: Final = 1 << 60
#: Seconds between two tries while a predecessor is still closing the file.
_BETWEEN: Final = 0.05
#: Bytes that the write-ahead log keeps at most once what is in it is in the file.
_LOG_SIZE: Final = 64 << 20
_HELD: Final = (errno.EACCES, errno.EAGAIN)


@dataclass(frozen=True, slots=True)
class Storage:
    """An open storage that no other sidecar has."""

    connection: sqlite3.Connection
    file: BinaryIO
    """Holds the lock."""

    def close(self) -> None:
        """Close it. The lock goes last: closing a file ends all locks on it, SQLite's too."""
        self.connection.close()
        self.file.close()


def open_storage(path: str, patience: float) -> Storage:
    """Open a file, or make one that its owner alone may read.

    patience: seconds to wait for a sidecar that is still closing it. Raises StoreError for a file
    that another one has, or of a newer version; OSError; sqlite3.Error, also for a damaged one.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    file = os.fdopen(handle, "rb", buffering=0)
    try:
        if _locked(path, handle, patience):
            try:
                return Storage(_connected(path, patience, "NORMAL"), file)
            except sqlite3.OperationalError as exc:
                if "locked" in str(exc):
                    raise
                problem = str(exc)
        else:
            problem = "no file locks"
        found = Storage(_connected(path, patience, "EXCLUSIVE"), file)
    except BaseException:
        file.close()
        raise
    logger.info(
        "storage %s: nothing else can read it while this runs: its file system has not what that "
        "needs (%s)", path, problem,
    )  # fmt: skip
    return found


def _locked(path: str, handle: int, patience: float) -> bool:
    """Take the lock; return False if there is none to take. Raises StoreError if it is held."""
    command = getattr(fcntl, "F_OFD_SETLK", None)
    if command is None:  # Linux has it
        return False
    wanted = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, _PLACE, 1, 0)
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.fcntl(handle, command, wanted)
        except OSError as exc:
            if exc.errno not in _HELD:
                return False  # some network file systems
            if time.monotonic() >= until:
                raise in_use(path) from exc
            time.sleep(_BETWEEN)
        else:
            return True


def _connected(path: str, patience: float, mode: str) -> sqlite3.Connection:
    """Return a connection to a file that is whole, and of this version."""
    connection = sqlite3.connect(
        path,
        timeout=patience,
        isolation_level=None,  # transactions are begun and ended where they are meant
        check_same_thread=False,  # ticks run in worker threads, one after the other
    )
    try:
        connection.execute(f"PRAGMA locking_mode = {mode}")
        _keep_a_log(connection, mode)
        # FULL: with NORMAL a power cut takes back the last transactions, and with them uses and
        # sequences that were published already. A tick writes once, so this costs one fsync.
        connection.execute("PRAGMA synchronous = FULL")
        # Somebody who reads for long lets the log grow; it is cut back afterwards.
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_SIZE}")
        connection.execute("BEGIN EXCLUSIVE")
        check_version(connection, path)
        connection.execute("COMMIT")
        check_whole(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _keep_a_log(connection: sqlite3.Connection, mode: str) -> None:
    """Have a write-ahead log, without which readers and commits hold each other up."""
    (journal,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode == "NORMAL" and journal != "wal":
        raise sqlite3.OperationalError(f"its journal can only be {journal!r}")
