"""Which process of a run a reading is about, and what other processes there are beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget.core.observation import plain_target
from otel_budget.ledger.concurrent_runs import has_ended
from otel_budget.ledger.findings import FindingKind
from otel_budget.ledger.process import Process, cannot_be, totals_of

if TYPE_CHECKING:
    from otel_budget.core.observation import RunObservation
    from otel_budget.ledger.run import RunTotals

#: Incarnations of one run that are kept apart.
PROCESSES_KEPT = 100


def process_of(run: RunTotals, reading: RunObservation, *, confirmed: bool) -> Process | None:
    """Return the incarnation a reading is about, a new one if need be.

    A reading need not name it: the source may have lost that series. Then it is about the one
    that was seen at its target last. None if it cannot be told which one it is.
    """
    started_at = reading.attributes.incarnation_at
    if len(run.processes) == 1 and started_at is not None and not run.also:
        (only,) = run.processes.values()
        if only.started_at == started_at:
            return only  # as it is with most runs at every sample
    return _found(run, reading, confirmed=confirmed)


def _found(run: RunTotals, reading: RunObservation, *, confirmed: bool) -> Process | None:
    started_at, target = reading.attributes.incarnation_at, reading.target
    nameless, key = f"t:{reading.process or target}", f"i:{started_at!r}"
    if key not in run.processes and cannot_be(started_at, reading):
        started_at = None
    if started_at is None:
        key = nameless
        seen_here = [i for i in run.processes.values() if target in i.target_series]
        # By that series a source also tells labels of the target from the agent's own.
        seen_here = seen_here or [
            i
            for i in run.processes.values()
            if i.started_at is not None and any(_is_at(t, target) for t in i.target_series)
        ]
        if seen_here:
            return max(seen_here, key=lambda i: i.place)
        if not confirmed and any(i.started_at is not None for i in run.processes.values()):
            return None
    start = reading.attributes.started_at
    if start != run.started_at and start in run.also:
        key = key_of(start, key)
    if key not in run.processes:
        known = None
        if run.processes.keys() == {nameless}:
            # Seen before it said when it started. Not done beside others: to put it in order
            # among them afterwards could lower the total.
            known = run.processes.pop(nameless)
            known.started_at = started_at
            run.revision += 1
        run.processes[key] = known or Process(started_at, run.attributes)
        if start in run.also:
            run.processes[key].run_started_at = start
    return run.processes[key]


def hand_on(run: RunTotals) -> None:
    """Let the incarnation that was not seen for longest go, once there are many of them.

    A run that crashes again and again would make them grow without bound. The next one begins
    from what was known up to then, so no total changes, and none would by a late sample.
    """
    if len(run.processes) <= PROCESSES_KEPT:
        return
    newest = run.newest()
    earlier = {k: i for k, i in run.processes.items() if i not in newest}
    if not earlier:
        return
    key = min(
        earlier,
        key=lambda k: max((v.seen_at for v in earlier[k].target_series.values()), default=0.0),
    )
    gone = run.processes[key]
    same = [i for i in run.processes.values() if i.run_started_at == gone.run_started_at]
    until = totals_of(i for i in same if i.place <= gone.place)
    heir = min((i for i in same if i.place > gone.place), key=lambda i: i.place)
    heir.carried_over |= {
        resource: max(total, heir.begins_from(resource)) for resource, total in until.items()
    }
    for name, calls in gone.unsure.items():
        heir.unsure[name] = heir.unsure.get(name, 0) + calls
    del run.processes[key]
    run.forget_sums()


def is_outlived(run: RunTotals, process: Process, reading: RunObservation) -> bool:
    """Tell, once, that an incarnation goes on although newer ones were seen twice already.

    One that has ended does not, as long as its page may still be there.
    """
    if process.outlived or process.started_at is None or has_ended(process):
        return False
    start, place, now = process.run_started_at, process.place, reading.sampled_at
    newer = [i for i in run.processes.values() if i.run_started_at == start and i.place > place]
    since = (series.seen_before for i in newer for series in i.target_series.values())
    process.outlived = any(at is not None and now >= at for at in since) or (
        sum(now > i.first_at for i in newer) > 1
    )
    return process.outlived


def second_target(run: RunTotals, process: Process, reading: RunObservation) -> FindingKind | None:
    """Return what a target is that was not seen before, beside one that shows the run, too."""
    since, place = reading.sampled_at - run.silence, plain_target(reading.target)
    ways = [
        series
        for target, series in process.target_series.items()
        if plain_target(target) != place and series.seen_at >= since
    ]
    if ways:
        return FindingKind.SECOND_TARGET
    if process.started_at is not None:
        return None
    named = (i for i in run.processes.values() if i.started_at is not None)
    return FindingKind.NAMELESS if any(i.last_at >= since for i in named) else None


def key_of(start: float | None, key: str) -> str:
    """Return the key of an incarnation of another run than its account was opened for."""
    return f"{start!r}:{key}"


def _is_at(target: str, place: str) -> bool:
    """Tell whether a target is a place with labels that were added on the way."""
    return target.startswith(place + "{")
