"""Which phase an operation belongs to.

A phase is entered in a context (a thread, a task) and inherited by the tasks started from it. A
worker thread that was handed no context belongs to the phase its monitor entered last and has not
left.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_budget.sdk.phase_counters import PhaseCounters
    from otel_budget.sdk.run_record import RunRecord


@dataclass(slots=True, eq=False)
class Phase:
    """One entered phase. counters: where operations without a model are counted."""

    record: RunRecord
    name: str | None
    counters: PhaseCounters
    outer: Phase | None = field(default=None, repr=False)


CURRENT: ContextVar[Phase | None] = ContextVar("otel_budget_phase", default=None)


def current(record: RunRecord, default: Phase) -> Phase:
    """Return the innermost phase of this run in this context, else the default."""
    phase = CURRENT.get()
    while phase is not None and phase.record is not record:
        phase = phase.outer
    return default if phase is None else phase
