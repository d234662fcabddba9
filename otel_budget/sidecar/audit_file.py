"""The audit log, also as JSON lines in a file or on standard output.

- A line is written once it is in the storage, and read from there: what could not be written while
  the disk was full, or before this process was killed, follows when it can be.
- A file that cannot be written is said in log and metric, is tried again and again, and holds
  nothing up: it has a thread of its own.
- A file that has entries already goes on behind them; a new one, and standard output, begin with
  those of this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Final

from otel_budget.core.audit import AuditQuery
from otel_budget.logs.text import one_line
from otel_budget.runtime.workers import Workers
from otel_budget.sidecar.storage.base import StorageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from otel_budget.core.audit import AuditPage

logger = logging.getLogger(__name__)

#: Seconds between two looks for new entries, between two tries after one that failed, and for the
#: last lines at the end of the process.
_EVERY, _RETRY, _LAST = 0.25, 2.0, 1.0
#: Entries that are read and written at once.
_PIECE: Final = 500
#: Bytes of the end of a file that are looked through for its last entry.
_TAIL: Final = 8 << 20
_LINE: Final = b'{"number":'


class AuditFile:
    """Writes the log of one storage to one file."""

    def __init__(
        self,
        path: Path | None,
        number: Callable[[], int],
        read: Callable[[AuditQuery], Awaitable[AuditPage]],
        note: Callable[[bool], None],
    ) -> None:
        """Write nothing yet.

        path: None for standard output. number: returns that of the newest entry on disk. read:
        reads the log. note: takes whether the file can be written.
        """
        self._path, self._number, self._read, self._note = path, number, read, note
        self._threads = Workers("audit-file")
        self._begin = number()
        self._written: int | None = None
        """Number of the last entry in the file; None until it was looked at."""
        self._problem = ""
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Write what is new, until told to end; what there is by then is tried once more."""
        ending = False
        while not ending:
            done = await self.catch_up()
            ending = await self._is_over(_EVERY if done else _RETRY)
        await self.catch_up()

    def begin(self) -> None:
        """Have ``run`` done beside everything else."""
        self._task = asyncio.create_task(self.run())

    async def finish(self) -> None:
        """End that, within a second: nothing is lost, the storage has all of it."""
        self._ending.set()
        if self._task is None:
            return
        _, unfinished = await asyncio.wait({self._task}, timeout=_LAST)
        if unfinished:
            logger.warning("audit.file: the last entries are not in it; they follow at a restart")

    async def _is_over(self, seconds: float) -> bool:
        """Wait for so long, or until told to end; return whether that is so."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)
        return self._ending.is_set()

    async def catch_up(self) -> bool:
        """Write what is not in the file yet; return whether all of it is now."""
        try:
            if self._written is None:
                self._written = await self._threads.run(self._last_in_file)
            while self._written < self._number():
                page = await self._read(AuditQuery(after=self._written, limit=_PIECE))
                if page.lines:
                    await self._threads.run(self._append, "\n".join(page.lines) + "\n")
                    self._written = int(json.loads(page.lines[-1])["number"])
                if page.next_after is None:
                    break
                self._written = page.next_after
        except (OSError, StorageError) as exc:
            self._say(one_line(str(exc)))
            return False
        self._say("")
        return True

    def _say(self, problem: str) -> None:
        """Log what is wrong, once until it is over."""
        self._note(not problem)
        if problem and not self._problem:
            logger.error(
                "audit.file: entries cannot be written to %s (%s). They stay in the storage, and "
                "follow once they can be; no verdict waits for them", self._name, problem,
            )  # fmt: skip
        elif self._problem and not problem:
            logger.info("audit.file: %s can be written again, and has all entries", self._name)
        self._problem = problem

    @property
    def _name(self) -> str:
        return "standard output" if self._path is None else one_line(str(self._path))

    def _append(self, text: str) -> None:
        """Write lines; what is written in part is taken back. Raises OSError."""
        if self._path is None:
            sys.stdout.write(text)
            sys.stdout.flush()
            return
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            before = os.fstat(handle).st_size
            data = memoryview(text.encode())
            try:
                while data:
                    data = data[os.write(handle, data) :]
            except OSError:
                with contextlib.suppress(OSError):  # it is no file that can be cut
                    os.ftruncate(handle, before)
                raise
        finally:
            os.close(handle)

    def _last_in_file(self) -> int:
        """Return the number of the last entry in the file, and end a line that was cut off."""
        if self._path is None or not self._path.is_file():  # a device may have no end
            return self._begin
        with self._path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            tail = file.read()
            whole, _, cut = tail.rpartition(b"\n")
            if cut.startswith(_LINE):  # it is written again, whole
                file.truncate(size - len(cut))
            elif cut:
                file.seek(0, os.SEEK_END)
                file.write(b"\n")
        for line in reversed(whole.splitlines()):
            try:
                return int(json.loads(line)["number"])
            except (ValueError, KeyError, TypeError):
                continue
        return self._begin
