"""What was read for nudges, judged: all that waits at once in one step.

Anybody on this host may nudge, and a step looks at every run. So however many nudges come, there is
one step at a time for them, and after it as long a rest as it took: half of the time is for others.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING

from otel_budget.core.observation import is_pushed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from otel_budget.core.observation import Observation


class NudgeOutcome(Enum):
    """What became of a nudge."""

    DONE = "done"
    """The run was read, judged and published."""
    UNKNOWN = "unknown"
    """No target is known to show it."""
    IMPOSSIBLE = "impossible"
    """The source reads all runs or none, at its own times."""


class Nudging:
    """Judges readings of a few targets."""

    def __init__(self, judge: Callable[[Observation], Awaitable[None]]) -> None:
        """Begin with none."""
        self._judge = judge
        self._batch: list[Observation] = []
        """Those that wait."""
        self._turn = asyncio.Lock()
        self._free_at = 0.0
        """When the next step may begin, by the event loop's time."""

    async def judge(self, observation: Observation) -> None:
        """Have a reading judged; return once it is."""
        batch = self._batch
        batch.append(observation)
        async with self._turn:
            if batch is not self._batch:
                return  # one that came before took it along
            loop = asyncio.get_running_loop()
            # At the least for as long as those take who waited for the same answer.
            await asyncio.sleep(max(0.0, self._free_at - loop.time()))
            self._batch = []
            began = loop.time()
            await self._judge(merged(batch))
            self._free_at = 2 * loop.time() - began


def merged(observations: Sequence[Observation]) -> Observation:
    """Return readings of a few targets as one; of each target, the newest that has it.

    Of one that is pushed to, that of each run.
    """
    if len(observations) == 1:
        return observations[0]
    newest = {
        target: observation for observation in observations for target in observation.asked or ()
    }
    pushed = {
        (session.target, session.session_id): observation
        for observation in observations
        for session in observation.sessions
        if is_pushed(session.target)
    }
    dropped: Counter[str] = Counter()
    for observation in observations:
        dropped.update(observation.dropped)
    return replace(
        observations[-1],
        sessions=tuple(
            session
            for observation in observations
            for session in observation.sessions
            if pushed.get((session.target, session.session_id), newest.get(session.target))
            is observation
        ),
        problems=tuple(p for r in observations for p in r.problems if newest.get(p.target) is r),
        dropped=dict(dropped),
        told={sid: state for each in observations for sid, state in each.told.items()},
        asked=frozenset(newest),
        left=frozenset(t for r in observations for t in r.left if newest.get(t) is r),
    )
