"""All moments of a run put on another clock: one that was set, or that of another process."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_budget.ledger.run import RunTotals

_OF_RUN = (
    "first_seen_at", "known_from", "shown_at", "sampled_at", "ended_at", "vanished_at", "heard_at",
)  # fmt: skip
_OF_SERIES = ("first_at", "seen_at", "seen_before", "implausible_since")
_OF_ENDING = ("shown_at", "seen_at", "moved_at")


def watch_from(run: RunTotals, now: float) -> None:
    """Take up a run from the storage: it is watched again from now on.

    Should the clock have been set back in between, all its moments move back by as much: one
    that lies ahead would hide silence, and hold up the counters, until it is reached.
    """
    run.watched_from = now
    seen = [s.seen_at for i in run.processes.values() for s in i.target_series.values()]
    newest = max([run.first_seen_at, run.began_at, *seen])
    ahead = max(newest, run.sampled_at or newest, run.ended_at or newest) - now
    if ahead > 0:
        move(run, -ahead)


def move(run: RunTotals, seconds: float) -> None:
    """Put all moments on a clock that is ahead of the present one by so many seconds.

    But those that were never on it: when the run began may be what its own host said.
    """
    for owner, names in list(_moments(run, seconds)):  # all of them looked at before any moves
        for name in names:
            moment = getattr(owner, name)
            setattr(owner, name, None if moment is None else moment + seconds)
    run.pace.move(seconds)
    run.stored_pace = None


def _moments(run: RunTotals, seconds: float) -> Iterator[tuple[object, tuple[str, ...]]]:
    """Yield what has moments, with their names."""
    yield run, _OF_RUN
    for process in run.processes.values():
        stated = process.begins_as_stated(seconds)
        yield process, ("attributes_at",) if stated else ("attributes_at", "began_at")
        for series in process.target_series.values():
            yield series, _OF_SERIES
        if process.ending is not None:
            yield process.ending, _OF_ENDING
