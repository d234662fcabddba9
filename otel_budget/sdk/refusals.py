"""Which of an operator's stops refuse a run that asks for more."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_budget.core.verdict import Verdict


class Refusals:
    """Which of an operator's stops were given while a run waits: those are refusals.

    A run that waits in turns, for a minute each, waits all the time: until it may go on.
    """

    def __init__(self) -> None:
        """Begin with a run that does not wait."""
        self._before: Verdict | None = None
        self._waits = False

    def look(self, stop: Verdict | None) -> Verdict | None:
        """Return a stop that was given since the wait began. stop: an operator's, in force now."""
        if not self._waits:
            self._before, self._waits = stop, True
            return None
        if stop is None or (self._before is not None and _same_order(stop, self._before)):
            return None
        return stop

    def allowed(self) -> None:
        """Take note that the run may go on: the next wait is another one."""
        self._waits = False


def _same_order(one: Verdict, other: Verdict) -> bool:
    """Tell whether two verdicts are of the same order: given at one time, in the same words."""
    return (one.ordered_at, one.message) == (other.ordered_at, other.message)
