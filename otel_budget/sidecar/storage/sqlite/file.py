"""Open the storage's file for one sidecar, and for everybody else to read and back up meanwhile.

A second sidecar would give out the same sequences. SQLite's exclusive mode keeps it out, and all
readers with it; so the lock is one of our own, on one byte of the file, far behind what SQLite
locks and writes. It belongs to the open file: by whatever name, and however the process ends. Where
the platform has no such lock, or no memory that processes share, it is SQLite's exclusive mode.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import sqlite3
import struct
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from otel_budget.sidecar.storage.base import UnusableStorageError
from otel_budget.sidecar.storage.sqlite.schema import ELSEWHERE, check_version, check_whole

logger = logging.getLogger(__name__)

#: Where the locked byte is. SQLite locks a few from 2**30 on; no database becomes this large.
_PLACE: Final = 1 << 60
#: Seconds between two tries while a predecessor is still closing the file.
_BETWEEN: Final = 0.05
#: Bytes that the write-ahead log keeps at most once what is in it is in the file.
_LOG_SIZE: Final = 64 << 20
#: Pages that a file may have and not use; and pages that are given back at once.
_FREE_MOST: Final = 1000
#: Bytes up to which a file is looked through at the start, and up to which its indices are held
#: against its rows: a second of processor time each.
_CHECKED_MOST, _COMPARED_MOST = 512 << 20, 128 << 20
#: Bytes up to which a file of an earlier version is made one that can shrink, at once.
_REBUILT_MOST: Final = 64 << 20
#: Bytes before the frames of a log, and before the page in each.
_LOG_HEAD, _FRAME_HEAD = 32, 24
_HELD: Final = (errno.EACCES, errno.EAGAIN)


#: Device and number of a file, by whatever name.
FileId = tuple[int, int]


@dataclass(slots=True)
class OpenFile:
    """An open storage that no other sidecar has."""

    path: str
    connection: sqlite3.Connection
    file: BinaryIO
    """Holds the lock."""
    parts: Mapping[Path, FileId]
    """Path of the file, and of those beside it, to what is there; empty where a file system has no
    lasting numbers for its files."""
    lost_log: bytes = b""
    """The log as it was found, if it ends in commits that SQLite could not read."""
    damage: str = ""
    """What SQLite found wrong with it while it was used."""
    is_open: bool = True

    def problem(self) -> str:
        """Return why it cannot be used any more; empty if it can."""
        if self.damage or not self.is_open:
            return self.damage or "it is closed"
        for path, known in self.parts.items():
            try:
                if file_id(path.stat()) != known:
                    return f"{path} is another file now"
            except OSError as exc:
                return f"{path} is gone: {exc.strerror}"
        return ""

    def size(self) -> int:
        """Return the bytes of the file and of its log."""
        found = 0
        for part in (Path(self.path), side_files(self.path)[0]):
            with contextlib.suppress(OSError):
                found += part.stat().st_size
        return found

    def has_log(self) -> bool:
        """Tell whether there is a log beside it."""
        return side_files(self.path)[0].exists()

    def shrink(self) -> None:
        """Give a piece of what the file does not use any more back to the file system."""
        (free,) = self.connection.execute("PRAGMA freelist_count").fetchone()
        if free > _FREE_MOST:
            with contextlib.suppress(sqlite3.Error):  # there is a next time
                self.connection.executescript(f"PRAGMA incremental_vacuum({_FREE_MOST})")

    @contextlib.contextmanager
    def unsynced(self, wanted: bool) -> Iterator[None]:  # noqa: FBT001 - all that is asked
        """Let commits be safe from the end of the process, and not from that of the machine."""
        if not wanted:
            yield
            return
        self.connection.execute("PRAGMA synchronous = NORMAL")
        try:
            yield
        finally:
            self.connection.execute("PRAGMA synchronous = FULL")

    def close(self) -> None:
        """Close it. The lock goes last: closing a file ends all locks on it, SQLite's too."""
        self.is_open = False
        self.connection.close()
        self.file.close()


