"""The ledger: every run that was seen, and what each has used.

Runs are told apart by session id and start time. Another start time under a known id is another
run: it takes the place of one that is over, is counted together with one that is alive, or is a
leftover and refused (competing_runs.py). Readings only ever raise what is known to be used.

Which targets are listened to is in owners.py, what is told to people of a run in flags.py, and
which runs are not there any more without having said that they end in targets.py.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.core.observation import HANDOVER, is_pushed
from otel_budget.ledger.admission import KEEP_ENDED, Arrivals
from otel_budget.ledger.books import Books
from otel_budget.ledger.competing_runs import (
    CompetingRun,
    are_both_alive,
    is_another,
    is_newer,
    is_old,
    join,
    opened,
    replaces,
    restarts_after,
)
from otel_budget.ledger.completeness import completed
from otel_budget.ledger.families import Families
from otel_budget.ledger.findings import FailedStep, FindingKind, RunFailure
from otel_budget.ledger.flags import Flags
from otel_budget.ledger.freshness import Absences
from otel_budget.ledger.moments import watch_from
from otel_budget.ledger.owners import Owners
from otel_budget.ledger.process import cannot_be
from otel_budget.ledger.restart_loop import NO_RESTARTS
from otel_budget.ledger.run import NOTHING_NEW, RunTotals
from otel_budget.ledger.snapshot import RunSnapshot, snapshot_of
from otel_budget.ledger.targets import Targets

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from otel_budget.core.bindings import Bindings
    from otel_budget.core.budget import Budget
    from otel_budget.core.observation import Observation, RunObservation
    from otel_budget.ledger.findings import Finding

#: Other runs under one id that are watched at most; each until it was silent for so many seconds.
_RIVALS_MOST, _RIVALS_KEPT = 8, 600.0
#: Seconds between two pushes, until two were seen: exporters push every minute by default.
PUSHED_SPACING = 60.0


class Ledger:
    """Every live run by session id."""

    def __init__(self) -> None:
        """Begin empty."""
        self.runs: dict[str, RunTotals] = {}
        self.absences = Absences()
        self.superseded: list[RunTotals] = []
        """Runs that gave way to another under the same id, until the storage has taken them."""
        self.dropped: Counter[str] = Counter()
        """Reason to number of samples refused."""
        self.resets: Counter[str] = Counter()
        """``counter`` (a value dropped) or ``process`` (a new process) to number seen."""
        self.findings: list[Finding] = []
        """What is strange about runs, each thing once; until they are taken."""
        self.failures: list[RunFailure] = []
        """What went wrong with single runs; until they are taken."""
        self._arrivals = Arrivals(self.dropped)
        self.lag = 0.0
        """Of the runs in the newest reading with any, the most that samples are late by, steadily;
        seconds."""
        self.targets = Targets()
        self.adds_restarts = False
        """True if the use of runs that follow each other, and do not complete, adds up."""
        self._rivals: dict[str, dict[float, CompetingRun]] = {}
        """Session id, and start, to runs that are not judged, as another one is known there."""
        self._owners = Owners(self.targets, self.absences, self.dropped, self.findings)
        self._flags = Flags(self.findings, self.resets)
        self.books = Books(self.findings)
        """What was used of the budgets that runs share."""
        self._below: list[tuple[RunTotals, float]] = []
        """Runs with a parent, and when they were sampled, to be booked once it is known which."""
        self.families = Families(self.findings)
        self.books.inherited = self.families.labels_above

    @property
    def crowded(self) -> dict[str, int]:
        """Target to the runs of its newest reading that were too many to be let in."""
        return self._arrivals.crowded

    def refuse_rest(self, rest: Observation) -> Observation | None:
        """Return what waits of a reading that was taken in, without what cannot be let in."""
        return self._arrivals.refuse_rest(rest)

    def apply(self, reading: Observation) -> None:
        """Take in one reading of one source."""
        self.dropped.update(reading.dropped)
        self.targets.note(reading)
        if reading.asked is None and reading.sessions:
            self.lag = 0.0
        trouble = self.targets.trouble
        self.bind(reading.bindings)
        in_order = sorted(reading.sessions, key=lambda s: s.attributes.incarnation_at or 0.0)
        guarded = (
            bool(self._owners.bindings)
            or reading.source == HANDOVER
            or any(is_pushed(each.target) for each in in_order)
        )
        spoken = self._spoken(in_order, reading.read_at) if guarded else in_order
        for session in self._arrivals.let_in(spoken, reading, self.runs):
            whole = session.target not in trouble
            if session.sampled_at > reading.read_at:
                # It would hide silence, and hold up the counters, until its time had come.
                session = session._replace(sampled_at=reading.read_at)  # noqa: PLW2901
            try:
                if whole and "" in trouble:
                    session, whole = self._completed(session)  # noqa: PLW2901
                self._observe(session, reading, confirmed=whole)
            except Exception as exc:  # noqa: BLE001 - whatever it is, it costs no other run
                self._fail(session, reading, exc)

        self._take_told(reading)
        if self._below:
            self._book_below()

    def _book(self, run: RunTotals, at: float) -> None:
        """Book what a run used; if it has a parent, once it is known which one that is."""
        if run.attributes.parent is None:
            self.books.take(run, at)
        else:
            self._below.append((run, at))

    def _book_below(self) -> None:
        """Book what runs used that count where those above them do."""
        self.families.settle(self.runs)
        for run, at in self._below:
            self.books.take(run, at)
        self._below.clear()

    def _take_told(self, reading: Observation) -> None:
        """Take in what was told of runs that are known."""
        for session_id, state in reading.told.items():
            run = self.runs.get(session_id)
            if run is None or state not in semconv.SESSION_STATES:
                continue
            try:
                run.told(state, reading.read_at)
                self.families.note(run)
                self.targets.seen(run)
            except Exception as exc:  # noqa: BLE001 - as in apply
                self.failures.append(RunFailure(session_id, FailedStep.ACCOUNT, exc))

    def _fail(self, session: RunObservation, of: Observation, error: Exception) -> None:
        """Make the run inconclusive of which a sample could not be taken in.

        Not the known run for one of another start: what that used is not this one's.
        """
        self.failures.append(RunFailure(session.session_id, FailedStep.ACCOUNT, error))
        start = session.attributes.started_at
        run = self.runs.get(session.session_id)
        if run is None:
            run = RunTotals(session.session_id, start, of.read_at)
            self.runs[session.session_id] = run
            self.families.note(run)
        elif is_another(run, start):
            return
        run.shown_at = of.read_at
        self.targets.seen(run)
        run.fails(session.target, of.read_at)

    def _completed(self, reading: RunObservation) -> tuple[RunObservation, bool]:
        """Return a reading with what a partial answer leaves out, and whether that is nothing."""
        run = self.runs.get(reading.session_id)
        if run is not None and is_another(run, reading.attributes.started_at):
            rival = self._rivals.get(reading.session_id, {}).get(
                reading.attributes.started_at or 0.0
            )
            run = None if rival is None else rival.run
        return completed(run, reading)

    def _spoken(self, sessions: Iterable[RunObservation], now: float) -> Iterator[RunObservation]:
        """Yield those that their targets may speak for, as of each."""
        for session in sessions:
            try:
                session_id = session.session_id
                run, rivals = self.runs.get(session_id), self._rivals.get(session_id, {})
                refused = self._owners.refuses(session, run, rivals.values(), now)
            except Exception as exc:  # noqa: BLE001 - as in apply; nor is it known who may speak
                self.failures.append(RunFailure(session.session_id, FailedStep.ACCOUNT, exc))
                continue
            if not refused:
                yield session

    def bind(self, bindings: Bindings | None) -> None:
        """Listen about each run only to targets that may speak for it. None: as it is."""
        if not self._owners.bind(bindings, self.runs):
            return
        for session_id in self.families.in_order():
            self.families.note(self.runs[session_id])
        for session_id in list(self._rivals):
            rivals = self._rivals[session_id].values()
            if any(self._owners.is_mixed(rival.run) for rival in rivals):
                del self._rivals[session_id]

    def may_speak(self, session_id: str, target: str) -> bool:
        """Tell whether no binding keeps a target from speaking for a run."""
        return self._owners.may_speak(session_id, target)

    def _freed(self, run: RunTotals, reading: RunObservation, of: Observation) -> RunTotals:
        """Return the run of which an owner is seen, without what strangers say of it.

        One that only strangers showed gives its place to another run at once.
        """
        start = reading.attributes.started_at
        if self._owners.leave_strangers_out(run) or not is_another(run, start):
            return run
        successor = opened(reading, of)
        self._replace(run, successor)
        successor.restarts = NO_RESTARTS
        self._owners.mixed.discard(run.session_id)
        return successor

    def _observe(  # noqa: C901 - for each run at each reading: a call costs more
        self, reading: RunObservation, of: Observation, *, confirmed: bool
    ) -> None:
        """Take in one run. of: the reading it is from."""
        run = self.runs.get(reading.session_id)
        mixed = self._owners.mixed
        if run is not None and mixed and reading.session_id in mixed:
            run = self._freed(run, reading, of)
        start = reading.attributes.started_at
        if (run is None or start != run.started_at) and cannot_be(start, reading):
            ahead, start = bool(start), None
            reading = reading._replace(attributes=reading.attributes._replace(started_at=None))
        else:
            ahead = False
        if run is None:
            run = self.runs[reading.session_id] = opened(reading, of)
        elif start != run.started_at and is_another(run, start):
            self._observe_rival(run, reading, of, confirmed=confirmed)
            return
        elif run.started_at is None and run.has_been_away(reading.sampled_at):
            run.known_from = of.read_at  # without a start time it may be another run
        run.expected_gap, run.shown_at = of.spacing, of.read_at
        run.least_gap = 0.0 if is_pushed(reading.target) else of.least_spacing
        self._note_pushed(run, reading, of)
        self.targets.seen(run)
        seen = run.observe(reading, confirmed=confirmed, read_at=of.read_at)
        if run.attributes.parent is not None or self.families.members:
            self._relate(run)
        if self.books.is_open and run.totals() is not run.booked:
            self._book(run, reading.sampled_at)
        if run.failing:
            run.works(reading.target)
        if seen is not NOTHING_NEW:
            self._flags.note(seen, run)
        if ahead:
            self.dropped[semconv.IMPLAUSIBLE] += 1
            self._flags.report(FindingKind.START_AHEAD, run)
        self.lag = max(self.lag, run.lag.seconds)
        if self._rivals:
            self._settle(run)

    def _note_pushed(self, run: RunTotals, reading: RunObservation, of: Observation) -> None:
        """Take note of whether what is known of a run was pushed."""
        pushed = is_pushed(reading.target)
        if pushed is not run.pushed and run.processes:
            self._flags.second_way(run, reading)
        if pushed:
            run.pushed = True
        elif run.pushed:
            run.pushed = any(map(is_pushed, run.targets))
        if run.pushed:
            run.expected_gap = max(of.spacing, PUSHED_SPACING)

    def _observe_rival(
        self, run: RunTotals, reading: RunObservation, of: Observation, *, confirmed: bool
    ) -> None:
        """Take in a sample of another run under a known id."""
        if is_old(run, reading):
            self.dropped[semconv.OLD_RUN] += max(1, len(reading.counters))
            return
        session_id, start = reading.session_id, reading.attributes.started_at or 0.0
        rivals = self._rivals.get(session_id, {})
        rival = rivals.get(start)
        if rival is None:
            if not self._arrivals.may_begin(reading, of):
                return
            self._rivals[session_id] = rivals
            if len(rivals) >= _RIVALS_MOST:
                del rivals[min(rivals, key=lambda known: rivals[known].run.confirmed_at)]
            rival = rivals[start] = CompetingRun(opened(reading, of))
        rival.run.expected_gap = of.spacing
        self.targets.seen(rival.run)
        rival.observe(reading, of.read_at, confirmed=confirmed, since=run.first_seen_at)
        if rival.live:  # also if it says that it is over, and goes on
            reading = reading._replace(attributes=rival.run.attributes)
        absent, down = self.absences.since(run.confirmed_at), self.targets.gives_nothing(run)
        if replaces(run, reading, confirmed=confirmed, moved=rival.moved, absent=absent, down=down):
            self._replace(run, rival.run)
        elif not (self._settle(run) or rival.moved) and (
            start in run.superseded or not is_newer(run, reading)
        ):
            self.dropped[semconv.OLD_RUN] += max(1, len(reading.counters))

    def _settle(self, run: RunTotals) -> bool:
        """Count those together with a run that are found to be alive beside it."""
        rivals = self._rivals.get(run.session_id, {})
        joining = [rival for rival in rivals.values() if are_both_alive(run, rival)]
        for rival in joining:
            if not is_another(run, rival.run.started_at):
                continue  # it came with one before it
            join(run, rival.run)
            if self.books.is_open:
                self.books.take(run, run.confirmed_at)
            self._flags.report(FindingKind.CONCURRENT, run)
        for start in [s for s in rivals if not is_another(run, s)]:
            del rivals[start]
        if not rivals:
            self._rivals.pop(run.session_id, None)
        return bool(joining)

    def _replace(self, run: RunTotals, successor: RunTotals) -> None:
        """Let a run that is over go; it is watched for a while, in case it is not."""
        self.superseded.append(run)
        self.books.leave(run)
        successor.follow(run)
        successor.restarts = restarts_after(run, successor, any_length=self.adds_restarts)
        if successor.restarts.are_a_loop and not self.adds_restarts:
            self._flags.restarts(successor)
        self.runs[run.session_id] = successor
        self._relate(successor)
        if self.books.is_open:
            self.books.take(successor, successor.confirmed_at)
        rivals = self._rivals.setdefault(run.session_id, {})
        for start in (successor.started_at, *successor.also):
            rivals.pop(start, None)  # type: ignore[arg-type] # None is no key
        if run.ended_at is None:
            rival = CompetingRun(run)
            rivals |= {s: rival for s in (run.started_at, *run.also) if s is not None}
        if not rivals:
            del self._rivals[run.session_id]

    def takes_over(self, reading: RunObservation, *, confirmed: bool = True) -> bool:
        """Tell whether a reading is of another run than the known one, and of one that follows it.

        Never one whose sample is old beside the known run's.
        """
        run, start = self.runs.get(reading.session_id), reading.attributes.started_at
        if run is None or not is_another(run, start):
            return False
        absent, down = self.absences.since(run.confirmed_at), self.targets.gives_nothing(run)
        return replaces(run, reading, confirmed=confirmed, absent=absent, down=down)

    def adopt(self, run: RunTotals, now: float) -> None:
        """Take in a run from the storage; it is watched again from now on.

        What it used up to now is in the books, if it was to be there.
        """
        self.books.begin_at_present(run)
        watch_from(run, now)
        run.pushed = any(map(is_pushed, run.targets))
        if run.may_be_resumed and run.ended_at is not None:
            run.told_end = (run.attributes.state or "", run.ended_at)
        if self._owners.bindings and self._owners.is_mixed(run):
            self._owners.mixed.add(run.session_id)
        known = self.runs.get(run.session_id)
        if known is not None and known is not run:
            self._replace(known, run)
            self.superseded.pop()
        self.runs[run.session_id] = run
        self.families.note(run)

    def lost_sight_of(self, session_id: str, start: float | None) -> bool:
        """Tell whether a run gave way to the one of its id, and is not watched any more."""
        run = self.runs.get(session_id)
        if run is None or start is None or start not in run.superseded:
            return False
        return start not in self._rivals.get(session_id, {})

    def watch_again(self, run: RunTotals, now: float) -> None:
        """Watch a run from the storage beside the one that took its place, as it shows itself.

        What it used before is in the books, should it go on.
        """
        self.books.begin_at_present(run)
        watch_from(run, now)
        rivals = self._rivals.setdefault(run.session_id, {})
        if run.started_at is not None and len(rivals) < _RIVALS_MOST:
            rivals[run.started_at] = CompetingRun(run)

    def settle_families(self, now: float) -> None:
        """Bring who is below whom, and what they used together, up to date with the runs."""
        self.families.settle(self.runs)
        self.families.say_unknown(now)

    def _relate(self, run: RunTotals) -> None:
        self.families.note(run)
        self.families.settle(self.runs)

    def use_budgets(self, budgets: tuple[Budget, ...], now: float) -> None:
        """Take note which budgets runs share, before the step that they hold from."""
        if not self.books.has(budgets):
            rivals = {id(r.run): r.run for known in self._rivals.values() for r in known.values()}
            self.books.use_budgets(budgets, self.runs.values(), now, rivals.values())

    def snapshots(self, now: float) -> Iterator[RunSnapshot]:
        """Yield the balance of every run as of ``now``."""
        for run in self.runs.values():
            yield self.snapshot(run, now)

    def snapshot(self, run: RunTotals, now: float, ceilings: Collection[str] = ()) -> RunSnapshot:
        """Return the snapshot of one run as of ``now``. ceilings: resources with one for all runs.

        Its active time is worked out where there is a limit on it.
        """
        limited = bool(
            semconv.ACTIVE_DURATION in run.attributes.limits
            or run.overrides
            or (semconv.ACTIVE_DURATION in ceilings)
        )
        snapshot = snapshot_of(
            run, now, self.targets, self.absences, adds_restarts=self.adds_restarts,
            with_active=limited,
        )  # fmt: skip
        if run.bequeathed or self.families.members:
            return self.families.together(snapshot, run)
        return snapshot

    def forget(
        self, now: float, forget_after: float, hold: float = math.inf, decided: float = 0.0
    ) -> list[RunTotals]:
        """Take out and return the runs that ended a while ago, or were silent for too long.

        hold: seconds for which the verdict on a run that vanished is held; all hear what follows.
        decided: seconds, from when a run's data are stale, until all that follows
        from it was decided and heard: none is forgotten before.
        """
        keep = hold + KEEP_ENDED
        gone = []
        for run in self.runs.values():
            try:
                if self._is_over(run, now, forget_after, keep, decided) and not (
                    self.families.members and self.families.keeps(run)
                ):
                    gone.append(run)
            except Exception as exc:  # noqa: BLE001 - it is kept, and costs no other run
                self.failures.append(RunFailure(run.session_id, FailedStep.FORGET, exc))
        for run in gone:
            self.books.leave(run)
            del self.runs[run.session_id]
            self.families.forget(run)
            self._owners.mixed.discard(run.session_id)
        for session_id, rivals in list(self._rivals.items()):
            heard = [rival.run.confirmed_at for rival in rivals.values()]
            if session_id not in self.runs or now - max(heard) > _RIVALS_KEPT:
                del self._rivals[session_id]
        return gone

    def _is_over(
        self,
        run: RunTotals,
        now: float,
        forget_after: float,
        keep_vanished: float,
        decided: float,
    ) -> bool:
        if run.ended_at is not None:
            # One that went on before may do so again, for as long as its page is there.
            last = max(run.ended_at, run.shown_at) if run.went_on else run.ended_at
            return now - last > KEEP_ENDED
        if run.vanished_at is not None and now - run.vanished_at > keep_vanished:
            return True
        if run.pushed and run.attributes.idle_after is not None:
            return False  # its silence says nothing, until it has vanished
        silent = min(run.silent_for(now), now - run.shown_at)
        if silent <= forget_after:
            return False
        least = decided + run.lag.seconds + run.silence if decided else 0.0
        return self.absences.silent_for(run, now) > max(forget_after, least)
