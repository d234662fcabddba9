"""What is seen of a process after it said that its run is over.

A word is no proof: one that goes on to use something, or whose duration goes on, is not over. It is
taken at its word again once it stood still for a while. What it shows together with that word was
used before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_budget.core.quantities import Number

#: Seconds for which a process that went on has to stand still to be over, at least; longer if it
#: pauses longer: so many times its longest pause, up to the most.
_STILL, _PAUSES, _STILL_MOST = 30.0, 3, 1800.0
#: Seconds by which a duration may differ from one sample to the next.
_JITTER = 1.0
#: From so many signs that it goes on that is told: a last call may be counted after the end.
TOLD_FROM = 2


class Ending:
    """What a process showed when it said that its run is over, and what moved since."""

    __slots__ = ("duration", "moved_at", "moves", "pause", "seen_at", "shown_at", "used")

    def __init__(self, at: float, used: Sequence[Number], duration: float | None) -> None:
        """Take what it showed in a sample taken at ``at``, per resource that is counted."""
        self.shown_at = self.seen_at = at
        self.used, self.duration = used, duration
        self.moved_at: float | None = None
        """When it was last seen to have gone on."""
        self.moves = 0
        self.pause = 0.0
        """The longest it stood still before it went on."""

    def observe(
        self, at: float, used: Sequence[Number], duration: float | None, *, whole: bool
    ) -> bool:
        """Take in a later sample; return True, once, if it is worth telling that it goes on.

        whole: False if something of it is missing: then it does not show that it stands still.
        """
        longer = None not in (duration, self.duration) and duration > self.duration + _JITTER  # type: ignore[operator] # neither is None
        before = self.shown_at if self.moved_at is None else self.moved_at
        if at <= before:
            return False
        if whole:
            self.seen_at = at
        if used == self.used and not longer:
            return False
        self.pause = max(self.pause, at - before)
        self.used, self.duration, self.moved_at, self.seen_at = used, duration, at, at
        self.moves += 1
        return self.moves == TOLD_FROM

    def row(self) -> tuple[float | None, ...]:
        """Return it for the store: all but what it used, which its incarnation knows."""
        return (
            self.shown_at, self.seen_at, self.moved_at, self.moves, self.pause, self.duration,
        )  # fmt: skip

    @classmethod
    def of_row(cls, row: Sequence[Any], used: Sequence[Number]) -> Ending:
        """Return what ``row`` wrote."""
        shown_at, seen_at, moved_at, moves, pause, duration = row
        ending = cls(shown_at, used, duration)
        ending.seen_at, ending.moved_at = seen_at, moved_at
        ending.moves, ending.pause = moves, pause
        return ending

    @property
    def is_refuted(self) -> bool:
        """True if its process goes on, as of its newest sample."""
        if self.moved_at is None:
            return False
        still = _STILL if self.moves < TOLD_FROM else max(_STILL, _PAUSES * self.pause)
        return self.seen_at - self.moved_at <= min(still, _STILL_MOST)