def open_file(path: str, patience: float) -> OpenFile:
    """Open a file, or make one that its owner alone may read.

    patience: seconds to wait for a sidecar that is still closing it. Raises UnusableStorageError
    for a file that another one has, or of a newer version; OSError; sqlite3.Error, also for a
    damaged one.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    file = os.fdopen(handle, "rb", buffering=0)
    try:
        if _locked(path, handle, patience):
            _without_stray_log(path, handle)
            try:
                return _storage(path, _connected(path, patience, "NORMAL"), file)
            except sqlite3.OperationalError as exc:
                if "locked" in str(exc):
                    raise
                problem = str(exc)
        else:
            problem = "no file locks"
        found = _storage(path, _connected(path, patience, "EXCLUSIVE"), file)
    except BaseException:
        file.close()
        raise
    logger.info(
        "storage %s: nothing else can read it while this runs: its file system lacks what that "
        "needs (%s)", path, problem,
    )  # fmt: skip
    return found


def check_free(path: Path) -> None:
    """Raise UnusableStorageError if another sidecar uses a file."""
    with path.open("r+b", buffering=0) as file:
        _locked(str(path), file.fileno(), 0.0)


def file_id(stat: os.stat_result) -> FileId:
    """Return what tells a file from every other one."""
    return stat.st_dev, stat.st_ino


def _storage(path: str, opened: tuple[sqlite3.Connection, bytes], file: BinaryIO) -> OpenFile:
    connection, lost_log = opened
    parts = {}
    for part in (Path(path), *side_files(path)):
        with contextlib.suppress(OSError):
            parts[part] = file_id(part.stat())
    if parts.get(Path(path)) != file_id(os.fstat(file.fileno())):
        parts = {}
    return OpenFile(path, connection, file, parts, lost_log)


def _without_stray_log(path: str, handle: int) -> None:
    """Put a log aside that belongs to another file: to one that was moved away, or removed."""
    if os.fstat(handle).st_size:
        return
    stray = [part for part in side_files(path) if part.exists()]
    if stray:
        aside = set_aside(path, "stray", stray)
        logger.error(
            "storage %s: there was a log beside it, and no file that it belongs to; the log is now "
            "%s-wal. Was the file moved without it, or removed?", path, aside,
        )  # fmt: skip


def _locked(path: str, handle: int, patience: float) -> bool:
    """Take the lock; return False if there is none to take.

    Raises UnusableStorageError if another process holds it.
    """
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


def _connected(path: str, patience: float, mode: str) -> tuple[sqlite3.Connection, bytes]:
    """Return a connection to a file that is whole, and of this version; and its log if the end of
    that was lost.
    """
    connection = sqlite3.connect(
        path,
        timeout=patience,
        isolation_level=None,  # transactions are begun and ended where they are meant
        check_same_thread=False,  # ticks run in worker threads, one after the other
    )
    try:
        connection.execute(f"PRAGMA locking_mode = {mode}")
        if not Path(path).stat().st_size:  # before there is a log
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        _keep_a_log(connection, mode)
        lost_log = _lost_log(connection, path)
        # FULL: with NORMAL a power cut takes back the last transactions, and with them uses and
        # sequences that were published already. A tick writes once, so this costs one fsync.
        connection.execute("PRAGMA synchronous = FULL")
        # A long read lets the log grow; it is cut back afterwards.
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_SIZE}")
        connection.execute("BEGIN EXCLUSIVE")
        check_version(connection, path)
        connection.execute("COMMIT")
        size = Path(path).stat().st_size
        if size <= _CHECKED_MOST:
            check_whole(connection, with_indices=size <= _COMPARED_MOST)
        _make_it_shrink(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection, lost_log


def _lost_log(connection: sqlite3.Connection, path: str) -> bytes:
    """Return the log if there are commits in it behind the last that SQLite reads, else nothing.

    It takes the end of a log from the first frame on whose checksum is wrong. A process that was
    killed leaves frames without a commit behind, and a log is written over from its begin: what is
    left of the one before has another number, its salt. Before anything is written to it.
    """
    log = side_files(path)[0]
    if not log.exists() or log.stat().st_size <= _LOG_HEAD:
        return b""
    (_, frames, _) = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    (page,) = connection.execute("PRAGMA page_size").fetchone()
    content = log.read_bytes()
    salts = {content[16:24]} if frames else {content[16:24], content[_LOG_HEAD + 8 :][:8]}
    size = page + _FRAME_HEAD
    for at in range(_LOG_HEAD + max(0, frames) * size, len(content), size):
        head = content[at : at + _FRAME_HEAD]
        if any(head[4:8]) and any(_differ_by(head[8:16], salt) <= 1 for salt in salts):
            return content
    if (len(content) - _LOG_HEAD) % size:
        logger.warning(
            "storage %s: its log ends in the middle of a page, which cannot be read: a commit was "
            "cut off when the process was killed, or the log itself was. What was committed there "
            "is lost",
            path,
        )  # fmt: skip
    return b""


def _differ_by(one: bytes, other: bytes) -> int:
    """Return how many bits are different: damage may be in the salt itself."""
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()


def _make_it_shrink(connection: sqlite3.Connection, path: str) -> None:
    """Rewrite a small file of an earlier version, so that it can shrink."""
    (now,) = connection.execute("PRAGMA auto_vacuum").fetchone()
    if now or Path(path).stat().st_size > _REBUILT_MOST:
        return
    with contextlib.suppress(sqlite3.OperationalError):  # for want of room: it stays as it is
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("VACUUM")


def _keep_a_log(connection: sqlite3.Connection, mode: str) -> None:
    """Have a write-ahead log, without which readers and commits hold each other up."""
    (journal,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode == "NORMAL" and journal != "wal":
        raise sqlite3.OperationalError(f"its journal can only be {journal!r}")


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


def in_use(path: str) -> UnusableStorageError:
    """Return the refusal of a file that another sidecar has."""
    return UnusableStorageError(path, "another sidecar uses it", f"stop that one, or {ELSEWHERE}")


def advice(problem: Exception) -> str:
    """Say what to do about a file that cannot be opened."""
    if "locked" in str(problem):
        return f"another program has locked it: stop that one, or {ELSEWHERE}"
    return (
        "storage.path, or --storage, must name a file in a folder that exists and can be written to"
    )
