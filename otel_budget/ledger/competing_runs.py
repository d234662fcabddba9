"""Another run under a known id: does it take the place of the known one, or are both alive?

- It takes its place once the known one is over: it ended, fell silent, or the target that carried
  it shows the other run now.
- Both are alive once each was seen to go on after the other was first seen: a start that is newer
  is no proof that the older run is over. Then they are counted together (join).
- A page that is left over of a run that is over never moves: it is neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.ledger.book_values import added
from otel_budget.ledger.process import UNSURE
from otel_budget.ledger.processes import (
    ALL_COUNTERS,
    are_over,
    by_run,
    key_of,
    used_together,
)
from otel_budget.ledger.restart_loop import NO_RESTARTS, Restarts
from otel_budget.ledger.run import RunTotals

if TYPE_CHECKING:
    from otel_budget.core.observation import Observation, RunObservation
    from otel_budget.ledger.process import Process

#: A run that gave no sample for so many of its usual gaps, as many as make its data stale, gives
#: its place to one that began later. Should it live on, it is seen again, and joins.
PASSED_GAPS = 3
#: The same where its targets give nothing: a process that was killed and begun again elsewhere.
PASSED_GAPS_DOWN = 1
#: Runs of one id that are kept apart where they are counted together.
RUNS_KEPT = 16
#: Seconds within which the next run has to begin after the one before it began, or was last heard,
#: to be of the same row.
_WITHIN = 600.0
#: Seconds that a run of such a row lasted at most, unless it was stopped.
_LASTED = 3600.0


class CompetingRun:
    """A run under an id that is known for another one."""

    def __init__(self, run: RunTotals) -> None:
        """Begin with what is known of it: nothing, or all there was when it lost its place."""
        self.run = run
        self.moved = False
        """True once it was seen to go on since."""
        self.live = False
        """True if its newest sample was whole and of a run that has not ended."""
        self.newest: RunObservation | None = None

    def observe(
        self, reading: RunObservation, read_at: float, *, confirmed: bool, since: float
    ) -> None:
        """Take in a sample. since: when the known run was first seen."""
        run = self.run
        fresh = not run.processes
        before, lasted = run.totals(), run.attributes.duration
        run.observe(reading, confirmed=confirmed, read_at=read_at)
        grew = run.totals() != before
        aged = None not in (lasted, run.attributes.duration) and lasted != run.attributes.duration
        if not fresh and (grew or aged) and reading.sampled_at > since:
            self.moved = True
        self.live = confirmed and run.ended_at is None
        self.newest = reading


def is_another(run: RunTotals, start: float | None) -> bool:
    """Tell whether a start is of another run than those that are known to be alive."""
    own = run.started_at
    return own != start and None not in (own, start) and start not in run.also


def opened(reading: RunObservation, of: Observation) -> RunTotals:
    """Return totals for a run that was just seen for the first time."""
    run = RunTotals(reading.session_id, reading.attributes.started_at, reading.sampled_at)
    run.known_from = of.read_at
    if of.read_at - reading.sampled_at > of.spacing:
        run.watched_from = of.read_at  # its sample is old, and another was not waited for yet
    return run


def is_newer(run: RunTotals, reading: RunObservation) -> bool:
    """Tell whether the process in a reading began after all of the known run, by their clocks."""
    began_at = max(reading.attributes.incarnation_at or 0.0, reading.attributes.started_at or 0.0)
    return began_at > max((i.place for i in run.processes.values()), default=0.0)


def is_old(run: RunTotals, reading: RunObservation) -> bool:
    """Tell whether a sample is so old beside those of the known run that it proves nothing."""
    return reading.sampled_at < run.confirmed_at - run.silence


def replaces(
    run: RunTotals,
    reading: RunObservation,
    *,
    confirmed: bool,
    moved: bool = False,
    absent: float = 0.0,
    down: bool = False,
) -> bool:
    """Tell whether the run in a reading takes the place of the known one, which is over.

    moved: True if it was seen to go on since it lost its place to the known one. absent: seconds
    since the newest sample of the known one that were not watched. down: True if the targets of
    the known one give nothing.
    """
    at, known_before = reading.sampled_at, reading.attributes.started_at in run.superseded
    live = confirmed and reading.attributes.state not in semconv.ENDED_STATES
    if is_old(run, reading) or (known_before and not (moved and live)):
        return False
    if is_newer(run, reading):
        if run.vanished_at is not None:
            return True
        gaps = PASSED_GAPS_DOWN if down else PASSED_GAPS
        until = at - absent - gaps * max(1.0, run.gap())
        return are_over(run.processes.values(), reading.target, until)
    if not live:
        return False
    ended = run.ended_at is not None and at > run.ended_at
    gone = ended or run.vanished_at is not None
    return gone or run.silent_for(at) - absent > run.silence


def are_both_alive(run: RunTotals, rival: CompetingRun) -> bool:
    """Tell whether a rival is alive beside the known run."""
    newest, start = rival.newest, rival.run.started_at
    if newest is None:
        return False
    if run.confirmed_at <= rival.run.first_seen_at:
        return False
    if is_newer(run, newest) and start not in run.superseded:
        return True
    return rival.moved and rival.live


def join(run: RunTotals, other: RunTotals) -> None:
    """Count another run, and all that were counted with it, together with the known one."""
    starts = (other.started_at, *other.also)
    if other.started_at in run.superseded:  # it was not over, and none was begun again
        run.restarts = other.restarts
    for key, process in other.processes.items():
        if process.run_started_at is None:
            process.run_started_at, key = other.started_at, key_of(other.started_at, key)  # noqa: PLW2901 - the same one, renamed
        run.processes[key] = process
    run.also = tuple(dict.fromkeys((*run.also, *(s for s in starts if s is not None))))
    run.superseded = tuple(s for s in run.superseded if s not in run.also)
    for resource, total in other.earlier.items():
        run.earlier[resource] = run.earlier.get(resource, type(total)(0)) + total  # type: ignore[operator]
    for name, calls in other.unsure.items():
        run.unsure[name] = run.unsure.get(name, 0) + calls
    run.booked = added(run.booked, other.booked)
    run.booked_kinds = {
        kind: run.booked_kinds.get(kind, 0) + other.booked_kinds.get(kind, 0)
        for kind in {*run.booked_kinds, *other.booked_kinds}
    }
    (tokens, cost), (of_other, cost_of_other) = run.booked_unsure, other.booked_unsure
    run.booked_unsure = tokens + of_other, cost + cost_of_other
    run.resets += other.resets
    run.first_seen_at = min(run.first_seen_at, other.first_seen_at)
    run.known_from = min(run.known_from, other.known_from)
    run.overrides = run.overrides or other.overrides
    if len(run.also) >= RUNS_KEPT:
        _let_one_go(run)
    run.changed(max(run.confirmed_at, other.confirmed_at))


def _let_one_go(run: RunTotals) -> None:
    """Keep of the run that was not seen for longest only what it used."""
    joined = [one for one in by_run(run.processes.values()) if one[0].run_started_at is not None]
    gone = min(joined, key=_last_at)
    run.earlier = used_together(gone, run.earlier, ALL_COUNTERS)
    run.processes = {k: i for k, i in run.processes.items() if i not in gone}
    heir = max(run.processes.values(), key=lambda i: i.last_at)
    for name in UNSURE:
        heir.unsure[name] = heir.unsure.get(name, 0) + sum(i.unsure.get(name, 0) for i in gone)
    start = gone[0].run_started_at
    run.also = tuple(known for known in run.also if known != start)
    if start is not None:
        run.supersede(start)


def _last_at(run: list[Process]) -> float:
    return max(i.last_at for i in run)


def restarts_after(run: RunTotals, successor: RunTotals, *, any_length: bool = False) -> Restarts:
    """Return the runs before ``successor``, which takes the place of ``run``.

    any_length: True if those that lasted for long are in a row, too.
    """
    confirmed_at, state = max(run.confirmed_at, run.first_seen_at), run.attributes.state
    late = successor.first_seen_at - confirmed_at > _WITHIN
    lasted = confirmed_at - run.first_seen_at > _LASTED and state != semconv.STOPPED
    lasted = lasted and not any_length
    done = state == semconv.COMPLETED or successor.attributes.follows_completed
    if late or lasted or done:
        return NO_RESTARTS
    before = run.restarts
    used = dict(before.used)
    for resource, total in run.totals().items():
        used[resource] = used.get(resource, type(total)(0)) + total  # type: ignore[operator]
    since = before.since if before.number else run.first_seen_at
    return Restarts(before.number + 1, since, used)
