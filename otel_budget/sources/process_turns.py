"""Which process answers at an address: they take turns there, and do not say when they began.

Where nobody listens any more, the process that did has ended, and what answers next is another one.
That is certain only on this host, where nothing between us and it speaks for it: the address of a
service, or of a proxy, refuses connections while a process behind it lives.

All ways to one process share its turn, however many of them saw the gap. What was in the gap while
nobody looked is not known: then the next process passes for the one before.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from otel_budget.net.loopback import is_loopback
from otel_budget.net.url import place_of
from otel_budget.sources.target_process import process_at

if TYPE_CHECKING:
    from collections.abc import Collection


class ProcessTurns:
    """When the process at each address was found that is there now, as far as that was seen."""

    def __init__(self) -> None:
        """Begin with none."""
        self._found: dict[str, float] = {}

    def keep(self, urls: Collection[str]) -> None:
        """Forget all other addresses."""
        processes = set(map(process_at, urls)) if self._found else set()
        self._found = {one: at for one, at in self._found.items() if one in processes}

    def found_at(self, process: str) -> float | None:
        """Return when the present process was found; None if there was none before it."""
        return self._found.get(process)

    def begin(self, process: str, at: float) -> None:
        """Take note that another process was found."""
        self._found[process] = at


class TargetTurn:
    """The turns at one target. Times in seconds on the reader's own clock."""

    def __init__(self, url: str, turns: ProcessTurns) -> None:
        """turns: of all targets of a source."""
        self._turns, self._process = turns, process_at(url)
        self.is_certain = is_loopback(place_of(url).host)
        """Whether it can be told at all that a process has ended."""
        self._has_ended = False
        """True since nobody listened, until somebody answers."""
        self._answered_at = -math.inf
        self.found_at: float | None = None
        """When the process that answered last was found; None if it is not known to be another than
        the one before."""

    def ended(self) -> None:
        """Take note that nobody listens."""
        self._has_ended = self.is_certain

    def answered(self, at: float) -> None:
        """Take note that a process answered."""
        found_at = self._turns.found_at(self._process)
        if self._has_ended and (found_at is None or found_at <= self._answered_at):
            found_at = at  # no other way to it has found it yet
            self._turns.begin(self._process, at)
        self._has_ended, self._answered_at = False, at
        if found_at is not None and found_at <= at:
            self.found_at = found_at
