"""What runs that ended handed over, judged and stored: all that waits at once in one step.

The runs of a process that ends are told in a few requests, and many processes may end at once. As
with nudges there is one step at a time for them, and after it as long a rest as it took.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING

from otel_budget.core.observation import HANDOVER, Observation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from otel_budget.core.observation import RunObservation
    from otel_budget.sources.base import Clock

#: Runs that may begin by what is handed over from one address, as at any target.
SESSION_LIMIT = 10_000


class HandoverOutcome(Enum):
    """What became of the last word of a run."""

    TAKEN = "taken"
    """It is judged, published, and on disk."""
    REFUSED = "refused"
    """The run is carried by another process, or bound to other targets, or there are too many."""
    NOT_STORED = "not_stored"
    """It could not be stored: try again."""


class Handovers:
    """Has last words judged."""

    def __init__(
        self,
        judge: Callable[[Observation], Awaitable[None]],
        outcomes: Callable[[Sequence[RunObservation]], Awaitable[list[HandoverOutcome]]],
        clock: Clock,
    ) -> None:
        """Begin with none. outcomes: tells what became of runs that were judged."""
        self._judge, self._outcomes, self._clock = judge, outcomes, clock
        self._batch: list[RunObservation] = []
        """Those that wait."""
        self._dropped: Counter[str] = Counter()
        """Reason to samples of theirs that were refused."""
        self._turn = asyncio.Lock()
        self._free_at = 0.0
        """When the next step may begin, by the event loop's time."""

    async def take(
        self, runs: Sequence[RunObservation], dropped: Mapping[str, int], spacing: float
    ) -> list[HandoverOutcome]:
        """Have runs judged and stored; return what became of each.

        dropped: reason to samples of theirs that were refused. spacing: as in Observation.
        """
        batch = self._batch
        batch += runs
        self._dropped.update(dropped)
        async with self._turn:
            if batch is self._batch:  # else one that came before took them along
                loop = asyncio.get_running_loop()
                await asyncio.sleep(max(0.0, self._free_at - loop.time()))
                refused, self._batch, self._dropped = self._dropped, [], Counter()
                began = loop.time()
                await self._judge(_observation(batch, refused, spacing, self._clock()))
                self._free_at = 2 * loop.time() - began
        return await self._outcomes(runs)


def _observation(
    runs: Sequence[RunObservation], dropped: Mapping[str, int], spacing: float, now: float
) -> Observation:
    """Return what was handed over as a reading of nothing else."""
    return Observation(
        source=HANDOVER,
        read_at=now,
        sessions=tuple(runs),
        dropped=dict(dropped),
        spacing=spacing,
        session_limit=SESSION_LIMIT,
        asked=frozenset(run.target for run in runs),
    )
