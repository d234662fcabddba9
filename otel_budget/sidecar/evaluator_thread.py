"""The evaluator's thread: one tick at a time, so that the event loop stays awake meanwhile.

At the end of the process a tick gets so much time and no more. What it would have added was not
published yet, and what was published is stored: leaving it is no worse than a crash.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from otel_budget.runtime.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from otel_budget.sidecar.tick_result import TickResult
    from otel_budget.sources.base import Clock


T = TypeVar("T")


class GaveUpError(Exception):
    """A tick was not over when the process had to end."""


class EvaluatorThread:
    """Runs what uses the evaluator; callers hold ``lock`` from before they look at the time."""

    def __init__(self, clock: Clock) -> None:
        self.lock = asyncio.Lock()
        self.gave_up = False
        """True once the end could not wait for a tick: it is under way, and uses the storage."""
        self.threads = Workers("evaluator")
        self._clock = clock
        self._began_at: float | None = None
        self._limit: asyncio.Timeout | None = None
        """Of the tick that is under way."""
        self._end_by: float | None = None
        """When the last tick has to be over, by the event loop's time; None until told to end."""

    @property
    def busy_for(self) -> float:
        """Return the seconds that the present tick has taken so far; 0 between two."""
        began_at = self._began_at
        return 0.0 if began_at is None else self._clock() - began_at

    def end_within(self, seconds: float) -> None:
        """Give the present tick, and all that follow, so many seconds; a second call changes
        nothing.
        """
        if self._end_by is None:
            self._end_by = asyncio.get_running_loop().time() + seconds
            if self._limit is not None:
                self._limit.reschedule(self._end_by)

    async def run_tick(self, tick: Callable[..., TickResult], *arguments: Any) -> TickResult:
        """Run a tick. Raises GaveUpError when the process has to end meanwhile."""
        return await self.run_step(tick, *arguments)

    async def run_step(self, tick: Callable[..., T], *arguments: Any) -> T:
        """Run what uses the storage. Raises GaveUpError when the process has to end meanwhile."""
        self._began_at = self._clock()
        limit = self._limit = asyncio.timeout_at(self._end_by)
        try:
            if not self.gave_up:
                async with limit:
                    return await self.threads.run(tick, *arguments)
        except TimeoutError:
            if not limit.expired():
                raise  # it is the tick's own
            self.gave_up = True
        finally:
            self._limit = self._began_at = None
        raise GaveUpError
