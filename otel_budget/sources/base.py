"""The seam between measuring and judging: one method, and the clock both sides agree on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from otel_budget.core.observation import Observation

#: Returns seconds since the Unix epoch that never jump while the process lives.
Clock = Callable[[], float]


class Source(Protocol):
    """Something that can be asked what it sees right now."""

    async def read(self) -> Observation:
        """Return what there is to see.

        Never raises for what the other side did: a target that fails, answers nonsense or never
        answers is a Problem in the reading, and its sessions are absent from it, not at 0.
        """

    async def read_late(self) -> Observation | None:
        """Return what those give whose answer was pending in the last reading, once there is some.

        None if that takes too long. To be called again as long as any of them is pending; may be
        cancelled, and then nothing is lost.
        """

    async def read_run(self, session_id: str) -> Observation | None:
        """Return what the targets that show one run give now, and nothing of the others.

        None if no target is known to show it, or if this source cannot: then ``reads_runs`` is
        False.
        """

    @property
    def reads_runs(self) -> bool:
        """True if a run can be read without all the others."""

    async def close(self) -> None:
        """Let go of connections."""
