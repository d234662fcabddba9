"""Another run under a known id: does it take the place of the known one, or are both alive?

- It takes its place once the known one is over: it ended, fell silent, or the target that carried
  it shows the other run now.
- Both are alive once each was seen to go on after the other was first seen: a start that is newer
  is no proof that the older run is over. Then they are counted in one account (join).
- A page that is left over of a run that is over never moves: it is neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.ledger.concurrent_runs import are_over, by_run, used_together
from otel_budget.ledger.process import UNSURE
from otel_budget.ledger.process_match import key_of
from otel_budget.ledger.run import RunTotals

if TYPE_CHECKING:
    from otel_budget.core.observation import RunObservation
    from otel_budget.ledger.process import Process

#: A run that gave no sample for so many of its usual gaps, as many as make its data stale, gives
#: its place to one that began later. Should it live on, it is seen again, and joins.
PASSED_GAPS = 3
#: The same where its targets give nothing: a process that was killed and begun again elsewhere.
PASSED_GAPS_DOWN = 1
#: Runs of one id that are kept apart in one account.
RUNS_KEPT = 16


class Rival:
    """A run under an id that is known for another one."""

    def __init__(self, account: RunTotals) -> None:
        """Begin with what is known of it: nothing, or all there was when it lost its place."""
        self.account = account
        self.moved = False
        """True once it was seen to go on since."""
        self.live = False
        """True if its newest sample was whole and of a run that has not ended."""
        self.newest: RunObservation | None = None

    def observe(
        self, reading: RunObservation, read_at: float, *, confirmed: bool, since: float
    ) -> None:
        """Take in a sample. since: when the known run was first seen."""
        account = self.account
        fresh = not account.incarnations
        before, lasted = account.totals(), account.facts.duration
        account.observe(reading, confirmed=confirmed, read_at=read_at)
        grew = account.totals() != before
        aged = None not in (lasted, account.facts.duration) and lasted != account.facts.duration
        if not fresh and (grew or aged) and reading.sampled_at > since:
            self.moved = True
        self.live = confirmed and account.ended_at is None
        self.newest = reading


def is_newer(account: RunTotals, reading: RunObservation) -> bool:
    """Tell whether the process in a reading began after all of the known run, by their clocks."""
    began_at = max(reading.facts.incarnation_at or 0.0, reading.facts.started_at or 0.0)
    return began_at > max((i.place for i in account.incarnations.values()), default=0.0)


def is_old(account: RunTotals, reading: RunObservation) -> bool:
    """Tell whether a sample is so old beside those of the known run that it proves nothing."""
    return reading.sampled_at < account.heard_at - account.silence


def replaces(
    account: RunTotals,
    reading: RunObservation,
    *,
    confirmed: bool,
    moved: bool = False,
    absent: float = 0.0,
    down: bool = False,
) -> bool:
    """Tell whether the run in a reading takes the place of the known one, which is over.

    moved: True if it was seen to go on since it lost its place to the known one. absent: seconds
    since the newest sample of the known one in which nobody listened. down: True if the targets of
    the known one give nothing.
    """
    at, known_before = reading.sampled_at, reading.facts.started_at in account.superseded
    live = confirmed and reading.facts.state not in semconv.ENDED_STATES
    if is_old(account, reading) or (known_before and not (moved and live)):
        return False
    if is_newer(account, reading):
        if account.vanished_at is not None:
            return True
        gaps = PASSED_GAPS_DOWN if down else PASSED_GAPS
        until = at - absent - gaps * max(1.0, account.gap())
        return are_over(account.incarnations.values(), reading.target, until)
    if not live:
        return False
    ended = account.ended_at is not None and at > account.ended_at
    gone = ended or account.vanished_at is not None
    return gone or account.silent_for(at) - absent > account.silence


def are_both_alive(account: RunTotals, rival: Rival) -> bool:
    """Tell whether a rival is alive beside the known run."""
    newest, start = rival.newest, rival.account.started_at
    if newest is None:
        return False
    if account.heard_at <= rival.account.first_seen_at:
        return False
    if is_newer(account, newest) and start not in account.superseded:
        return True
    return rival.moved and rival.live


def join(account: RunTotals, other: RunTotals) -> None:
    """Count another run, and all that were counted with it, together with the known one."""
    starts = (other.started_at, *other.also)
    if other.started_at in account.superseded:  # it was not over, and none was begun again
        account.restarts = other.restarts
    for key, incarnation in other.incarnations.items():
        if incarnation.run is None:
            incarnation.run, key = other.started_at, key_of(other.started_at, key)  # noqa: PLW2901 - the same one, renamed
        account.incarnations[key] = incarnation
    account.also = tuple(dict.fromkeys((*account.also, *(s for s in starts if s is not None))))
    account.superseded = tuple(s for s in account.superseded if s not in account.also)
    for resource, total in other.earlier.items():
        account.earlier[resource] = account.earlier.get(resource, type(total)(0)) + total  # type: ignore[operator]
    for name, calls in other.unsure.items():
        account.unsure[name] = account.unsure.get(name, 0) + calls
    account.resets += other.resets
    account.first_seen_at = min(account.first_seen_at, other.first_seen_at)
    account.known_from = min(account.known_from, other.known_from)
    account.orders = account.orders or other.orders
    if len(account.also) >= RUNS_KEPT:
        _let_one_go(account)
    account.changed(max(account.heard_at, other.heard_at))


def _let_one_go(account: RunTotals) -> None:
    """Keep of the run that was not seen for longest only what it used."""
    runs = [run for run in by_run(account.incarnations.values()) if run[0].run is not None]
    gone = min(runs, key=_last_at)
    account.earlier = used_together(gone, account.earlier)
    account.incarnations = {k: i for k, i in account.incarnations.items() if i not in gone}
    heir = max(account.incarnations.values(), key=lambda i: i.last_at)
    for name in UNSURE:
        heir.unsure[name] = heir.unsure.get(name, 0) + sum(i.unsure.get(name, 0) for i in gone)
    start = gone[0].run
    account.also = tuple(known for known in account.also if known != start)
    if start is not None:
        account.supersede(start)


def _last_at(run: list[Process]) -> float:
    return max(i.last_at for i in run)
