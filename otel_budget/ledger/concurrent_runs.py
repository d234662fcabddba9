"""Several runs under one id that are alive at the same time: what they come to together.

Usually an account is one run, and all of its processes belong to it. Where several processes begin
runs of their own under one id (a job that overlaps with itself, replicas with one id in their
environment), each of them is a run of the same account:
- what they used is the sum of what each used, also of those that are over by now;
- of those that are alive the stricter word counts, and of a run that is carried by several
  processes that of each that is alive.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.ledger.attributes import strictest
from otel_budget.ledger.process import totals_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from otel_budget.core.observation import RunAttributes
    from otel_budget.core.quantities import Number
    from otel_budget.ledger.process import Process


def by_run(processes: Iterable[Process]) -> list[list[Process]]:
    """Return the incarnations of each run."""
    runs: dict[float | None, list[Process]] = {}
    for process in processes:
        runs.setdefault(process.run_started_at, []).append(process)
    return list(runs.values())


def newest_of(run: Collection[Process]) -> list[Process]:
    """Return the incarnation of a run that started last; several where none says when it did."""
    newest = max((i.place for i in run), default=0.0)
    return [i for i in run if i.place == newest]


def used_together(processes: Iterable[Process], earlier: dict[str, Number]) -> dict[str, Number]:
    """Return what all runs used. earlier: what those did that are not kept apart any more."""
    together = dict(earlier)
    for run in by_run(processes):
        for resource, total in totals_of(run).items():
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
    """Return what they say, the stricter word of each."""
    return reduce(strictest, (i.attributes for i in processes))


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
