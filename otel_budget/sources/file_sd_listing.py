"""Which targets the files of ``file_sd`` list, found out beside the reading: a disk may hang."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from otel_budget.core.observation import Problem
from otel_budget.core.verdict import Reason
from otel_budget.runtime.workers import Workers
from otel_budget.sources.file_sd import FileTargets
from otel_budget.sources.turns import Rests, Round, Turns

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

#: The one place that is called here: all files.
_ALL: Final = "files"
#: Share of the interval for which a reading waits for them once they are known.
_PATIENCE: Final = 0.1
#: Seconds after which files that cannot be read are said to hang.
_HANGS: Final = 5.0

_Listed = tuple[list[str], list[Problem]]


class FileSdListing:
    """The newest list, and what is wrong with it."""

    def __init__(self, patterns: Sequence[str], interval: float) -> None:
        """Read nothing yet. interval: seconds between two readings."""
        self._patterns, self._interval = patterns, interval
        self._files = FileTargets(patterns)
        self._threads = Workers("file-sd")
        self._turns: Turns[_Listed] = Turns(self._look, self._take, rests=Rests(most=interval))
        self._round = Round(())
        self.urls: list[str] = []
        self.bound: list[tuple[str, tuple[str, ...]]] = []
        """URLs, and the patterns of session ids that their targets are bound to."""
        self._problems: list[Problem] = []
        self._is_known = not patterns
        """True once the files were read."""

    @property
    def is_whole(self) -> bool:
        """False if there may be targets that are not listed."""
        return self._is_known and self._files.are_listed

    @property
    def are_there(self) -> bool:
        """True if any file matched."""
        return self._files.are_there

    async def read(self, until: float) -> list[Problem]:
        """Read the files, and return what is wrong.

        If that takes long, the targets stay as they were. until: as of ``Round``.
        """
        if not self._patterns:
            return []
        self._turns.begin(_ALL)
        self._round = Round((_ALL,))
        now = asyncio.get_running_loop().time()
        if self._is_known:
            until = min(until, now + _PATIENCE * self._interval)
        await self._round.settle(self._interval, until)
        age = self._turns.age(_ALL)
        if self._is_known and age < _HANGS:
            return list(self._problems)
        which = ", ".join(self._patterns)
        why = f"could not be read within {age:.3g} s; the targets known so far are kept"
        return [*self._problems, Problem(which, Reason.SOURCE_ERROR, f"{which}: {why}")]

    async def anew(self, seconds: float) -> None:
        """Read the files from now on, within so many seconds."""
        if self._patterns:
            await asyncio.wait([self._turns.next(_ALL)], timeout=seconds)

    async def close(self) -> None:
        """Let go of the thread."""
        await self._turns.close()
        self._threads.shutdown()

    async def _look(self, _key: str) -> _Listed:
        try:
            return await self._threads.run(self._files.read)
        except Exception as exc:
            logger.exception("the files of file_sd could not be read")
            which = ", ".join(self._patterns)
            why = f"{which}: {type(exc).__name__}: {exc}"
            return self.urls, [Problem(which, Reason.SOURCE_ERROR, why)]

    def _take(self, _key: str, listed: _Listed) -> None:
        self.urls, self._problems = listed
        self.bound = self._files.sessions
        self._is_known = True
        self._round.answered(_ALL)
