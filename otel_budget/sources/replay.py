"""Observations written down beforehand: for tests and for documentation."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_budget.core.observation import Observation


class ReplaySource:
    """Return one observation after the other; after the last, no run is seen any more."""

    def __init__(self, observations: Iterable[Observation]) -> None:
        """observations: in the order in which they are read; at least one."""
        self._left = deque(observations)
        if not self._left:
            raise ValueError("ReplaySource needs at least one observation")

    async def read(self) -> Observation:
        """Return the next observation; past the last one, that one without its runs."""
        if len(self._left) > 1:
            return self._left.popleft()
        last = self._left[0]
        self._left[0] = replace(last, sessions=(), problems=(), dropped={}, answered=True)
        return last

    async def read_late(self) -> Observation | None:
        """Return None: nothing is ever pending."""
        return None

    async def read_run(self, session_id: str) -> Observation | None:  # noqa: ARG002 - as Source has it
        """Return None: what was written down was all read at once."""
        return None

    reads_runs = False

    async def close(self) -> None:
        """Do nothing: nothing is open."""
