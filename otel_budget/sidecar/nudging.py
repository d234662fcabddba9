"""What was read for nudges, judged: all that waits at once in one step (batches.py)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING

from otel_budget.core.observation import is_pushed
from otel_budget.sidecar.batches import Batches

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

    def __init__(self, judge: Callable[[Observation], Awaitable[object]]) -> None:
        """Begin with none."""
        self._judge = judge
        self._batch: list[Observation] = []
        """Those that wait."""
        self._batches = Batches(self._judge_all)

    async def judge(self, observation: Observation) -> None:
        """Have a reading judged; return once it is."""
        self._batch.append(observation)
        await self._batches.next()

    async def _judge_all(self) -> None:
        batch, self._batch = self._batch, []
        await self._judge(merged(batch))


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
