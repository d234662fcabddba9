"""One step of the sidecar without its I/O in time: a reading in, numbered verdicts out.

The order is the promise: account, judge, number, store, and only then hand out. A step that fails
before it is stored leaves nothing half done; the next one writes what this one could not.
What of the runs is on disk is in stored_runs.py; returning_runs.py brings back forgotten ones.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.core.observation import is_pushed, plain_target
from otel_budget.core.override import OverrideRefusedError, Refusal
from otel_budget.core.verdict import Verdict
from otel_budget.ledger.admission import split_new_runs
from otel_budget.ledger.findings import FailedStep, RunFailure
from otel_budget.ledger.ledger import Ledger
from otel_budget.ledger.owner_use import use_by
from otel_budget.ledger.owners import carries, is_shown_at
from otel_budget.policy.families import NOTHING_ABOVE
from otel_budget.policy.override_effect import effect_of
from otel_budget.sidecar import budget_audit
from otel_budget.sidecar.failing_runs import Failing, unstorable
from otel_budget.sidecar.family_verdicts import FamilyVerdicts
from otel_budget.sidecar.handovers import HandoverOutcome
from otel_budget.sidecar.hold_refusals import HoldRefusals
from otel_budget.sidecar.reservations import Reservations, held_now, needs_sync
from otel_budget.sidecar.returning_runs import ReturningRuns
from otel_budget.sidecar.shared_budgets import SharedBudgets
from otel_budget.sidecar.storage.base import NO_SHARED_CHANGES, Changes, StorageError
from otel_budget.sidecar.stored_holds import StoredHolds
from otel_budget.sidecar.stored_runs import StoredRuns
from otel_budget.sidecar.suggesting import SuggestedLimits
from otel_budget.sidecar.tick_result import Change, RunEvents, TickResult
from otel_budget.sidecar.verdict_cache import CachedVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from otel_budget.core.audit import AuditEntry, AuditPage, AuditQuery
    from otel_budget.core.budget import BudgetKey, Group, TopUp
    from otel_budget.core.observation import Observation, RunObservation
    from otel_budget.core.override import Override, Overrides
    from otel_budget.core.quantities import Number
    from otel_budget.core.top_up import TopUpRequest
    from otel_budget.ledger.book_values import ClosedWindow
    from otel_budget.ledger.findings import Finding
    from otel_budget.ledger.freshness import Spell
    from otel_budget.ledger.owner_use import OwnerUse
    from otel_budget.ledger.run import RunTotals
    from otel_budget.policy.verdicts import Rules
    from otel_budget.sidecar.audit_trail import AuditTrail
    from otel_budget.sidecar.reservations import Order, Result
    from otel_budget.sidecar.storage.base import Restored, Storage


def runs_alone(observation: Observation) -> tuple[str, ...] | None:
    """Return the runs that a step looks at alone, where it takes in what was pushed of them, or
    told; None: it looks at all.

    Programs push all the time, and all runs are looked at at every tick anyway.
    """
    if observation.asked is None or observation.problems or observation.bindings is not None:
        return None
    if not all(is_pushed(session.target) for session in observation.sessions):
        return None
    named = (*(session.session_id for session in observation.sessions), *observation.told)
    return tuple(dict.fromkeys(named)) or None


class Evaluator:
    """The ledger, the last published verdicts and their sequence, backed by the store.

    Used from one thread at a time.
    """

    def __init__(
        self,
        storage: Storage,
        restored: Restored,
        now: float,
        wall: Callable[[], float] | None = None,
        audit: AuditTrail | None = None,
    ) -> None:
        """Go on from what the store held. now: time on the clock all later steps use.

        wall: the system's own, which may be set while this runs; by that runs are stored, as a
        next process begins by it. None: it is that of the steps. audit: what happens goes there;
        None: nothing is logged.
        """
        self._storage, self._wall = storage, wall
        self._ledger = Ledger()
        self._disk = StoredRuns(storage, self._ledger.failures)
        self._returning = ReturningRuns(self._ledger, self._disk)
        self._failing = Failing(self._ledger.absences)
        self._family = FamilyVerdicts(self._ledger.families)
        self._suggested = SuggestedLimits(restored.past_runs, now)
        self._audit = audit
        self._shared = SharedBudgets(restored.top_ups, restored.choices)
        self._holds = StoredHolds(restored, now)
        self._refusals = HoldRefusals(None if audit is None else audit.note)
        self._reservations = Reservations(
            self._holds.holds, self._shared, self._ledger, self._refusals
        )
        self._sequence = restored.sequence
        self._published = {v.session_id: CachedVerdict(v) for v in restored.verdicts}
        self._rules: Rules | None = None
        """Those of the last step."""
        self._alone: tuple[str, ...] | None = None
        """The runs that the present step looks at, and no others; None: at all."""
        self._is_behind = True
        """True if the step before did not come to its end: the next one looks at all runs."""
        self.rest: Observation | None = None
        """What the newest step left of its observation, also if that was not stored."""
        self._over = {a.session_id for a in restored.runs if a.ended_at is not None}
        """Session ids of live runs whose end is known."""
        for run in restored.runs:
            self._ledger.adopt(run, now)
            self._disk.note(run)
        self._ledger.books.restore(restored.books, restored.clock_set)

    def set_follower_check(self, is_followed: Callable[[str], bool]) -> None:
        """Have runs that vanished be evaluated while a client follows them.

        is_followed: tells whether a client follows the verdict on one run.
        """
        self._ledger.targets.is_followed = is_followed

    @property
    def run_count(self) -> int:
        """Return the number of live runs."""
        return len(self._ledger.runs)

    def add_absences(self, spells: Iterable[Spell]) -> None:
        """Take note of when this process did not run: no run was silent in that time."""
        for spell in spells:
            self._ledger.absences.add(spell)

    def restart_freshness(self, now: float) -> None:
        """Take note that from now on runs are read from another source, at another pace."""
        for run in self._ledger.runs.values():
            run.watch_anew(now)

    def tick(
        self,
        observation: Observation | None,
        rules: Rules,
        forget_after: float,
        now: float,
        *,
        override: tuple[RunTotals, Override] | None = None,
        granted: TopUp | None = None,
    ) -> TickResult:
        """Take in an observation, if there is one, and evaluate every run as of ``now``.

        override: what an operator ordered for a run, to be stored with the rest. granted: what an
        operator added to a shared budget. Returns only after all of it is stored. Raises
        StorageError when that fails.
        """
        # Before anything that takes time: a tick that takes long is no clock that was set.
        ahead = 0.0 if self._wall is None else self._wall() - now
        self._shared.begin(rules, self._ledger, now)
        self.rest = rest = self._take_in(observation, rules, now)
        whole = override is not None or rules is not self._rules or self._is_behind
        self._alone = None if whole or observation is None else runs_alone(observation)
        if self._alone is not None and self._family.are_there:
            self._alone = self._family.with_relatives(self._alone)
        if self._shared.settle(now, whole=self._alone is None):
            self._alone = None  # others share what changed
        self._reservations.settle(now)
        self._refusals.settle(now)
        self._is_behind = True
        self._let_go(rules, forget_after, now)
        self._retry_unstored()
        asked = observation is not None or override is not None or granted is not None
        every = not asked or rules is not self._rules
        base, rules = rules, self._suggested.rules(rules)
        if self._audit is not None:
            self._audit.note_rules(base, now)
        evaluated = self._evaluate(rules, now, every=every)
        self._suggested.take(evaluated, self._ledger.runs, rules, now)
        if self._disk.note_wall_clock(ahead):
            self._holds.holds.all_unstored()
            if self._audit is not None:
                self._audit.note_sidecar(now, event="clock_set", seconds=round(ahead, 3))
        self._ledger.books.note_wall_clock(self._disk.ahead)
        evaluated, changes = self._store(evaluated, override, rules, now)
        self._rules, self._is_behind = base, False
        result = self._publish(evaluated, changes, rest, now)
        return result if granted is None else dataclasses.replace(result, granted=granted)

    def _take_in(
        self, observation: Observation | None, rules: Rules, now: float
    ) -> Observation | None:
        """Account what a source read; return what of it is left for another tick."""
        ledger = self._ledger
        ledger.adds_restarts = rules.adds_restarts
        if observation is None:
            ledger.settle_families(now)
            return None
        observation, rest = split_new_runs(observation, ledger.runs)
        ledger.bind(observation.bindings)
        self._returning.adopt(observation, now)
        ledger.apply(observation)
        ledger.settle_families(now)
        return rest and ledger.refuse_rest(rest)

    def _let_go(self, rules: Rules, forget_after: float, now: float) -> None:
        """Take runs out of the ledger that are forgotten or superseded; they are archived next."""
        decided = rules.hold + (rules.stale_after or 0.0) + rules.lease
        if self._alone is None:
            self._disk.let_go(self._ledger.forget(now, forget_after, rules.hold, decided))
        self._disk.let_go(self._ledger.superseded)
        self._ledger.superseded.clear()

    def _store(
        self,
        evaluated: list[CachedVerdict],
        override: tuple[RunTotals, Override] | None,
        rules: Rules,
        now: float,
    ) -> tuple[list[CachedVerdict], list[Change]]:
        """Number the verdicts and store what changed; of runs that cannot be, say so instead."""
        changes = self._number(evaluated)
        try:
            self._commit(changes, override, now)
        except StorageError:
            raise
        except Exception as exc:  # noqa: BLE001 - raised again if it is not of single runs
            evaluated = self._without_unstorable(evaluated, changes, exc, rules, now)
            changes = self._number(evaluated)
            self._commit(changes, override, now)
        return evaluated, changes

    def _publish(
        self,
        evaluated: list[CachedVerdict],
        changes: list[Change],
        rest: Observation | None,
        now: float,
    ) -> TickResult:
        """Keep the stored verdicts as the last ones; return all that came of the tick."""
        ledger = self._ledger
        gone: tuple[str, ...] = ()
        stats = self._storage.stats()
        entries: tuple[AuditEntry, ...] = ()
        if self._audit is not None:
            entries = self._audit.stored()
            self._audit.note_storage(stats, now)
        if self._alone is None:
            gone = tuple(sorted(self._published.keys() - ledger.runs.keys()))
        events = self._take_events(changes, gone)
        for session_id in gone:
            del self._published[session_id]
        self._failing.forget(gone)
        self._family.published((one.verdict.session_id for one in evaluated), gone)
        self._published.update((one.verdict.session_id, one) for one in evaluated)
        return TickResult(
            verdicts=tuple([one.verdict for one in self._published.values()]),
            evaluated=tuple(one.verdict for one in evaluated),
            changes=tuple(changes),
            events=events,
            forgotten=gone,
            dropped=dict(ledger.dropped),
            flags=self._take_flags(),
            crowded=dict(ledger.crowded),
            resets=dict(ledger.resets),
            lag=ledger.lag,
            storage=stats,
            audit=entries,
            failures=self._take_failures(),
            rest=rest,
            suggestions=self._suggested.report(),
            budgets=self._shared.report(),
            held=held_now(self._holds.holds, ledger.books.budgets, now),
            holds_refused=dict(self._refusals.counts),
        )

    def apply_override(
        self, session_id: str, override: Override, rules: Rules, forget_after: float, now: float
    ) -> TickResult:
        """Apply an operator's override to a run, and evaluate it. Returns once both are stored.

        Raises OverrideRefusedError or StorageError; the override does not hold then.
        """
        run = self._known(session_id)
        if run.ended_at is not None and not run.may_be_resumed:
            state = run.attributes.state or "ended"
            raise OverrideRefusedError(Refusal.RUN_ENDED, f"run {session_id!r} has ended: {state}")
        before = run.overrides
        run.overrides = before.holding(now).after(override)
        run.revision += 1
        try:
            result = self.tick(None, rules, forget_after, now, override=(run, override))
        except BaseException:
            run.overrides = before
            raise
        verdict = self._published[session_id].verdict
        snapshot = self._ledger.snapshot(run, now)
        rules = self._suggested.rules(rules)
        effect = effect_of(override, before.holding(now), snapshot, verdict, rules)
        return dataclasses.replace(result, effect=effect)

    def top_up(
        self, asked: TopUpRequest, rules: Rules, forget_after: float, now: float
    ) -> TickResult:
        """Add to a shared budget, and evaluate the runs that share it; ``granted`` is the grant.

        The same request with the same key is the same grant. Returns once all of it is stored.
        Raises TopUpRefusedError, StorageError, and InvalidValueError where there is no reset to
        hold until; nothing is added then.
        """
        granted = self._shared.give(asked, rules, self._ledger, now)
        try:
            return self.tick(None, rules, forget_after, now, granted=granted)
        except BaseException:
            self._shared.take_back(granted)
            raise

    def reserve(self, orders: Sequence[Order], rules: Rules, now: float) -> list[Result]:
        """Do orders on reservations; return what came of each, once all of it is stored.

        No run is judged: verdicts follow from what is counted. Raises StorageError; nothing was
        done then.
        """
        # What is stored is put on a clock that was set by the next step, not by this one.
        clock_set = 0.0 if self._wall is None else self._disk.set_since(self._wall() - now)
        self._shared.begin(rules, self._ledger, now)
        holds = self._holds.holds
        holds.begin()
        try:
            found = self._reservations.take(orders, now)
            shared = self._holds.changes(NO_SHARED_CHANGES, self._disk.ahead)
            unsynced = not any(map(needs_sync, orders))
            self._storage.commit(
                Changes(self._sequence, shared=shared, unsynced=unsynced, clock_set=clock_set)
            )
        except BaseException:
            holds.undo()
            raise
        holds.end()
        holds.stored()
        return found

    def held(self, now: float) -> dict[BudgetKey, Mapping[str, Number]]:
        """Return what is held of each group of a budget of which something is."""
        return held_now(self._holds.holds, self._ledger.books.budgets, now)

    def overrides_of(
        self, session_id: str, most: int, now: float
    ) -> tuple[Overrides, list[Override]]:
        """Return the overrides that hold for a run, and the newest that were ever given for it.

        Raises OverrideRefusedError for a run that is not known, and StorageError.
        """
        run = self._known(session_id)
        given = self._storage.overrides(session_id, run.started_at, most)
        return run.overrides.holding(now), given

    def audit_log(self, query: AuditQuery) -> AuditPage:
        """Return entries of the audit log. Raises StorageError."""
        return self._storage.audit(query)

    def closed_windows(self, budget: str, groups: Sequence[Group], most: int) -> list[ClosedWindow]:
        """Return windows of a budget's groups that are over, the newest first.

        Raises StorageError.
        """
        storage = self._storage
        found = [w for group in groups for w in storage.closed_windows(budget, group, most)]
        return sorted(found, key=lambda window: (window.end, window.start), reverse=True)[:most]

    def use_by(self, label: str) -> list[OwnerUse]:
        """Return what the runs of each value of a label used, the most first."""
        stopped = {i for i, one in self._published.items() if not one.verdict.should_continue}
        ledger = self._ledger
        return use_by(label, ledger.runs.values(), ledger.families.ancestors, stopped)

    def handed_over(self, runs: Sequence[RunObservation]) -> list[HandoverOutcome]:
        """Return what became of the last state of runs that were taken in by a step before."""
        return [self._outcome_of(run) for run in runs]

    def _outcome_of(self, handed: RunObservation) -> HandoverOutcome:
        session_id = handed.session_id
        run = self._ledger.runs.get(session_id)
        if run is None or not is_shown_at(run, handed):
            return HandoverOutcome.REFUSED
        return HandoverOutcome.TAKEN if self._disk.has(run) else HandoverOutcome.NOT_STORED

    def turned_away(self, runs: Iterable[RunObservation]) -> dict[tuple[str, str], str]:
        """Return which of some runs that a step took in are not known, or not at their targets.

        (session id, target without labels) to why the ledger refused what was said of them there.
        """
        found: dict[tuple[str, str], str] = {}
        for each in runs:
            run, place = self._ledger.runs.get(each.session_id), plain_target(each.target)
            if run is None:
                found[each.session_id, place] = semconv.SESSION_LIMIT
            elif not carries(run, each.target):
                bound = not self._ledger.may_speak(each.session_id, each.target)
                reason = semconv.BOUND_ELSEWHERE if bound else semconv.CARRIED_ELSEWHERE
                found[each.session_id, place] = reason
        return found

    def seen_at(self, session_id: str) -> str:
        """Return the targets at which a run is seen; empty for one that is not known any more."""
        run = self._ledger.runs.get(session_id)
        return "" if run is None else ", ".join(sorted(run.targets))

    def is_pushed(self, session_id: str) -> bool:
        """Tell whether a run is known that was pushed."""
        run = self._ledger.runs.get(session_id)
        return run is not None and run.pushed

    def _known(self, session_id: str) -> RunTotals:
        run = self._ledger.runs.get(session_id)
        if run is None:
            raise OverrideRefusedError(Refusal.UNKNOWN_RUN, f"no run {session_id!r} is known here")
        return run

    def _evaluate(self, rules: Rules, now: float, *, every: bool) -> list[CachedVerdict]:
        """Judge every run, or those only whose last verdict does not stand any more."""
        evaluated: list[CachedVerdict] = []
        where = self._ledger.targets
        newest = where.readings
        failing, suggested = self._failing, self._suggested
        shared, shares = self._shared, self._shared.concerned
        concerned, family = bool(suggested.concerned), self._family
        related, above = family.are_there, NOTHING_ABOVE
        for session_id, run in family.in_order(self._looked_at()):
            before = self._published.get(session_id)
            if related:
                above = family.above(session_id)
            if failing.unstored and session_id in failing.unstored:
                evaluated.append(failing.evaluated(run, before, rules, now, above))
                family.note(evaluated[-1].verdict, above)
                continue
            try:
                missing = run.shown_in != newest and run.ended_at is None and not run.pushed
                if missing and run.vanished_at is not None:
                    missing = where.is_followed(session_id)
                again = every or missing or (concerned and suggested.concerns(run))
                again = again or (related and family.concerns(session_id, above, before))
                again = again or (shares and shared.concerns(run))
                if again or before is None or not before.is_current(run, now):
                    snapshot = self._ledger.snapshot(run, now, rules.ceilings)
                    if snapshot.active is not None:
                        run.note_active(snapshot.active)
                    by = suggested.rules_of(run, rules)
                    before = CachedVerdict.of(
                        run, snapshot, by, now, before, budgets=shared.of(run), above=above
                    )
                    evaluated.append(before)
                    if failing.unjudged:
                        failing.unjudged.pop(session_id, None)
            except Exception as exc:  # noqa: BLE001 - whatever it is, it costs no other run
                failing.note(session_id, FailedStep.JUDGE, exc, now)
                before = failing.evaluated(run, before, rules, now, above)
                evaluated.append(before)
            if related and before is not None:
                family.note(before.verdict, above)
        return evaluated

    def _looked_at(self) -> Collection[tuple[str, RunTotals]]:
        """Return the runs that this step looks at, by session id: nearly always all."""
        runs = self._ledger.runs
        if self._alone is None:
            return runs.items()
        return [(session_id, runs[session_id]) for session_id in self._alone if session_id in runs]

    def _retry_unstored(self) -> None:
        """Take runs that could not be stored for sound if they can be now."""
        known = self._ledger.runs
        tried = [known[ids] for ids in self._failing.unstored if ids in known]
        if tried:
            failed = unstorable(tried, (), self._disk.ahead)
            self._failing.found += [
                RunFailure(i, FailedStep.STORE, exc) for i, exc in failed.items()
            ]
            self._failing.forget_unstored(a.session_id for a in tried if a.session_id not in failed)

    def _without_unstorable(
        self,
        evaluated: list[CachedVerdict],
        changes: list[Change],
        error: Exception,
        rules: Rules,
        now: float,
    ) -> list[CachedVerdict]:
        """Return the verdicts, of runs that cannot be stored the one that says so.

        error: why nothing could be stored; raised again if no run is the cause.
        """
        live = self._ledger.runs
        verdicts = [change.verdict for change in changes]
        failed = unstorable([*self._fresh(), *self._disk.leaving], verdicts, self._disk.ahead)
        if not failed:
            raise error
        for session_id, exc in failed.items():
            if session_id in live:
                self._failing.note(session_id, FailedStep.STORE, exc, now)
            else:  # as it was stored last, it is known again when this process is started again
                self._failing.found.append(RunFailure(session_id, FailedStep.STORE, exc))
        self._disk.leave_out(failed)
        sound = [one for one in evaluated if one.verdict.session_id not in failed]
        return sound + [
            self._failing.evaluated(live[ids], self._published.get(ids), rules, now)
            for ids in failed
            if ids in live
        ]

    def _take_failures(self) -> tuple[RunFailure, ...]:
        found = (*self._ledger.failures, *self._failing.take())
        self._ledger.failures.clear()
        return found

    def _number(self, evaluated: Iterable[CachedVerdict]) -> list[Change]:
        """Give a new sequence to each verdict that says something new, else the one it had."""
        changes: list[Change] = []
        sequence = self._sequence
        for one in evaluated:
            before = self._published.get(one.verdict.session_id)
            if before is not None and before.fingerprint == one.fingerprint:
                one.verdict.number(before.verdict.sequence)
                continue
            sequence += 1
            one.verdict.number(sequence)
            changes.append(Change(None if before is None else before.verdict, one.verdict))
        return changes

    def _take_flags(self) -> tuple[Finding, ...]:
        found = tuple(self._ledger.findings)
        self._ledger.findings.clear()
        return found

    def _take_events(self, changes: Iterable[Change], gone: Iterable[str]) -> RunEvents:
        """Return who came and who went; call it once for a step that is stored."""
        runs = self._ledger.runs
        came = [change.verdict.session_id for change in changes if change.is_another_run]
        begun = {session_id: self.seen_at(session_id) for session_id in came}
        before = self._over
        looked_at = self._looked_at()
        over = {sid for sid, run in looked_at if run.ended_at is not None}
        self._over = over | (before - {sid for sid, _ in looked_at} if self._alone else set())
        ended = {
            session_id: runs[session_id].attributes.state or ""
            for session_id in sorted(over)
            if session_id in begun or session_id not in before
        }
        vanished = tuple(self._ledger.targets.vanished)
        self._ledger.targets.vanished.clear()
        return RunEvents(begun, ended, vanished, tuple(sid for sid in gone if sid not in before))

    def _fresh(self) -> list[RunTotals]:
        """Return live runs with something in them that is not on disk, and can be."""
        return self._disk.unstored(self._looked_at(), but=self._failing.unstored)

    def _commit(
        self, changes: list[Change], override: tuple[RunTotals, Override] | None, now: float
    ) -> None:
        sequence = self._sequence + len(changes)
        live = self._ledger.runs
        known: dict[str, Verdict] = {}
        if self._disk.renew():
            self._alone = None
            self._suggested.all_unstored()
            self._ledger.books.all_unstored()
            if self._audit is not None:
                self._audit.note_anew(now)
            self._shared.all_unstored()
            self._holds.holds.all_unstored()
            known = {sid: one.verdict for sid, one in self._published.items() if sid in live}
        verdicts = [*{**known, **{c.verdict.session_id: c.verdict for c in changes}}.values()]
        ends, books = self._suggested.unstored, self._ledger.books
        booked, shared = books.unstored(), self._shared.unstored
        entries: Sequence[AuditEntry] = ()
        if self._audit is not None:
            self._audit.note_groups(books.refused, now)
            given = budget_audit.given(shared, books.budgets)
            of_budgets = *budget_audit.closed(booked, now), *given
            entries = self._audit.offer(changes, live, override, of_budgets)
        self._disk.write(
            sequence, self._fresh(), live, verdicts, override, ends=ends, books=booked,
            entries=entries, shared=self._holds.changes(shared, self._disk.ahead),
        )  # fmt: skip
        books.stored()
        self._holds.holds.stored()
        self._suggested.stored(all_judged=self._alone is None)
        self._shared.stored(all_judged=self._alone is None)
        self._sequence = sequence
