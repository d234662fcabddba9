"""Whether files changed: by what the system says of them, without a look inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: Device, inode, size and time of change: differs whenever a file was written or replaced.
FileStamp = tuple[int, int, int, int]


def file_stamp(path: Path) -> FileStamp:
    """Return what tells one content of a file from the next. Raises OSError."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


class FileWatch:
    """Tells whether any of some files changed since they were read.

    Ask ``changed`` before reading, and hand its answer to ``read_as_of`` once the files count as
    read: what is written in between is then noticed the next time.
    """

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._stamps: tuple[FileStamp, ...] | None = None

    def changed(self) -> tuple[FileStamp, ...] | None:
        """Return the present stamps of the files; None if nothing changed. Raises OSError."""
        stamps = tuple(file_stamp(path) for path in self._paths)
        return None if stamps == self._stamps else stamps

    def read_as_of(self, stamps: tuple[FileStamp, ...] | None) -> None:
        """Note with which stamps the files were read; None: to be read again in any case."""
        self._stamps = stamps
