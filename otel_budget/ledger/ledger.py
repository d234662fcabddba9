"""The ledger: every run that was seen, and what each has used.

Runs are told apart by session id and start time. Another start time under a known id is another
run: it takes the place of one that is over, is counted together with one that is alive, or is a
leftover and refused (rivals.py). Readings only ever raise what is known to be used.

Runs that are not there any more without having said that they end are in whereabouts.py.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.core.bindings import UNBOUND
from otel_budget.core.observation import plain_target
from otel_budget.core.verdict import Reason
from otel_budget.ledger.absences import Absences
from otel_budget.ledger.active import active_of
from otel_budget.ledger.arrivals import KEEP_ENDED, Arrivals
from otel_budget.ledger.completeness import completed
from otel_budget.ledger.failure import Failure, Place
from otel_budget.ledger.flag import Flag, Kind
from otel_budget.ledger.owners import carries, has_owner, has_stranger, is_free, leave_out
from otel_budget.ledger.process import COUNTED, cannot_be
from otel_budget.ledger.restarts import NO_RESTARTS, restarts_after
from otel_budget.ledger.rivals import Rival, are_both_alive, is_newer, is_old, join, replaces
from otel_budget.ledger.run import NOTHING_NEW, RunTotals
from otel_budget.ledger.snapshot import RunSnapshot
from otel_budget.ledger.usage_at_progress import used_at_progress
from otel_budget.ledger.whereabouts import Whereabouts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from otel_budget.core.bindings import Bindings
    from otel_budget.core.observation import Observation, RunObservation
    from otel_budget.core.usage import Number
    from otel_budget.ledger.run import Observed

#: Other runs under one id that are watched at most; each until it was silent for so many seconds.
_RIVALS_MOST, _RIVALS_KEPT = 8, 600.0
#: Refusals that are kept in mind so as to be told once.
_REFUSED_KEPT = 10_000


class Ledger:
    """Every live run by session id."""

    def __init__(self) -> None:
        """Begin empty."""
        self.accounts: dict[str, RunTotals] = {}
        self.absences = Absences()
        self.superseded: list[RunTotals] = []
        """Accounts closed by a new run under the same id, until the store has taken them."""
        self.dropped: Counter[str] = Counter()
        """Reason to number of samples refused."""
        self.resets: Counter[str] = Counter()
        """``counter`` (a value dropped) or ``incarnation`` (a new process) to number seen."""
        self.flags: list[Flag] = []
        """What is strange about runs, each thing once; until somebody takes them."""
        self.failures: list[Failure] = []
        """What went wrong with single runs; until somebody takes them."""
        self._arrivals = Arrivals(self.dropped)
        self.lag = 0.0
        """Of the runs in the newest reading with any, the most that samples are late by, steadily;
        seconds."""
        self._trouble: dict[str, Reason] = {}
        self.whereabouts = Whereabouts()
        self.bindings = UNBOUND
        """Which targets may speak for which run."""
        self.adds_restarts = False
        """True if the use of runs that follow each other, and do not complete, adds up."""
        self._refused: set[tuple[str, str]] = set()
        """Target and pattern, or nothing and session id, of which a refusal was flagged."""
        self._mixed: set[str] = set()
        """Session ids of runs that were seen at targets that are refused by now."""
        self._rivals: dict[str, dict[float, Rival]] = {}
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
        trouble = {p.target: p.reason for p in reading.problems}
        if reading.asked is not None:
            others = {t: reason for t, reason in self._trouble.items() if t not in reading.asked}
            trouble = {**others, **trouble}
        else:
            self.whereabouts.note(reading)
            if reading.sessions:
                self.lag = 0.0
        self._trouble = trouble
        self.bind(reading.bindings)
        in_order = sorted(reading.sessions, key=lambda s: s.facts.incarnation_at or 0.0)
        spoken = in_order if not self.bindings else self._spoken(in_order, reading.read_at)
        for session in self._arrivals.let_in(spoken, reading, self.accounts):
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

    def _fail(self, session: RunObservation, of: Observation, error: Exception) -> None:
        """Put the run in doubt of which a sample could not be taken in.

        Not the known run for one of another start: what that used is not this one's.
        """
        self.failures.append(Failure(session.session_id, Place.ACCOUNT, error))
        start = session.facts.started_at
        account = self.accounts.get(session.session_id)
        if account is None:
            account = RunTotals(session.session_id, start, of.read_at)
            self.accounts[session.session_id] = account
        elif _is_another(account, start):
            return
        account.shown_at = of.read_at
        self.whereabouts.seen(account)
        account.fails(session.target, of.read_at)

    def _completed(self, reading: RunObservation) -> tuple[RunObservation, bool]:
        """Return a reading with what a partial answer leaves out, and whether that is nothing."""
        account = self.accounts.get(reading.session_id)
        if account is not None and _is_another(account, reading.facts.started_at):
            rival = self._rivals.get(reading.session_id, {}).get(reading.facts.started_at or 0.0)
            account = None if rival is None else rival.account
        return completed(account, reading)

    def _spoken(self, sessions: Iterable[RunObservation], now: float) -> Iterator[RunObservation]:
        """Yield those that their targets may speak for, as of each."""
        for session in sessions:
            try:
                refused = self._refuses(session, now)
            except Exception as exc:  # noqa: BLE001 - as in apply; nor is it known who may speak
                self.failures.append(Failure(session.session_id, Place.ACCOUNT, exc))
                continue
            if not refused:
                yield session

    def bind(self, bindings: Bindings | None) -> None:
        """Listen about each run only to targets that may speak for it. None: as it is."""
        if bindings is None or bindings is self.bindings or bindings == self.bindings:
            return
        self.bindings = bindings
        self._refused.clear()
        self._mixed = {sid for sid, account in self.accounts.items() if self._is_mixed(account)}
        for session_id in list(self._rivals):
            if any(self._is_mixed(rival.account) for rival in self._rivals[session_id].values()):
                del self._rivals[session_id]

    def may_speak(self, session_id: str, target: str) -> bool:
        """Tell whether no binding keeps a target from speaking for a run."""
        return self.bindings.refusing(session_id, plain_target(target)) is None

    def _is_mixed(self, account: RunTotals) -> bool:
        return has_stranger(account, partial(self.may_speak, account.session_id))

    def _refuses(self, session: RunObservation, now: float) -> bool:
        """Tell whether a target may not speak for a run; count it, and flag it once."""
        session_id, target = session.session_id, plain_target(session.target)
        pattern = self.bindings.refusing(session_id, target)
        if len(self._refused) >= _REFUSED_KEPT:
            self._refused.clear()
        samples = max(1, len(session.counters))
        if pattern is not None:
            self.dropped[semconv.BOUND_ELSEWHERE] += samples
            if (target, pattern) not in self._refused:
                self._refused.add((target, pattern))
                owners = ", ".join(sorted(self.bindings.owners[pattern])) or "no target there is"
                said = owners if pattern == session_id else f"{owners} as {pattern}"
                self.flags.append(Flag(Kind.BOUND_ELSEWHERE, session_id, (target,), said=said))
            return True
        account = self.accounts.get(session_id)
        if account is None or not self.bindings.first_owns or carries(account, session.target):
            return False
        silent, down = self._silent_for(account, now), self._is_down(account)
        if self.bindings.pattern_of(session_id) or is_free(account, silent, down=down):
            return False
        self.dropped[semconv.CARRIED_ELSEWHERE] += samples
        if ("", session_id) not in self._refused:
            self._refused.add(("", session_id))
            said = ", ".join(sorted(account.targets))
            self.flags.append(Flag(Kind.CARRIED_ELSEWHERE, session_id, (target,), said=said))
        return True

    def _freed(self, account: RunTotals, reading: RunObservation, of: Observation) -> RunTotals:
        """Return the account of a run of which an owner is seen, without what strangers say of it.

        One that only strangers showed gives its place to another run at once.
        """
        may_speak = partial(self.may_speak, account.session_id)
        if has_owner(account, may_speak):
            leave_out(account, may_speak)
        elif _is_another(account, reading.facts.started_at):
            successor = _opened(reading, of)
            self._replace(account, successor)
            successor.restarts, account = NO_RESTARTS, successor
        else:
            return account
        self._mixed.discard(account.session_id)
        return account

    def _observe(self, reading: RunObservation, of: Observation, *, confirmed: bool) -> None:
        """Take in one run. of: the reading it is from."""
        account = self.accounts.get(reading.session_id)
        if account is not None and self._mixed and reading.session_id in self._mixed:
            account = self._freed(account, reading, of)
        start = reading.facts.started_at
        if (account is None or start != account.started_at) and cannot_be(start, reading):
            ahead, start = bool(start), None
            reading = reading._replace(facts=reading.facts._replace(started_at=None))
        else:
            ahead = False
        if account is None:
            account = self.accounts[reading.session_id] = _opened(reading, of)
        elif start != account.started_at and _is_another(account, start):
            self._observe_rival(account, reading, of, confirmed=confirmed)
            return
        elif account.started_at is None and account.has_been_away(reading.sampled_at):
            account.known_from = of.read_at  # without a start time it may be another run
        account.expected_gap, account.shown_at = of.spacing, of.read_at
        self.whereabouts.seen(account)
        seen = account.observe(reading, confirmed=confirmed, read_at=of.read_at)
        if account.failing:
            account.works(reading.target)
        if seen is not NOTHING_NEW:
            self._note(seen, account)
        if ahead:
            self.dropped[semconv.IMPLAUSIBLE] += 1
            self._flag(Kind.START_AHEAD, account)
        self.lag = max(self.lag, account.lag.seconds)
        if self._rivals:
            self._settle(account)

    def _note(self, seen: Observed, account: RunTotals) -> None:
        if seen.resets:
            self.resets[semconv.COUNTER_RESET] += seen.resets
        if seen.replaced:
            self.resets[semconv.NEW_INCARNATION] += 1
        if seen.concurrent:
            self._flag(Kind.CONCURRENT, account)
        if seen.goes_on:
            self._flag(Kind.GOES_ON, account)
        if seen.second is not None:
            self._flag(seen.second, account)
        for resource in sorted(seen.alternating):
            self._flag(Kind.ALTERNATING, account, resource)

    def _flag(self, kind: Kind, account: RunTotals, what: str = "", said: str = "") -> None:
        targets = {t for i in account.incarnations.values() for t in i.views}
        self.flags.append(Flag(kind, account.session_id, tuple(sorted(targets)), what, said))

    def _observe_rival(
        self, account: RunTotals, reading: RunObservation, of: Observation, *, confirmed: bool
    ) -> None:
        """Take in a sample of another run under a known id."""
        if is_old(account, reading):
            self.dropped[semconv.OLD_RUN] += max(1, len(reading.counters))
            return
        session_id, start = reading.session_id, reading.facts.started_at or 0.0
        rivals = self._rivals.get(session_id, {})
        rival = rivals.get(start)
        if rival is None:
            if not self._arrivals.may_begin(reading, of):
                return
            self._rivals[session_id] = rivals
            if len(rivals) >= _RIVALS_MOST:
                del rivals[min(rivals, key=lambda known: rivals[known].account.heard_at)]
            rival = rivals[start] = Rival(_opened(reading, of))
        rival.account.expected_gap = of.spacing
        self.whereabouts.seen(rival.account)
        rival.observe(reading, of.read_at, confirmed=confirmed, since=account.first_seen_at)
        if rival.live:  # also if it says that it is over, and goes on
            reading = reading._replace(facts=rival.account.facts)
        absent, down = self.absences.since(account.heard_at), self._is_down(account)
        if replaces(
            account, reading, confirmed=confirmed, moved=rival.moved, absent=absent, down=down
        ):
            self._replace(account, rival.account)
        elif not (self._settle(account) or rival.moved) and (
            start in account.superseded or not is_newer(account, reading)
        ):
            self.dropped[semconv.OLD_RUN] += max(1, len(reading.counters))

    def _settle(self, account: RunTotals) -> bool:
        """Count those together with a run that are found to be alive beside it."""
        rivals = self._rivals.get(account.session_id, {})
        joining = [rival for rival in rivals.values() if are_both_alive(account, rival)]
        for rival in joining:
            if not _is_another(account, rival.account.started_at):
                continue  # it came with one before it
            join(account, rival.account)
            self._flag(Kind.CONCURRENT, account)
        for start in [s for s in rivals if not _is_another(account, s)]:
            del rivals[start]
        if not rivals:
            self._rivals.pop(account.session_id, None)
        return bool(joining)

    def _replace(self, account: RunTotals, successor: RunTotals) -> None:
        """Let a run that is over go; it is watched for a while, in case it is not."""
        self.superseded.append(account)
        successor.follow(account)
        successor.restarts = restarts_after(account, successor, any_length=self.adds_restarts)
        if successor.restarts.are_a_loop and not self.adds_restarts:
            self._flag(Kind.RESTARTS, successor, said=_row(successor))
        self.accounts[account.session_id] = successor
        rivals = self._rivals.setdefault(account.session_id, {})
        for start in (successor.started_at, *successor.also):
            rivals.pop(start, None)  # type: ignore[arg-type] # None is no key
        if account.ended_at is None:
            rival = Rival(account)
            rivals |= {s: rival for s in (account.started_at, *account.also) if s is not None}
        if not rivals:
            del self._rivals[account.session_id]

    def takes_over(self, reading: RunObservation, *, confirmed: bool = True) -> bool:
        """Tell whether a reading is of another run than the known one, and of one that follows it.

        Never one whose sample is old beside the known run's.
        """
        account, start = self.accounts.get(reading.session_id), reading.facts.started_at
        if account is None or not _is_another(account, start):
            return False
        absent, down = self.absences.since(account.heard_at), self._is_down(account)
        return replaces(account, reading, confirmed=confirmed, absent=absent, down=down)

    def adopt(self, account: RunTotals, now: float) -> None:
        """Take in an account from the store; somebody listens to it again from now on."""
        account.watch_from(now)
        if self.bindings and self._is_mixed(account):
            self._mixed.add(account.session_id)
        known = self.accounts.get(account.session_id)
        if known is not None and known is not account:
            self._replace(known, account)
            self.superseded.pop()
        self.accounts[account.session_id] = account

    def balances(self, now: float) -> Iterator[RunSnapshot]:
        """Yield the balance of every run as of ``now``."""
        for account in self.accounts.values():
            yield self.balance(account, now)

    def balance(
        self, account: RunTotals, now: float, ceilings: Collection[str] = ()
    ) -> RunSnapshot:
        """Return the balance of one run as of ``now``. ceilings: resources with one for all runs.

        Its active time is worked out where there is a limit on it.
        """
        limited = (
            semconv.ACTIVE_DURATION in account.facts.limits
            or account.orders
            or (semconv.ACTIVE_DURATION in ceilings)
        )
        used: dict[str, Number] = {semconv.DURATION: account.duration(now), **account.totals()}
        at_progress = used_at_progress(account)
        if self.adds_restarts and account.restarts.number:
            before = account.restarts
            used = {**before.used, **before.added_to(used)}
            at_progress = before.added_to(at_progress)
        rates = {
            resource: rate
            for resource in COUNTED
            if (state := account.rates.get(resource)) is not None
            and (rate := state.per_second(now)) is not None
        }
        if account.ended_at is None:
            rates[semconv.DURATION] = 1.0
        since, watched_from = account.implausible_since, account.watched_from
        trouble = self._account_trouble(account)
        facts = account.facts
        if account.shown_in != self.whereabouts.readings or account.vanished_at is not None:
            if self.whereabouts.has_vanished(account, trouble, now):
                facts = facts._replace(state=semconv.VANISHED)
            elif account.lost_target_at is not None:
                trouble = trouble or Reason.SOURCE_ERROR
        active, heard = active_of(account, now) if limited else (None, None)
        return RunSnapshot(
            session_id=account.session_id,
            started_at=account.started_at,
            used=used,
            facts=facts,
            rates=rates,
            sampled_at=account.sampled_at,
            silent_for=max(0.0, now - account.heard_at),
            gap=account.gap(),
            trouble=trouble,
            implausible_for=(
                None if since is None else max(0.0, now - since - self.absences.since(since))
            ),
            ended=account.ended_at is not None,
            listened_for=max(0.0, now - watched_from - self.absences.since(watched_from)),
            doubt=account.doubt,
            orders=account.orders,
            active=active,
            active_when_heard=heard,
            unheard_for=self.absences.since(account.heard_at),
            lag=account.lag.seconds,
            also_started_at=account.also,
            used_at_progress=at_progress,
            failing_for=self._failing_for(account, now) if account.failing else None,
        )

    def _failing_for(self, account: RunTotals, now: float) -> float:
        since = min(account.failing.values())
        return max(0.0, now - since - self.absences.since(since))

    def _silent_for(self, account: RunTotals, now: float) -> float:
        """Return seconds without a confirmed sample in which somebody listened."""
        silent = account.silent_for(now)
        return silent - self.absences.since(now - silent)

    def forget(
        self, now: float, forget_after: float, hold: float = math.inf, decided: float = 0.0
    ) -> list[RunTotals]:
        """Take out and return the runs that ended a while ago, or were silent for too long.

        hold: seconds for which the verdict on a run that vanished is held; all hear what follows.
        decided: seconds, from when a run's data are stale by its own pace, until all that follows
        from it was decided and heard: none is forgotten before.
        """
        keep = hold + KEEP_ENDED
        gone = []
        for account in self.accounts.values():
            try:
                if self._is_over(account, now, forget_after, keep, decided):
                    gone.append(account)
            except Exception as exc:  # noqa: BLE001 - it is kept, and costs no other run
                self.failures.append(Failure(account.session_id, Place.FORGET, exc))
        for account in gone:
            del self.accounts[account.session_id]
            self._mixed.discard(account.session_id)
        for session_id, rivals in list(self._rivals.items()):
            heard = [rival.account.heard_at for rival in rivals.values()]
            if session_id not in self.accounts or now - max(heard) > _RIVALS_KEPT:
                del self._rivals[session_id]
        return gone

    def _account_trouble(self, account: RunTotals) -> Reason | None:
        """Return the trouble of a run if all targets of its newest incarnation have one."""
        if account.lacking:
            return Reason.PARTIAL_DATA
        if not self._trouble:
            return None
        troubles = [self._trouble_at(target) for target in account.targets]
        if not troubles or None in troubles:
            return None
        return min(t for t in troubles if t is not None)

    def _is_down(self, account: RunTotals) -> bool:
        """Tell whether all targets of a run give nothing."""
        return all(
            self._trouble_of(target) is Reason.SOURCE_ERROR or self.whereabouts.is_down(target)
            for target in account.targets
        )

    def _trouble_at(self, target: str) -> Reason | None:
        return self._trouble_of(target) or self._trouble.get("")

    def _trouble_of(self, target: str) -> Reason | None:
        """Return the trouble that a target has by itself."""
        return self._trouble.get(target) or self._trouble.get(plain_target(target))

    def _is_over(
        self,
        account: RunTotals,
        now: float,
        forget_after: float,
        keep_vanished: float,
        decided: float,
    ) -> bool:
        if account.ended_at is not None:
            # One that went on before may do so again, for as long as its page is there.
            last = max(account.ended_at, account.shown_at) if account.went_on else account.ended_at
            return now - last > KEEP_ENDED
        if account.vanished_at is not None and now - account.vanished_at > keep_vanished:
            return True
        silent = min(account.silent_for(now), now - account.shown_at)
        if silent <= forget_after:
            return False
        least = decided + account.lag.seconds + account.silence if decided else 0.0
        return self._silent_for(account, now) > max(forget_after, least)


def _is_another(account: RunTotals, start: float | None) -> bool:
    """Tell whether a start is of another run than those that are known to be alive."""
    own = account.started_at
    return own != start and None not in (own, start) and start not in account.also


def _opened(reading: RunObservation, of: Observation) -> RunTotals:
    """Return an account for a run that was just seen for the first time."""
    account = RunTotals(reading.session_id, reading.facts.started_at, reading.sampled_at)
    account.known_from = of.read_at
    if of.read_at - reading.sampled_at > of.spacing:
        account.watched_from = of.read_at  # its sample is old, and nobody waited for another yet
    return account


def _row(account: RunTotals) -> str:
    """Say what the runs before one used."""
    row = account.restarts
    used = ", ".join(f"{resource} {total:,}" for resource, total in sorted(row.used.items()))
    return f"{row.number} runs within {account.first_seen_at - row.since:.0f} s ({used})"
