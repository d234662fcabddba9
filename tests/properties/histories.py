"""What may happen to a run, as a ledger sees it, and what it must come to.

The model is written from the contract, not from the code: a process is the list of values that were
seen of it at each target, and a run the list of its processes in the order of their start.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise

from otel_budget import semconv
from otel_budget.core.observation import Observation, Problem, RunAttributes, RunObservation
from otel_budget.core.quantities import Number
from otel_budget.core.reasons import Reason
from otel_budget.ledger.ledger import Ledger
from otel_budget.ledger.run import RunTotals
from otel_budget.sidecar.storage import codec

RUN = "run"


def money(tokens: int) -> Decimal:
    """Return what tokens cost here."""
    return Decimal(tokens) / 100


@dataclass
class Process:
    """One process that carries a run."""

    started_at: float
    carried_over: int
    target: str
    used: int = 0
    """Its counter, since it began or was reset."""
    alive: bool = True
    seen: dict[str, list[int]] = field(default_factory=dict)
    """Per target, the values that arrived in the order they were taken."""

    def counted(self) -> int:
        """Return what an observer knows it counted: a value below the last one is all new."""
        sums = [
            sum(b - a if b >= a else b for a, b in pairwise([0, *values]))
            for values in self.seen.values()
        ]
        return max(sums, default=0)


def total(processes: Iterable[Process]) -> int:
    """Return what a run used, as far as it was seen."""
    known = 0
    for process in sorted(processes, key=lambda p: p.started_at):
        if process.seen:
            known = max(known, process.carried_over) + process.counted()
    return known


def shown(
    process: Process, at: float, *, run: float, target: str | None = None, named: bool = True
) -> RunObservation:
    """Return what a target shows of a process now. named: False loses its start time."""
    counters: dict[tuple[str, str], Number] = {
        (semconv.TOKENS, ""): process.used,
        (semconv.COST, ""): money(process.used),
    }
    carried: dict[str, Number] = {
        semconv.TOKENS: process.carried_over,
        semconv.COST: money(process.carried_over),
    }
    attributes = RunAttributes(
        started_at=run,
        incarnation_at=process.started_at if named else None,
        carried_over=carried if named else {},
        limits={semconv.TOKENS: 10} if named else {},
        duration=at - run,
        state="running",
    )
    return RunObservation(RUN, target or process.target, at, counters, attributes)


def reading(at: float, sessions: Iterable[RunObservation], *, partial: bool = False) -> Observation:
    """Return one reading. partial: the source says that something is missing."""
    problems = (Problem("", Reason.PARTIAL_DATA, "warned"),) if partial else ()
    return Observation("scrape", at, tuple(sessions), problems)


def restored(account: RunTotals) -> RunTotals:
    """Return an account on its way through the storage, as real JSON text."""
    return codec.from_json(codec.to_json(account))


def restarted(ledger: Ledger, now: float) -> Ledger:
    """Return the ledger of a new sidecar."""
    fresh = Ledger()
    for account in ledger.runs.values():
        fresh.adopt(restored(account), now)
    return fresh
