"""The ledger: every run that was seen, and what each has used.

Runs are told apart by session id and start time. A new start time under an old id is a new run and
closes the old one; an older start time than the known one is a leftover of a run that is over, and
is refused. Readings only ever raise what is known to be used.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.ledger.account import Account
from otel_budget.ledger.incarnation import COUNTED
from otel_budget.model.verdict import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_budget.model.reading import Reading, SessionFacts, SessionReading
    from otel_budget.model.usage import Number

#: Seconds a run whose end was seen keeps its last verdict.
KEEP_ENDED = 600.0


@dataclass(frozen=True, slots=True)
class Balance:
    """What one run has used, and how well that is known: all that policy needs."""

    session_id: str
    started_at: float | None
    """Unix time at which the run began, as it says; None if it does not."""
    used: Mapping[str, Number]
    """Per resource: seconds, tokens, calls, US dollars. Absent is unknown, never 0."""
    facts: SessionFacts
    """What the run says of itself: its limits, thresholds, progress, state."""
    rates: Mapping[str, float]
    """Per resource, units per second; absent when it is not being spent."""
    sampled_at: float | None
    """When the newest sample was taken; None when there is no confirmed one yet."""
    silent_for: float
    """Seconds without a confirmed sample, while somebody listened."""
    gap: float
    """The usual seconds between two samples of this run."""
    trouble: Reason | None
    """Why the run's target gave nothing of late; None if it answers."""
    implausible_for: float | None
    """Seconds since its samples became implausible; None while they are not."""
    ended: bool
    """True when the run itself said that it is over."""


class Ledger:
    """Every live run by session id."""

    def __init__(self) -> None:
        """Begin empty."""
        self.accounts: dict[str, Account] = {}
        self.superseded: list[Account] = []
        """Accounts closed by a new run under the same id, until the store has taken them."""
        self.dropped: Counter[str] = Counter()
        """Reason to number of samples refused."""
        self.resets: Counter[str] = Counter()
        """``counter`` (a value dropped) or ``incarnation`` (a new process) to number seen."""
        self._trouble: dict[str, Reason] = {}

    def apply(self, reading: Reading) -> None:
        """Take in one reading of one source."""
        self.dropped.update(reading.dropped)
        self._trouble = {p.target: p.reason for p in reading.problems}
        in_order = sorted(reading.sessions, key=lambda s: s.facts.incarnation_at or 0.0)
        for session in in_order:
            partial = self._trouble_at(session.target) is not None
            self._observe(session, reading.spacing, confirmed=not partial)

    def _observe(self, reading: SessionReading, spacing: float, *, confirmed: bool) -> None:
        account = self.accounts.get(reading.session_id)
        start = reading.facts.started_at
        if account is not None and start is not None and account.started_at is not None:
            if start < account.started_at:
                self.dropped["old_run"] += max(1, len(reading.counters))
                return
            if start > account.started_at:
                self.superseded.append(account)
                account = None
        if account is None:
            account = Account(reading.session_id, start, reading.sampled_at)
            self.accounts[reading.session_id] = account
        account.expected_gap = spacing
        resets, replaced = account.observe(reading, confirmed=confirmed)
        if resets:
            self.resets["counter"] += resets
        if replaced:
            self.resets["incarnation"] += 1

    def adopt(self, account: Account, now: float) -> None:
        """Take in an account from the store; its silence counts from now."""
        account.watch_from(now)
        self.accounts[account.session_id] = account

    def balances(self, now: float) -> Iterator[Balance]:
        """Yield the balance of every run as of ``now``."""
        for account in self.accounts.values():
            yield self.balance(account, now)

    def balance(self, account: Account, now: float) -> Balance:
        """Return the balance of one run as of ``now``."""
        used: dict[str, Number] = {semconv.DURATION: account.duration(now), **account.totals()}
        rates = {
            resource: rate
            for resource in COUNTED
            if (state := account.rates.get(resource)) is not None
            and (rate := state.per_second(now)) is not None
        }
        if account.ended_at is None:
            rates[semconv.DURATION] = 1.0
        since = account.implausible_since
        newest = account.watched_from
        if account.sampled_at is not None:
            newest = max(newest, account.sampled_at)
        return Balance(
            session_id=account.session_id,
            started_at=account.started_at,
            used=used,
            facts=account.facts,
            rates=rates,
            sampled_at=account.sampled_at,
            silent_for=max(0.0, now - newest),
            gap=account.gap(),
            trouble=self._account_trouble(account),
            implausible_for=None if since is None else max(0.0, now - since),
            ended=account.ended_at is not None,
        )

    def forget(self, now: float, forget_after: float) -> list[Account]:
        """Take out and return the runs that ended a while ago, or were silent for too long."""
        gone = [a for a in self.accounts.values() if _is_over(a, now, forget_after)]
        for account in gone:
            del self.accounts[account.session_id]
        return gone

    def _account_trouble(self, account: Account) -> Reason | None:
        """Return the trouble of a run if all targets of its newest incarnation have one."""
        troubles = [self._trouble_at(target) for target in account.targets]
        if not troubles or None in troubles:
            return None
        return min(t for t in troubles if t is not None)

    def _trouble_at(self, target: str) -> Reason | None:
        return self._trouble.get(target) or self._trouble.get("")


def _is_over(account: Account, now: float, forget_after: float) -> bool:
    if account.ended_at is not None:
        return now - account.ended_at > KEEP_ENDED
    newest = max(account.watched_from, account.sampled_at or account.watched_from)
    return now - newest > forget_after
