"""A source that is asked, and beside it one that programs push to, as one source.

Who made the one that is pushed to also ends it: it outlives an exchange of the other.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_budget.core.observation import Observation
    from otel_budget.sources.base import Source


class SeveralSources:
    """Both together."""

    def __init__(self, asked: Source, pushed: Source) -> None:
        """asked: its readings say which targets there are, and whether the source is well."""
        self._asked, self._pushed = asked, pushed

    async def read(self) -> Observation:
        """Return what both show."""
        asked = await self._asked.read()
        return _together(asked, await self._pushed.read())

    async def read_late(self) -> Observation | None:
        """Wait for targets that had not answered; nothing that is pushed is ever pending."""
        return await self._asked.read_late()

    async def read_run(self, session_id: str) -> Observation | None:
        """Return what either shows of one run."""
        pushed = await self._pushed.read_run(session_id)
        asked = await self._asked.read_run(session_id)
        if asked is None or pushed is None:
            return asked or pushed
        both = (asked.asked or frozenset()) | (pushed.asked or frozenset())
        return replace(_together(asked, pushed), asked=both)

    @property
    def reads_runs(self) -> bool:
        """True if the one that is asked reads single runs; what is pushed is judged anyway."""
        return self._asked.reads_runs

    async def close(self) -> None:
        """Close the one that is asked."""
        await self._asked.close()


def _together(asked: Observation, pushed: Observation) -> Observation:
    dropped = Counter(asked.dropped)
    dropped.update(pushed.dropped)
    return replace(
        asked,
        sessions=(*asked.sessions, *pushed.sessions),
        dropped=dict(dropped),
        unmatched={**asked.unmatched, **pushed.unmatched},
    )
