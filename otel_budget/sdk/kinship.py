"""What a run's guard and controller know of the other runs of its process that it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from otel_budget.core.quantities import Number
    from otel_budget.policy.families import Above


class Kinship(Protocol):
    """A run's place among them: ``Family`` in family.py."""

    def pass_on(self) -> None:
        """Add what the run has counted since the last time to every run above it."""

    def above(self) -> Above:
        """Return what holds for the run because of those above it, as they were looked at last."""

    def left_above(self) -> dict[str, Number]:
        """Return per counted resource the least that is left of the limits of those above it."""

    def look_above(self) -> None:
        """Look at those above it, if time alone may have changed what holds for them."""

    def change_above_at(self) -> float | None:
        """Return when the passing of time alone may change what holds above it, by the clock."""

    def wake_children(self) -> None:
        """Have those below it look again: it may be stopped, or not be any more."""
