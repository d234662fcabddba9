"""One step of the sidecar without its I/O in time: a reading in, numbered verdicts out.

The order is the promise: account, judge, number, store, and only then hand out. A step that fails
before it is stored leaves nothing half done; the next one writes what this one could not.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, NamedTuple

from otel_budget.core.override import OverrideRefusedError, Refusal
from otel_budget.core.verdict import Verdict
from otel_budget.ledger.admission import split_new_runs
from otel_budget.ledger.findings import FailedStep, RunFailure
from otel_budget.ledger.ledger import Ledger
from otel_budget.policy.override_effect import effect_of
from otel_budget.sidecar.clock import CLOCK_SET, move
from otel_budget.sidecar.failing_runs import Failing, by_wall, unstorable
from otel_budget.sidecar.storage.base import Changes, StorageError
from otel_budget.sidecar.storage.recovery import recovered
from otel_budget.sidecar.tick_result import Change, RunEvents, TickResult
from otel_budget.sidecar.verdict_cache import CachedVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from otel_budget.core.observation import Observation, RunObservation
    from otel_budget.core.override import Override, Overrides
    from otel_budget.ledger.findings import Finding
    from otel_budget.ledger.freshness import Spell
    from otel_budget.ledger.run import RunTotals
    from otel_budget.policy.verdicts import Rules
    from otel_budget.sidecar.storage.base import Restored, Storage

logger = logging.getLogger(__name__)

#: Runs that wait to be archived at most, while nothing can be stored.
_LEAVING_MOST = 20_000


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
    ) -> None:
        """Go on from what the store held. now: time on the clock all later steps use.

        wall: the system's own, which may be set while this runs; by that accounts are stored, as a
        next process begins by it. None: it is that of the steps.
        """
        self._storage, self._wall, self._ahead = storage, wall, 0.0
        self._ledger = Ledger()
        self._failing = Failing(self._ledger.absences)
        self._sequence = restored.sequence
        self._published = {v.session_id: CachedVerdict(v) for v in restored.verdicts}
        self._rules: Rules | None = None
        """Those of the last step."""
        self._stored: dict[str, _Mark] = {}
        self._leaving: list[RunTotals] = []
        self._action: tuple[RunTotals, Override] | None = None
        """What an operator orders in the present step."""
        self._over = {a.session_id for a in restored.accounts if a.ended_at is not None}
        """Session ids of live runs whose end is known."""
        for account in restored.accounts:
            self._ledger.adopt(account, now)
            self._stored[account.session_id] = _Mark.of(account)

    def ask_who_follows(self, is_followed: Callable[[str], bool]) -> None:
        """Take what tells whether somebody follows the verdict on a run."""
        self._ledger.whereabouts.is_followed = is_followed

    @property
    def sessions(self) -> int:
        """Return the number of live runs."""
        return len(self._ledger.runs)

    def missed(self, spells: Iterable[Spell]) -> None:
        """Take note that nobody listened then: no run was silent in that time."""
        for spell in spells:
            self._ledger.absences.add(spell)

    def listen_anew(self, now: float) -> None:
        """Take note that from now on runs are seen in another way, at another pace."""
        for account in self._ledger.runs.values():
            account.listened_anew(now)

    def step(
        self, reading: Observation | None, rules: Rules, forget_after: float, now: float
    ) -> TickResult:
        """Take in a reading, if there is one, and judge every run as of ``now``.

        Returns only after all of it is on disk. Raises StorageError when that fails.
        """
        # Before anything that takes time: a long step is no clock that was set.
        ahead = 0.0 if self._wall is None else self._wall() - now
        self._ledger.adds_restarts = rules.adds_restarts
        rest = None
        if reading is not None:
            reading, rest = split_new_runs(reading, self._ledger.runs)
            self._ledger.bind(reading.bindings)
            self._adopt_archived(reading, now)
            self._ledger.apply(reading)
            rest = rest and self._ledger.refuse_rest(rest)
        decided = rules.hold + (rules.stale_after or 0.0) + rules.lease
        self._leaving += self._ledger.forget(now, forget_after, rules.hold, decided)
        self._leaving += self._ledger.superseded
        del self._leaving[:-_LEAVING_MOST]
        self._ledger.superseded.clear()
        ordered = self._action is not None
        every = (reading is None and not ordered) or rules is not self._rules
        self._try_again_to_store()
        judged = self._judge(rules, now, every=every)
        changes = self._number(judged)
        self._mind_wall(ahead)
        try:
            self._commit(changes)
        except StorageError:
            raise
        except Exception as exc:  # noqa: BLE001 - raised again if it is not of single runs
            judged = self._without_unstorable(judged, changes, exc, rules, now)
            changes = self._number(judged)
            self._commit(changes)
        gone = tuple(sorted(self._published.keys() - self._ledger.runs.keys()))
        news = self._news(changes, gone)
        for session_id in gone:
            del self._published[session_id]
        self._failing.forget(gone)
        self._published.update((one.verdict.session_id, one) for one in judged)
        self._rules = rules
        return TickResult(
            verdicts=tuple(one.verdict for one in self._published.values()),
            judged=tuple(one.verdict for one in judged),
            changes=tuple(changes),
            news=news,
            forgotten=gone,
            dropped=dict(self._ledger.dropped),
            flags=self._take_flags(),
            crowded=dict(self._ledger.crowded),
            resets=dict(self._ledger.resets),
            lag=self._ledger.lag,
            storage=self._storage.stats(),
            failures=self._take_failures(),
            rest=rest,
        )

    def order(
        self, session_id: str, order: Override, rules: Rules, forget_after: float, now: float
    ) -> TickResult:
        """Take an operator's order for a run, and judge. Returns once both are on disk.

        Raises OverrideRefusedError, or StorageError; the order does not hold then.
        """
        account = self._account(session_id)
        if account.ended_at is not None:
            state = account.attributes.state or "ended"
            raise OverrideRefusedError(Refusal.RUN_ENDED, f"run {session_id!r} has ended: {state}")
        before = account.overrides
        account.overrides = before.holding(now).after(order)
        account.revision += 1
        self._action = (account, order)
        try:
            step = self.step(None, rules, forget_after, now)
        except BaseException:
            account.overrides = before
            raise
        finally:
            self._action = None
        verdict = self._published[session_id].verdict
        known = self._ledger.snapshot(account, now)
        effect = effect_of(order, before.holding(now), known, verdict, rules)
        return dataclasses.replace(step, effect=effect)

    def orders(self, session_id: str, most: int, now: float) -> tuple[Overrides, list[Override]]:
        """Return what holds for a run, and its newest orders. Raises OverrideRefusedError."""
        account = self._account(session_id)
        given = self._storage.overrides(session_id, account.started_at, most)
        return account.overrides.holding(now), given

    def seen_at(self, session_id: str) -> str:
        """Return the targets at which a run is seen; empty for one that is not known any more."""
        account = self._ledger.runs.get(session_id)
        return "" if account is None else ", ".join(sorted(account.targets))

    def _account(self, session_id: str) -> RunTotals:
        account = self._ledger.runs.get(session_id)
        if account is None:
            raise OverrideRefusedError(Refusal.UNKNOWN_RUN, f"no run {session_id!r} is known here")
        return account

    def _adopt_archived(self, reading: Observation, now: float) -> None:
        """Bring back accounts of runs that were forgotten and turn up again."""
        newest = {
            (s.session_id, s.attributes.started_at): s
            for s in reading.sessions
            if self._ledger.may_speak(s.session_id, s.target)
        }
        for session in newest.values():
            try:
                self._adopt_one(session, now)
            except StorageError:
                raise
            except Exception as exc:  # noqa: BLE001 - whatever it is, it costs no other run
                self._ledger.failures.append(
                    RunFailure(session.session_id, FailedStep.ACCOUNT, exc)
                )

    def _adopt_one(self, session: RunObservation, now: float) -> None:
        session_id, start = session.session_id, session.attributes.started_at
        live = self._ledger.runs.get(session_id)
        if live is not None and not self._ledger.takes_over(session):
            return
        account = self._take_archived(session_id, start, now)
        if account is None:
            return
        if live is not None:
            self._ledger.superseded.append(live)
        self._ledger.adopt(account, now)

    def _take_archived(self, session_id: str, start: float | None, now: float) -> RunTotals | None:
        for leaving in self._leaving:  # taken out by a step that could not be stored
            if (leaving.session_id, leaving.started_at) == (session_id, start):
                self._leaving.remove(leaving)
                return leaving
        try:
            account = self._storage.archived(session_id, start)
        except StorageError:
            raise
        except Exception as exc:  # noqa: BLE001 - it must not begin as if nothing were known
            self._ledger.failures.append(RunFailure(session_id, FailedStep.ACCOUNT, exc))
            account = recovered(session_id, start, now)
        if account is not None:
            move(account, -self._ahead)
            if account.started_at is None:
                account.known_from = now  # it was away, and may be another run
            self._stored[session_id] = _Mark.of(account, archived=True)
        return account

    def _judge(self, rules: Rules, now: float, *, every: bool) -> list[CachedVerdict]:
        """Judge every run, or those only whose last verdict does not stand any more."""
        judged: list[CachedVerdict] = []
        where = self._ledger.whereabouts
        newest = where.readings
        failing = self._failing
        for session_id, account in self._ledger.runs.items():
            before = self._published.get(session_id)
            if failing.unstored and session_id in failing.unstored:
                judged.append(failing.judged(account, before, rules, now))
                continue
            try:
                missing = account.shown_in != newest and account.ended_at is None
                if missing and account.vanished_at is not None:
                    missing = where.is_followed(session_id)
                if every or missing or before is None or not before.stands(account, now):
                    snapshot = self._ledger.snapshot(account, now, rules.ceilings)
                    if snapshot.active is not None:
                        account.note_active(snapshot.active)
                    judged.append(CachedVerdict.of(account, snapshot, rules, now, before))
                    if failing.unjudged:
                        failing.unjudged.pop(session_id, None)
            except Exception as exc:  # noqa: BLE001 - whatever it is, it costs no other run
                failing.note(session_id, FailedStep.JUDGE, exc, now)
                judged.append(failing.judged(account, before, rules, now))
        return judged

    def _try_again_to_store(self) -> None:
        """Take runs that could not be stored for sound if they can be now."""
        known = self._ledger.runs
        tried = [known[ids] for ids in self._failing.unstored if ids in known]
        if tried:
            failed = unstorable(tried, (), self._ahead)
            self._failing.found += [
                RunFailure(i, FailedStep.STORE, exc) for i, exc in failed.items()
            ]
            self._failing.forget_unstored(a.session_id for a in tried if a.session_id not in failed)

    def _without_unstorable(
        self,
        judged: list[CachedVerdict],
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
        failed = unstorable([*self._fresh(), *self._leaving], verdicts, self._ahead)
        if not failed:
            raise error
        for session_id, exc in failed.items():
            if session_id in live:
                self._failing.note(session_id, FailedStep.STORE, exc, now)
            else:  # as it was stored last, it is known again when this process is started again
                self._failing.found.append(RunFailure(session_id, FailedStep.STORE, exc))
        self._leaving = [a for a in self._leaving if a.session_id not in failed]
        sound = [one for one in judged if one.verdict.session_id not in failed]
        return sound + [
            self._failing.judged(live[ids], self._published.get(ids), rules, now)
            for ids in failed
            if ids in live
        ]

    def _take_failures(self) -> tuple[RunFailure, ...]:
        found = (*self._ledger.failures, *self._failing.take())
        self._ledger.failures.clear()
        return found

    def _number(self, judged: Iterable[CachedVerdict]) -> list[Change]:
        """Give a new sequence to each verdict that says something new, else the one it had."""
        changes: list[Change] = []
        sequence = self._sequence
        for one in judged:
            before = self._published.get(one.verdict.session_id)
            if before is not None and before.gist == one.gist:
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

    def _news(self, changes: Iterable[Change], gone: Iterable[str]) -> RunEvents:
        """Return who came and who went; call it once for a step that is stored."""
        accounts = self._ledger.runs
        came = [change.verdict.session_id for change in changes if change.is_another_run]
        begun = {session_id: self.seen_at(session_id) for session_id in came}
        before = self._over
        self._over = {sid for sid, account in accounts.items() if account.ended_at is not None}
        ended = {
            session_id: accounts[session_id].attributes.state or ""
            for session_id in sorted(self._over)
            if session_id in begun or session_id not in before
        }
        vanished = tuple(self._ledger.whereabouts.vanished)
        self._ledger.whereabouts.vanished.clear()
        return RunEvents(begun, ended, vanished, tuple(sid for sid in gone if sid not in before))

    def _mind_wall(self, ahead: float) -> None:
        """Have all accounts stored anew if the system's clock was set since they were.

        ahead: seconds by which it is ahead of the clock of the steps.
        """
        if abs(ahead - self._ahead) < CLOCK_SET:
            return
        self._ahead = ahead
        self._stored.clear()
        logger.warning(
            "the system's clock was set since this process began, by %+.0f s: times in verdicts "
            "are off by as much until it is started again, ages and durations are not", self._ahead,
        )  # fmt: skip

    def _by_wall(self, accounts: Sequence[RunTotals]) -> Sequence[RunTotals]:
        """Return accounts as they are to be stored."""
        return [by_wall(a, self._ahead) for a in accounts] if self._ahead else accounts

    def _fresh(self) -> list[RunTotals]:
        """Return live accounts with something in them that is not on disk, and can be."""
        unstored = self._failing.unstored
        return [
            account
            for session_id, account in self._ledger.runs.items()
            if not _is_stored(account, self._stored.get(session_id)) and session_id not in unstored
        ]

    def _commit(self, changes: list[Change]) -> None:
        sequence = self._sequence + len(changes)
        live = self._ledger.runs
        known: dict[str, Verdict] = {}
        if self._storage.renew():
            self._stored.clear()
            known = {sid: one.verdict for sid, one in self._published.items() if sid in live}
        fresh = self._fresh()
        gone = [
            account
            for account in self._leaving
            if self._stored.get(account.session_id) != _Mark.of(account, archived=True)
        ]
        verdicts = [*{**known, **{c.verdict.session_id: c.verdict for c in changes}}.values()]
        self._storage.commit(
            Changes(sequence, self._by_wall(fresh), self._by_wall(gone), verdicts, self._action)
        )
        self._sequence = sequence
        for account in self._leaving:
            if account.session_id not in live:
                self._stored.pop(account.session_id, None)
        self._stored.update((account.session_id, _Mark.of(account)) for account in fresh)
        self._leaving.clear()


class _Mark(NamedTuple):
    """What of an account is on disk."""

    account: RunTotals
    started_at: float | None
    revision: int
    archived: bool

    @classmethod
    def of(cls, account: RunTotals, *, archived: bool = False) -> _Mark:
        return cls(account, account.started_at, account.revision, archived)


def _is_stored(account: RunTotals, mark: _Mark | None) -> bool:
    """Tell whether a live account is on disk as it is."""
    return (
        mark is not None
        and mark.account is account
        and mark.revision == account.revision
        and mark.started_at == account.started_at
        and not mark.archived
    )
