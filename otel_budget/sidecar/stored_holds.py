"""Reservations between the clock of the steps and the system's, by which they are stored."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from otel_budget.ledger.holds import Holds

if TYPE_CHECKING:
    from otel_budget.ledger.holds import Hold
    from otel_budget.sidecar.storage.base import Restored, SharedChanges


class StoredHolds:
    """The holds of one process, and what of them is to be written."""

    def __init__(self, restored: Restored, now: float) -> None:
        """Begin with what was stored. now: by the clock of the steps, set by the system's now."""
        ahead = restored.clock_set
        self.holds = Holds((_moved(one, ahead) for one in restored.holds), now)

    def changes(self, others: SharedChanges, ahead: float) -> SharedChanges:
        """Return what is to be written, beside others.

        ahead: seconds by which the system's clock is ahead of that of the steps.
        """
        changed, gone = self.holds.unstored()
        return others._replace(
            holds=tuple([_moved(one, ahead) for one in changed]) if ahead else changed,
            forgotten=gone,
        )


def _moved(hold: Hold, seconds: float) -> Hold:
    """Return a hold on a clock that is ahead; the ends of windows are of the calendar."""
    if not seconds:
        return hold
    return replace(hold, until=hold.until + seconds, recorded_at=hold.recorded_at + seconds)
