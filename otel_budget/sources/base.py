"""The seam between measuring and judging: what a source offers, and the clock both sides share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from otel_budget.errors import OtelBudgetError

if TYPE_CHECKING:
    from otel_budget.core.observation import Observation

#: Returns seconds since the Unix epoch that never jump while the process lives.
Clock = Callable[[], float]


class TargetError(OtelBudgetError):
    """A target gave nothing that can be used; the message says why, without credentials.

    unquoted: the same without any of the answer, which does not belong in a log: others may have
    chosen the address of a target.
    """

    def __init__(self, problem: str, unquoted: str | None = None) -> None:
        super().__init__(problem)
        self.unquoted = problem if unquoted is None else unquoted


class Source(Protocol):
    """Something that can be asked what it sees right now."""

    async def read(self) -> Observation:
        """Return what there is to see now.

        Never raises for what the other side did: a target that fails, answers nonsense or never
        answers is a Problem in the observation, and its runs are absent from it, not at 0.
        """

    async def read_late(self) -> Observation | None:
        """Wait for targets that were pending in the last observation, and return what they show.

        None if that takes too long. Call it again as long as any target is pending; when it is
        cancelled, nothing is lost.
        """

    async def read_run(self, session_id: str) -> Observation | None:
        """Return what the targets that show one run show now; other targets are left out.

        None if no target is known to show the run, or if this source cannot read a single one
        (``reads_runs`` is False).
        """

    @property
    def reads_runs(self) -> bool:
        """True if one run can be read without all the others."""

    async def close(self) -> None:
        """Close all connections."""
