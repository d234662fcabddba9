"""The ledger: every run that was seen, and what each has used.

Runs are told apart by session id and start time. Another start time under a known id is another
run: it takes the place of one that is over, is counted together with one that is alive, or is a
leftover and refused (competing_runs.py). Readings only ever raise what is known to be used.

Runs that are not there any more without having said that they end are in targets.py.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.core.bindings import UNBOUND
from otel_budget.core.observation import HANDOVER, is_handed_over, is_pushed, plain_target
from otel_budget.ledger.admission import KEEP_ENDED, Arrivals
from otel_budget.ledger.competing_runs import (
    CompetingRun,
    are_both_alive,
    is_newer,
    is_old,
    join,
    replaces,
    restarts_after,
)
from otel_budget.ledger.completeness import completed
from otel_budget.ledger.findings import FailedStep, Finding, FindingKind, RunFailure
from otel_budget.ledger.freshness import Absences
from otel_budget.ledger.owners import (
    carries,
    has_owner,
    has_stranger,
    is_carried_by,
    is_free,
    leave_out,
    pushes_another,
)
from otel_budget.ledger.process import cannot_be
from otel_budget.ledger.restart_loop import NO_RESTARTS
from otel_budget.ledger.run import NOTHING_NEW, RunTotals
from otel_budget.ledger.snapshot import RunSnapshot, snapshot_of
from otel_budget.ledger.targets import Targets

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from otel_budget.core.bindings import Bindings
    from otel_budget.core.observation import Observation, RunObservation
    from otel_budget.ledger.run import Observed

#: Other runs under one id that are watched at most; each until it was silent for so many seconds.
_RIVALS_MOST, _RIVALS_KEPT = 8, 600.0
#: Seconds between two pushes, until two were seen: exporters push every minute by default.
PUSHED_SPACING = 60.0
#: Refusals that are kept in mind so as to be told once.
_REFUSED_KEPT = 10_000


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
        self.bindings = UNBOUND
        """Which targets may speak for which run."""
        self.adds_restarts = False
        """True if the use of runs that follow each other, and do not complete, adds up."""
        self._refused: set[tuple[str, str]] = set()
        """Target and pattern, or nothing and session id, of which a refusal was flagged."""
        self._mixed: set[str] = set()
        """Session ids of runs that were seen at targets that are refused by now."""
        self._rivals: dict[str, dict[float, CompetingRun]] = {}
        """Session id, and start, to runs that are not judged, as another one is known there."""

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
            bool(self.bindings)
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

    def _take_told(self, reading: Observation) -> None:
        """Take in what was told of runs that are known."""
        for session_id, state in reading.told.items():
            run = self.runs.get(session_id)
            if run is None or state not in semconv.SESSION_STATES:
                continue
            try:
                run.told(state, reading.read_at)
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
        elif _is_another(run, start):
            return
        run.shown_at = of.read_at
        self.targets.seen(run)
        run.fails(session.target, of.read_at)

    def _completed(self, reading: RunObservation) -> tuple[RunObservation, bool]:
        """Return a reading with what a partial answer leaves out, and whether that is nothing."""
        run = self.runs.get(reading.session_id)
        if run is not None and _is_another(run, reading.attributes.started_at):
            rival = self._rivals.get(reading.session_id, {}).get(
                reading.attributes.started_at or 0.0
            )
            run = None if rival is None else rival.run
        return completed(run, reading)

    def _spoken(self, sessions: Iterable[RunObservation], now: float) -> Iterator[RunObservation]:
        """Yield those that their targets may speak for, as of each."""
        for session in sessions:
            try:
                refused = self._refuses(session, now)
            except Exception as exc:  # noqa: BLE001 - as in apply; nor is it known who may speak
                self.failures.append(RunFailure(session.session_id, FailedStep.ACCOUNT, exc))
                continue
            if not refused:
                yield session

    def bind(self, bindings: Bindings | None) -> None:
        """Listen about each run only to targets that may speak for it. None: as it is."""
        if bindings is None or bindings is self.bindings or bindings == self.bindings:
            return
        self.bindings = bindings
        self._refused.clear()
        self._mixed = {sid for sid, run in self.runs.items() if self._is_mixed(run)}
        for session_id in list(self._rivals):
            if any(self._is_mixed(rival.run) for rival in self._rivals[session_id].values()):
                del self._rivals[session_id]

    def may_speak(self, session_id: str, target: str) -> bool:
        """Tell whether no binding keeps a target from speaking for a run.

        What was handed over was let in by the process that it is of, not by where it came from.
        """
        return (
            is_handed_over(target)
            or self.bindings.refusing(session_id, plain_target(target)) is None
        )

    def _is_mixed(self, run: RunTotals) -> bool:
        return has_stranger(run, partial(self.may_speak, run.session_id))

    def _refuses(self, session: RunObservation, now: float) -> bool:
        """Tell whether a target may not speak for a run; count it, and flag it once."""
        if len(self._refused) >= _REFUSED_KEPT:
            self._refused.clear()
        if is_handed_over(session.target):
            return self._refuses_handover(session, now)
        session_id = session.session_id
        pattern = self.bindings.refusing(session_id, plain_target(session.target))
        if pattern is not None:
            self._refuse_bound(session, pattern)
            return True
        run = self.runs.get(session_id)
        if run is None or carries(run, session.target):
            return False
        if not self.bindings.first_owns and not pushes_another(run, session.target):
            return False
        silent, down = self._silent_for(run, now), self.targets.gives_nothing(run)
        if self.bindings.pattern_of(session_id) or is_free(run, silent, down=down):
            return False
        self._refuse_carried(session, run)
        return True

    def _refuses_handover(self, session: RunObservation, now: float) -> bool:
        """Tell whether what is handed over may not end a run.

        It may if its process is known to carry the run; and one that is not known, if the run is
        not bound, and nothing that goes on carries it.
        """
        session_id, run = session.session_id, self.runs.get(session.session_id)
        known = [rival.run for rival in self._rivals.get(session_id, {}).values()]
        known += [] if run is None else [run]
        may_speak = partial(self.may_speak, session_id)
        if any(is_carried_by(one, session.attributes.incarnation_at, may_speak) for one in known):
            return False
        pattern = self.bindings.pattern_of(session_id)
        if pattern is not None:
            self._refuse_bound(session, pattern)
            return True
        if run is None:
            return False
        down = self.targets.gives_nothing(run)
        if is_free(run, self._silent_for(run, now), down=down):
            return False
        self._refuse_carried(session, run)
        return True

    def _refuse_bound(self, session: RunObservation, pattern: str) -> None:
        """Count what is refused as its run is bound to other targets, and flag it once."""
        session_id, target = session.session_id, plain_target(session.target)
        self.dropped[semconv.BOUND_ELSEWHERE] += max(1, len(session.counters))
        if (target, pattern) not in self._refused:
            self._refused.add((target, pattern))
            owners = ", ".join(sorted(self.bindings.owners[pattern])) or "no known target"
            said = owners if pattern == session_id else f"{owners} as {pattern}"
            self.findings.append(
                Finding(FindingKind.BOUND_ELSEWHERE, session_id, (target,), said=said)
            )

    def _refuse_carried(self, session: RunObservation, run: RunTotals) -> None:
        """Count what is refused as another target carries its run, and flag it once."""
        session_id, target = session.session_id, plain_target(session.target)
        self.dropped[semconv.CARRIED_ELSEWHERE] += max(1, len(session.counters))
        if ("", session_id) not in self._refused:
            self._refused.add(("", session_id))
            said = ", ".join(sorted(run.targets))
            self.findings.append(
                Finding(FindingKind.CARRIED_ELSEWHERE, session_id, (target,), said=said)
            )

    def _freed(self, run: RunTotals, reading: RunObservation, of: Observation) -> RunTotals:
        """Return the run of which an owner is seen, without what strangers say of it.

        One that only strangers showed gives its place to another run at once.
        """
        may_speak = partial(self.may_speak, run.session_id)
        if has_owner(run, may_speak):
            leave_out(run, may_speak)
        elif _is_another(run, reading.attributes.started_at):
            successor = _opened(reading, of)
            self._replace(run, successor)
            successor.restarts, run = NO_RESTARTS, successor
        else:
            return run
        self._mixed.discard(run.session_id)
        return run

    def _observe(self, reading: RunObservation, of: Observation, *, confirmed: bool) -> None:
        """Take in one run. of: the reading it is from."""
        run = self.runs.get(reading.session_id)
        if run is not None and self._mixed and reading.session_id in self._mixed:
            run = self._freed(run, reading, of)
        start = reading.attributes.started_at
        if (run is None or start != run.started_at) and cannot_be(start, reading):
            ahead, start = bool(start), None
            reading = reading._replace(attributes=reading.attributes._replace(started_at=None))
        else:
            ahead = False
        if run is None:
            run = self.runs[reading.session_id] = _opened(reading, of)
        elif start != run.started_at and _is_another(run, start):
            self._observe_rival(run, reading, of, confirmed=confirmed)
            return
        elif run.started_at is None and run.has_been_away(reading.sampled_at):
            run.known_from = of.read_at  # without a start time it may be another run
        run.expected_gap, run.shown_at = of.spacing, of.read_at
        run.least_gap = 0.0 if is_pushed(reading.target) else of.least_spacing
        self._note_pushed(run, reading, of)
        self.targets.seen(run)
        seen = run.observe(reading, confirmed=confirmed, read_at=of.read_at)
        if run.failing:
            run.works(reading.target)
        if seen is not NOTHING_NEW:
            self._note(seen, run)
        if ahead:
            self.dropped[semconv.IMPLAUSIBLE] += 1
            self._report(FindingKind.START_AHEAD, run)
        self.lag = max(self.lag, run.lag.seconds)
        if self._rivals:
            self._settle(run)

    def _note_pushed(self, run: RunTotals, reading: RunObservation, of: Observation) -> None:
        """Take note of whether what is known of a run was pushed."""
        pushed = is_pushed(reading.target)
        if pushed is not run.pushed and run.processes:
            self._flag_second_way(run, reading)
        if pushed:
            run.pushed = True
        elif run.pushed:
            run.pushed = any(map(is_pushed, run.targets))
        if run.pushed:
            run.expected_gap = max(of.spacing, PUSHED_SPACING)

    def _flag_second_way(self, run: RunTotals, reading: RunObservation) -> None:
        """Flag a run that is pushed while a target shows it, once, in whichever order.

        A process that says itself when it began is the same one there.
        """
        if reading.attributes.incarnation_at is not None and not reading.follows:
            return
        since, places = reading.sampled_at - run.silence, list(run.processes.values())
        if any(reading.target in process.target_series for process in places):
            return
        here = is_pushed(reading.target)
        others = {t for i in places if i.last_at >= since for t in i.target_series}
        others = {target for target in others if is_pushed(target) is not here}
        if others:
            at = tuple(sorted({*others, reading.target}))
            self.findings.append(Finding(FindingKind.PUSHED_TOO, run.session_id, at))

    def _note(self, seen: Observed, run: RunTotals) -> None:
        if seen.resets:
            self.resets[semconv.COUNTER_RESET] += seen.resets
        if seen.replaced:
            self.resets[semconv.NEW_INCARNATION] += 1
        if seen.concurrent:
            self._report(FindingKind.CONCURRENT, run)
        if seen.goes_on:
            self._report(FindingKind.GOES_ON, run)
        if seen.second is not None:
            self._report(seen.second, run)
        for resource in sorted(seen.alternating):
            self._report(FindingKind.ALTERNATING, run, resource)

    def _report(self, kind: FindingKind, run: RunTotals, what: str = "", said: str = "") -> None:
        targets = {t for i in run.processes.values() for t in i.target_series}
        self.findings.append(Finding(kind, run.session_id, tuple(sorted(targets)), what, said))

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
            rival = rivals[start] = CompetingRun(_opened(reading, of))
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
            if not _is_another(run, rival.run.started_at):
                continue  # it came with one before it
            join(run, rival.run)
            self._report(FindingKind.CONCURRENT, run)
        for start in [s for s in rivals if not _is_another(run, s)]:
            del rivals[start]
        if not rivals:
            self._rivals.pop(run.session_id, None)
        return bool(joining)

    def _replace(self, run: RunTotals, successor: RunTotals) -> None:
        """Let a run that is over go; it is watched for a while, in case it is not."""
        self.superseded.append(run)
        successor.follow(run)
        successor.restarts = restarts_after(run, successor, any_length=self.adds_restarts)
        if successor.restarts.are_a_loop and not self.adds_restarts:
            self._report(FindingKind.RESTARTS, successor, said=_row(successor))
        self.runs[run.session_id] = successor
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
        if run is None or not _is_another(run, start):
            return False
        absent, down = self.absences.since(run.confirmed_at), self.targets.gives_nothing(run)
        return replaces(run, reading, confirmed=confirmed, absent=absent, down=down)

    def adopt(self, run: RunTotals, now: float) -> None:
        """Take in a run from the storage; it is watched again from now on."""
        run.watch_from(now)
        run.pushed = any(map(is_pushed, run.targets))
        if run.may_be_resumed and run.ended_at is not None:
            run.told_end = (run.attributes.state or "", run.ended_at)
        if self.bindings and self._is_mixed(run):
            self._mixed.add(run.session_id)
        known = self.runs.get(run.session_id)
        if known is not None and known is not run:
            self._replace(known, run)
            self.superseded.pop()
        self.runs[run.session_id] = run

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
        return snapshot_of(
            run, now, self.targets, self.absences, adds_restarts=self.adds_restarts,
            with_active=limited,
        )  # fmt: skip

    def _silent_for(self, run: RunTotals, now: float) -> float:
        """Return the watched seconds without a confirmed sample."""
        silent = run.silent_for(now)
        return silent - self.absences.since(now - silent)

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
                if self._is_over(run, now, forget_after, keep, decided):
                    gone.append(run)
            except Exception as exc:  # noqa: BLE001 - it is kept, and costs no other run
                self.failures.append(RunFailure(run.session_id, FailedStep.FORGET, exc))
        for run in gone:
            del self.runs[run.session_id]
            self._mixed.discard(run.session_id)
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
        return self._silent_for(run, now) > max(forget_after, least)


def _is_another(run: RunTotals, start: float | None) -> bool:
    """Tell whether a start is of another run than those that are known to be alive."""
    own = run.started_at
    return own != start and None not in (own, start) and start not in run.also


def _opened(reading: RunObservation, of: Observation) -> RunTotals:
    """Return totals for a run that was just seen for the first time."""
    run = RunTotals(reading.session_id, reading.attributes.started_at, reading.sampled_at)
    run.known_from = of.read_at
    if of.read_at - reading.sampled_at > of.spacing:
        run.watched_from = of.read_at  # its sample is old, and another was not waited for yet
    return run


def _row(run: RunTotals) -> str:
    """Say what the runs before one used."""
    row = run.restarts
    used = ", ".join(f"{resource} {total:,}" for resource, total in sorted(row.used.items()))
    return f"{row.number} runs within {run.first_seen_at - row.since:.0f} s ({used})"
