"""A storage that is not where it was any more, or is damaged, while a sidecar uses it.

What is written to a file that was removed or moved is lost with the process. So it is looked after
at every commit, and made again in its place with all that is known: out of the old file, which is
still open, or, if that cannot be read, out of memory. Nothing that lies there by then is deleted.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from otel_budget.sidecar.storage.sqlite.file import (
    check_free,
    file_id,
    open_file,
    set_aside,
    side_files,
)

if TYPE_CHECKING:
    from otel_budget.sidecar.storage.sqlite.file import OpenFile

logger = logging.getLogger(__name__)

#: SQLite's codes of a file that is damaged: SQLITE_CORRUPT, SQLITE_NOTADB.
_DAMAGED = (11, 26)


def is_damage(problem: Exception) -> bool:
    """Tell whether SQLite found the file itself damaged."""
    return getattr(problem, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def renewed(old: OpenFile) -> tuple[OpenFile, bool, str]:
    """Return a storage in the place of one that cannot be used any more, and whether all is in it.

    If not, also the path of the old one, if there is anything of it to be read.

    The old one is closed then. Raises as ``open_file`` does; what can be read of the old one
    still can then.
    """
    problem, whole = old.problem(), False
    if old.damage:
        old.close()
        aside = set_aside(old.path) if _is_here(old) else _clear_place(old)
        new = open_file(old.path, 0.0)
    elif _is_here(old):
        aside = _clear_place(old)
        if old.is_open:  # what was written to a log that is gone goes into the file
            old.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            old.close()
        new = open_file(old.path, 0.0)
    else:
        aside = _clear_place(old)
        new = open_file(old.path, 0.0)
        whole = old.is_open and _is_copied(old, new)
        old.close()
    logger.error(
        "storage %s: %s, while this runs: a new one was made there with all that %s%s. %s",
        old.path, problem, "was in it" if whole else "is in memory",
        f"; what was there is now {aside}" if aside else "",
        "Check the disk" if old.damage
        else "Stop a sidecar before its storage is moved, removed or restored",
    )  # fmt: skip
    return new, whole, aside if old.damage else ""


def _is_copied(old: OpenFile, new: OpenFile) -> bool:
    """Copy all that is in a storage, and tell whether that could be done."""
    try:
        old.connection.backup(new.connection)
    except sqlite3.Error as exc:
        logger.error("storage: its contents cannot be read any more: %s", exc)  # noqa: TRY400 - the file is at fault
        return False
    return True


def _is_here(storage: OpenFile) -> bool:
    return _is_part(storage, Path(storage.path))


def _is_part(storage: OpenFile, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return file_id(path.stat()) == storage.parts.get(path)
    return False


def _clear_place(old: OpenFile) -> str:
    """Put what lies in a storage's place out of the way; return its new name, if it was another's.

    Of its own files those that are left: a log would be taken for the new file's. Raises
    UnusableStorageError if another sidecar uses what is there.
    """
    file, here = Path(old.path), _is_here(old)
    there = [part for part in (file.resolve(), *side_files(old.path)) if part.exists()]
    foreign = [
        part for part in there if not (_is_part(old, part) or (here and part == file.resolve()))
    ]
    if file.resolve() in foreign:
        check_free(file)
    if not here:
        for part in set(there) - set(foreign):
            part.unlink()  # what is in it is in the open file
    return set_aside(old.path, "replaced", foreign) if foreign else ""
