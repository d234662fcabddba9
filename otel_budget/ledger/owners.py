"""Which targets are listened to about a run: those it is bound to, if it is.

- What a target says of a run that is bound to others is refused, all of it.
- Where the configuration says so, a run that is not bound belongs to the targets that carry it. As
  long as one of them goes on showing it, others are refused; then the next one carries it.
- A run that is pushed belongs to who pushed it first, until it is over. What its program pushes may
  come in long after the one before, so silence does not set it free.
- What a target said before it was refused stays counted. Nothing else of it holds any more.
- What a run that ended hands over itself is the word of the process that carries it, which its
  start tells from others: one that is known to carry the run ends it wherever it is read, one that
  is not known ends nothing that goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget.core.observation import is_pushed, plain_target
from otel_budget.ledger.competing_runs import PASSED_GAPS, PASSED_GAPS_DOWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_budget.core.observation import RunObservation
    from otel_budget.ledger.run import RunTotals


def carries(run: RunTotals, target: str) -> bool:
    """Tell whether a run was seen at a target."""
    processes = run.processes.values()
    if any(target in process.target_series for process in processes):
        return True
    place = plain_target(target)
    return any(plain_target(each) == place for i in processes for each in i.target_series)


def pushes_another(run: RunTotals, target: str) -> bool:
    """Tell whether a target was pushed, and what is known of a run was pushed by somebody else."""
    if not (run.pushed and is_pushed(target)):
        return False
    return not carries(run, target)


def is_carried_by(
    run: RunTotals, incarnation_at: float | None, is_owner: Callable[[str], bool]
) -> bool:
    """Tell whether a process with this start was seen to carry a run, where it may be seen."""
    return any(
        process.started_at == incarnation_at and any(map(is_owner, process.target_series))
        for process in run.processes.values()
        if process.started_at is not None
    )


def is_shown_at(run: RunTotals, reading: RunObservation) -> bool:
    """Tell whether what a reading is of was taken in: its process is known at its target."""
    start, target = reading.attributes.incarnation_at, reading.target
    return any(i.started_at == start and target in i.target_series for i in run.processes.values())


def is_free(run: RunTotals, silent_for: float, *, down: bool) -> bool:
    """Tell whether another target may take up a run: those that carry it show it no more.

    silent_for: watched seconds without a sample. down: True if its targets
    give nothing.
    """
    if run.ended_at is not None or run.vanished_at is not None:
        return True
    if run.pushed and run.attributes.idle_after is not None:
        return False
    gaps = PASSED_GAPS_DOWN if down else PASSED_GAPS
    return silent_for > gaps * max(1.0, run.gap())


def has_stranger(run: RunTotals, is_owner: Callable[[str], bool]) -> bool:
    """Tell whether a run was seen at a target that is not one of its owners."""
    return any(not is_owner(t) for i in run.processes.values() for t in i.target_series)


def has_owner(run: RunTotals, is_owner: Callable[[str], bool]) -> bool:
    """Tell whether a run was seen at one of its owners."""
    return any(is_owner(t) for i in run.processes.values() for t in i.target_series)


def leave_out(run: RunTotals, is_owner: Callable[[str], bool]) -> None:
    """Let go of what strangers say of a run of which an owner was seen; their use stays counted."""
    before = dict(run.totals())
    for process in run.processes.values():
        for target in [t for t in process.target_series if not is_owner(t)]:
            del process.target_series[target]
        process.hear_only(is_owner)
    kept = {key: i for key, i in run.processes.items() if i.target_series}
    run.processes = kept
    runs = {process.run_started_at for process in kept.values()}
    run.also = tuple(start for start in run.also if start in runs)
    run.forget_sums()
    after = run.totals()
    for resource, total in before.items():
        gone = total - after.get(resource, type(total)(0))  # type: ignore[operator]
        run.earlier[resource] = run.earlier.get(resource, type(total)(0)) + gone  # type: ignore[operator]
    run.changed(run.confirmed_at)
