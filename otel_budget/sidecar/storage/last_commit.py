"""The number of the last commit, beside the storage for as long as it is open.

A log that was removed or cut off after a kill leaves a storage that is whole, and older. This tells
so: it is written after each commit, not synced, and survives the process, not the machine.
"""

from __future__ import annotations

import contextlib
import os

_END = "-commit"


class LastCommit:
    """Its file."""

    def __init__(self, path: str) -> None:
        """Take the storage's path; nothing is opened."""
        self._path = os.path.realpath(path) + _END
        self._handle: int | None = None

    def read(self) -> tuple[int, int]:
        """Return the commit and the sequence that were noted; zeros if there are none."""
        try:
            with open(self._path, "rb") as file:  # noqa: PTH123 - as it is written
                commit, sequence = map(int, file.read(64).split())
        except (OSError, ValueError):
            return 0, 0
        return commit, sequence

    def note(self, commit: int, sequence: int) -> None:
        """Write them. What cannot be written is not known later; that fails no commit."""
        with contextlib.suppress(OSError):
            if self._handle is None:
                self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            os.pwrite(self._handle, b"%020d %020d\n" % (commit, sequence), 0)

    def close(self, *, whole: bool) -> None:
        """Close it; without a file if the storage is whole without its log."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        if whole:
            with contextlib.suppress(OSError):
                os.unlink(self._path)  # noqa: PTH108 - as it is opened
