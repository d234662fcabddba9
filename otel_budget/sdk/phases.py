"""Which phase an operation belongs to.

A phase is entered in a context (a thread, a task) and inherited by the tasks started from it. A
worker thread that was handed no context belongs to the phase its monitor entered last and has not
left.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from decimal import Decimal

    from otel_budget.sdk.phase_counters import PhaseCounters
    from otel_budget.sdk.run_record import RunRecord


class Holds(Protocol):
    """A reservation, as what is counted inside it needs it."""

    def counted(self, record: RunRecord, tokens: int, api_calls: int, cost: Decimal | None) -> None:
        """Take note that so much is counted now. Hold the record's lock."""

    def settle(self, tokens: int, api_calls: int, cost: Decimal | None) -> None:
        """Hold so much less: it has been counted."""


@dataclass(slots=True, eq=False)
class Phase:
    """One entered phase. counters: where operations without a model are counted."""

    record: RunRecord | None
    """The run's; None in a reservation, so that what is counted there is not taken for the common
    case."""
    name: str | None
    counters: PhaseCounters
    outer: Phase | None = field(default=None, repr=False)

    @property
    def hold(self) -> Holds | None:
        """What pays for what is recorded in it; None: nothing is held for it."""
        return None

    @property
    def belongs_to(self) -> RunRecord | None:
        """The run's record."""
        return self.record


class PaidPhase(Phase):
    """A phase that was entered inside a reservation, which pays for what is recorded in it."""

    __slots__ = ("_hold", "_of")

    def __init__(
        self,
        record: RunRecord,
        name: str,
        counters: PhaseCounters,
        outer: Phase | None,
        hold: Holds,
    ) -> None:
        self.record, self.name, self.counters, self.outer = None, name, counters, outer
        self._of, self._hold = record, hold

    @property
    def hold(self) -> Holds | None:
        """The reservation."""
        return self._hold

    @property
    def belongs_to(self) -> RunRecord | None:
        """The run's record."""
        return self._of


CURRENT: ContextVar[Phase | None] = ContextVar("otel_budget_phase", default=None)


def current(record: RunRecord, default: Phase) -> Phase:
    """Return the innermost phase of this run in this context, else the default."""
    phase = CURRENT.get()
    while phase is not None and phase.belongs_to is not record:
        phase = phase.outer
    return default if phase is None else phase
