"""The processes of a run: which one a sample is about, which of them count, what they come to.

Usually an id is one run, and its processes follow one another. Where several processes begin runs
of their own under one id (a job that overlaps with itself, replicas with one id in their
environment), these are counted together:

- what they used is the sum of what each used, also of those that are over by now;
- of those that are alive the stricter value counts, and of a run that is carried by several
  processes that of each that is alive.

How long they were active: each process says how long the run was active up to now, its predecessors
included, and what of that it carried over from a checkpoint. As with every total, each begins from
the larger of what is known and what it carried over. Of processes that ran at the same time a
second counts once.

What was used when the run last reported its progress: each process says it of its own counts. What
one counted since is newer than the progress, and so is all of one that never reports any.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.observation import is_handed_over, plain_target
from otel_budget.core.resources import COUNTED, ZERO, quantity_of
from otel_budget.ledger.attributes import strictest
from otel_budget.ledger.findings import FindingKind
from otel_budget.ledger.process import Process, cannot_be

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from otel_budget.core.observation import RunAttributes, RunObservation
    from otel_budget.core.quantities import Number

#: All that is added up of a process: what is folded away keeps its kinds of tokens, too.
ALL_COUNTERS: Final = tuple(ZERO)
#: Processes of one run that are kept apart.
PROCESSES_KEPT = 100
#: For so many usual gaps without a sample it is taken to be active: it may be gone.
_GOES_ON_GAPS = 3.0


def process_of(
    processes: dict[str, Process],
    reading: RunObservation,
    *,
    also: Collection[float],
    attributes: RunAttributes,
    run_started_at: float | None,
    confirmed: bool,
) -> Process | None:
    """Return the process a reading is about, a new one if need be.

    A reading need not name it: the source may have lost that series. Then it is about the one
    that was seen at its target last. None if it cannot be told which one it is.

    processes: by key; the new one is put there. also: starts of the runs that are counted together
    with that of ``run_started_at``. attributes: known of the run so far.
    """
    started_at, target = reading.attributes.incarnation_at, reading.target
    nameless, key = f"t:{reading.process or target}", f"i:{started_at!r}"
    if key not in processes and cannot_be(started_at, reading):
        started_at = None
    if started_at is None:
        key = nameless
        seen_here = [i for i in processes.values() if target in i.target_series]
        # By that series a source also tells labels of the target from the agent's own.
        seen_here = seen_here or [
            i
            for i in processes.values()
            if i.started_at is not None and any(_is_at(t, target) for t in i.target_series)
        ]
        if seen_here:
            return max(seen_here, key=lambda i: i.place)
        if not confirmed and any(i.started_at is not None for i in processes.values()):
            return None
    start = reading.attributes.started_at
    if start != run_started_at and start in also:
        key = key_of(start, key)
    if key not in processes:
        known = None
        if processes.keys() == {nameless} and not reading.follows:
            # Seen before it said when it started. Not done beside others: to put it in order
            # among them afterwards could lower the total.
            known = processes.pop(nameless)
            known.started_at = started_at
        processes[key] = known or Process(started_at, attributes)
        if start in also:
            processes[key].run_started_at = start
    return processes[key]


def let_oldest_go(processes: dict[str, Process], newest: Callable[[], list[Process]]) -> bool:
    """Let the process that was not seen for longest go, once there are many; True if one went.

    newest: returns those that stay. A run that crashes again and again would make them grow
    without bound. The next one begins
    from what was known up to then, so no total changes, and none would by a late sample.
    """
    if len(processes) <= PROCESSES_KEPT:
        return False
    kept = newest()
    earlier = {k: i for k, i in processes.items() if i not in kept}
    if not earlier:
        return False
    key = min(
        earlier,
        key=lambda k: max((v.seen_at for v in earlier[k].target_series.values()), default=0.0),
    )
    gone = processes[key]
    same = [i for i in processes.values() if i.run_started_at == gone.run_started_at]
    until = totals_of((i for i in same if i.place <= gone.place), ALL_COUNTERS)
    heir = min((i for i in same if i.place > gone.place), key=lambda i: i.place)
    heir.carried_over |= {
        resource: max(total, heir.begins_from(resource)) for resource, total in until.items()
    }
    for name, calls in gone.unsure.items():
        heir.unsure[name] = heir.unsure.get(name, 0) + calls
    del processes[key]
    return True


def is_outlived(processes: Collection[Process], process: Process, now: float) -> bool:
    """Tell, once, that a process goes on although newer ones were seen twice already.

    One that has ended does not, as long as its page may still be there.
    """
    if process.outlived or process.started_at is None or has_ended(process):
        return False
    start, place = process.run_started_at, process.place
    newer = [i for i in processes if i.run_started_at == start and i.place > place]
    since = (series.seen_before for i in newer for series in i.target_series.values())
    process.outlived = any(at is not None and now >= at for at in since) or (
        sum(now > i.first_at for i in newer) > 1
    )
    return process.outlived


def second_target(
    processes: Collection[Process], process: Process, target: str, since: float
) -> FindingKind | None:
    """Return what a target is that was not seen before, beside one that shows the run, too.

    since: when the other one must have been seen. The last word of a process is no target.
    """
    if is_handed_over(target):
        return None
    place = plain_target(target)
    ways = [
        series
        for other, series in process.target_series.items()
        if plain_target(other) != place and series.seen_at >= since and not is_handed_over(other)
    ]
    if ways:
        return FindingKind.SECOND_TARGET
    if process.started_at is not None:
        return None
    named = (i for i in processes if i.started_at is not None)
    return FindingKind.NAMELESS if any(i.last_at >= since for i in named) else None


def key_of(start: float | None, key: str) -> str:
    """Return the key of a process of another run than its totals were begun for."""
    return f"{start!r}:{key}"


def _is_at(target: str, place: str) -> bool:
    """Tell whether a target is a place with labels that were added on the way."""
    return target.startswith(place + "{")


def by_run(processes: Iterable[Process]) -> list[list[Process]]:
    """Return the processes of each run."""
    runs: dict[float | None, list[Process]] = {}
    for process in processes:
        runs.setdefault(process.run_started_at, []).append(process)
    return list(runs.values())


def newest_of(run: Collection[Process]) -> list[Process]:
    """Return the process of a run that started last; several where none says when it did."""
    newest = max((i.place for i in run), default=0.0)
    return [i for i in run if i.place == newest]


def used_together(
    processes: Iterable[Process],
    earlier: Mapping[str, Number],
    counters: Collection[str] = COUNTED,
) -> dict[str, Number]:
    """Return what all runs used. earlier: what those did that are not kept apart any more.

    counters: as in ``totals_of``.
    """
    together = {name: used for name, used in earlier.items() if name in counters}
    for run in by_run(processes):
        for resource, total in totals_of(run, counters).items():
            known = together.get(resource)
            together[resource] = total if known is None else known + total  # type: ignore[operator]
    return together


def alive(processes: Collection[Process], until: float) -> list[Process]:
    """Return those whose word counts: of each run that is alive, its newest and all that are alive.

    The newest one's does although it has ended, or is silent: what it said of its run, such as a
    limit, holds for the others that carry it. If no run is alive, the newest of each.
    until: a process that was not seen since then is not surely alive.
    """
    newest: list[Process] = []
    living: list[Process] = []
    runs = by_run(processes)
    for run in runs:
        first, older = carriers(run)
        older = [i for i in older if _is_alive(i, until)]
        newest += first
        if len(runs) == 1 or older or any(_is_alive(i, until) for i in first):
            living += first + older
    return living or newest


def said_together(processes: Iterable[Process]) -> RunAttributes:
    """Return what they say, the stricter word of each; whose the run is, the newest says."""
    heard = list(processes)
    together = reduce(strictest, (process.attributes for process in heard))
    owned = [process for process in heard if process.attributes.labels is not None]
    whose = together.labels, together.parent
    if all((i.attributes.labels, i.attributes.parent) == whose for i in owned):
        return together  # as it is with most runs
    newest = max(process.place for process in owned)
    said = reduce(strictest, (i.attributes for i in owned if i.place == newest))
    return together._replace(labels=said.labels, parent=said.parent)


def carriers(run: Collection[Process]) -> tuple[list[Process], list[Process]]:
    """Return the newest process of a run, and those older ones that went on beside it.

    Such a one was seen after a newer process had begun, not necessarily the newest: a page that
    shows a new process at every sample takes back no proof that this one lives.
    """
    first = newest_of(run)
    begun, older = min(i.first_at for i in first), []
    for i in sorted((i for i in run if i not in first), key=lambda i: -i.place):
        if i.last_at > begun:
            older.append(i)
        begun = min(begun, i.first_at)
    return first, older


def _is_alive(process: Process, until: float) -> bool:
    return process.last_at >= until and not has_ended(process)


def has_ended(process: Process) -> bool:
    """Tell whether a process says that the run is over, and does not go on all the same."""
    return process.attributes.state in semconv.ENDED_STATES and not process.goes_on


def are_over(processes: Iterable[Process], target: str, until: float) -> bool:
    """Tell whether another run takes the place of all of these.

    Each has ended, was not seen since ``until``, or was carried by the target that shows the other
    run now.
    """
    return all(
        i.last_at < until or has_ended(i) or target in i.target_series
        for run in by_run(processes)
        for part in carriers(run)
        for i in part
    )


def totals_of(
    processes: Iterable[Process], counters: Collection[str] = COUNTED
) -> dict[str, Number]:
    """Return what processes that follow one another have used together, as far as that is known.

    counters: the resources, or what else is counted, that are added up.
    """
    row = list(processes)
    if len(row) == 1:  # nearly always
        (only,) = row
        return only.totals(counters)
    totals: dict[str, Number] = {}
    for resource in counters:
        known = [i for i in row if i.knows(resource)]
        if not known:
            continue
        total = ZERO[resource]
        if len(known) > 1:
            known.sort(key=lambda i: (i.place, -i.begins_from(resource)))
        for process in known:
            start, counted = process.begins_from(resource), process.counted(resource)
            total = max(total, start) + counted  # type: ignore[operator]
        totals[resource] = total
    return totals


def active_seconds(processes: Collection[Process], gap: float, now: float | None) -> float | None:
    """Return how long a run was active as of ``now``, by its newest samples if that is None.

    None if no process of it says. gap: the usual seconds between two samples.
    """
    total, until = None, -math.inf
    row = sorted(processes, key=lambda one: (one.place, -_active_before(one)))
    for one in row:
        goes_on = 0.0
        if now is not None and one.place == row[-1].place:
            goes_on = min(now - (one.attributes_at or now), _GOES_ON_GAPS * max(1.0, gap))
        said = _stated_active(one, goes_on)
        if said is None:
            continue
        own = max(0.0, said - float(one.attributes.carried_over.get(semconv.ACTIVE_DURATION, 0.0)))
        alone = own if one.place >= until else max(0.0, one.place + own - until)
        total = max(total or 0.0, _active_before(one)) + alone
        until = max(until, one.place + own)
    return total


def _active_before(process: Process) -> float:
    return float(process.carried_over.get(semconv.ACTIVE_DURATION, 0.0))


def _stated_active(process: Process, goes_on: float) -> float | None:
    """Return what a process says. goes_on: seconds since it did, if it may be active still."""
    stated = process.attributes.active
    if stated is None or process.attributes.state != semconv.RUNNING:
        return stated
    return stated + max(0.0, goes_on)


def used_at_progress(
    attributes: RunAttributes, totals: Mapping[str, Number], speakers: Iterable[Process]
) -> Mapping[str, Number]:
    """Return what was used, over all processes, as of the progress in a run's attributes.

    totals: what was used by now. speakers: the processes whose attributes count.

    Without what is not known: that is all where a process does not say it.
    """
    if attributes.progress is None or attributes.progress_tokens is None:
        return {}
    return {
        name: totals[name] - sum((_since_progress(i, name) for i in speakers), ZERO[name])  # type: ignore[operator] # all are of one resource
        for name, stated in _at_progress(attributes).items()
        if stated is not None and name in totals
    }


def _since_progress(process: Process, name: str) -> Number:
    """Return what a process counted since it last stated how far the run is."""
    if process.attributes.progress is None:
        return process.counted(name)
    stated = _at_progress(process.attributes).get(name)
    if stated is None:
        return ZERO[name]
    at = quantity_of(name).from_sample(stated)
    since: Number = process.counted(name) - at  # type: ignore[operator] # both are of one resource
    return max(ZERO[name], since)


def _at_progress(attributes: RunAttributes) -> Mapping[str, float | None]:
    said = {
        semconv.TOKENS: attributes.progress_tokens,
        semconv.API_CALLS: attributes.progress_api_calls,
        semconv.COST: attributes.progress_cost,
    }
    return {**said, **attributes.progress_further} if attributes.progress_further else said
