"""Reservations in the budgets that runs share: what is asked for is held, or refused.

Several come in one step, and are stored in one commit, before any of them is answered. What is held
makes admission stricter and nothing else: verdicts follow from what is counted alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_budget.core.budget import TOKEN_KINDS, WHOLE_WEIGHT, WindowKind
from otel_budget.core.budget_json import local_time
from otel_budget.core.reservation import ReservationRefusal, ReservationRefusedError
from otel_budget.ledger.holds import MOST_OF_RUN, Claim, Hold, Holds, HoldState
from otel_budget.policy.reservations import Refused, Room, refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from otel_budget.core.budget import Budget, BudgetKey
    from otel_budget.core.quantities import Number
    from otel_budget.core.reservation import ReservationRequest
    from otel_budget.core.verdict import BudgetState
    from otel_budget.ledger.ledger import Ledger
    from otel_budget.ledger.run import RunTotals
    from otel_budget.sidecar.hold_refusals import HoldRefusals
    from otel_budget.sidecar.shared_budgets import SharedBudgets

#: Seconds after which it is worth to ask again for what others hold: most commit before their lease
#: is over.
_RETRY_MOST, _RETRY_LEAST = 1.0, 0.05
#: A hold of a rolling window leaves it with the next of so many parts of the window.
_ROLLING_PARTS: Final = 60


class Reserve(NamedTuple):
    """Asks for a reservation."""

    id: str
    """Of the hold, if it is a new one."""
    request: ReservationRequest


class Commit(NamedTuple):
    """Says what was used of one."""

    id: str
    used: Mapping[str, Number]
    seconds_ago: float
    """When the last of it was recorded."""


class Extend(NamedTuple):
    """Asks for more time."""

    id: str
    lease_seconds: float


class Release(NamedTuple):
    """Gives one back."""

    id: str


Order = Reserve | Commit | Extend | Release


def needs_sync(order: Order) -> bool:
    """Tell whether an order has to outlast a machine that fails in the next moment.

    What was used, or is given back, need not: without it more is held, until the lease ends or a
    sample shows the use.
    """
    return isinstance(order, Reserve | Extend)


class Reserved(NamedTuple):
    """How a reservation stands after an order."""

    hold: Hold
    lease_left: float
    """Seconds."""


Result = Reserved | ReservationRefusedError


class Reservations:
    """Does orders on the holds of one ledger. Used from one thread at a time."""

    def __init__(
        self, holds: Holds, shared: SharedBudgets, ledger: Ledger, refusals: HoldRefusals
    ) -> None:
        """Take the parts. refusals: what is refused is noted there."""
        self.holds = holds
        self._shared, self._ledger, self._refusals = shared, ledger, refusals

    def take(self, orders: Sequence[Order], now: float) -> list[Result]:
        """Do some orders, and return what came of each, in their order. Nothing is stored yet."""
        self.holds.pass_time(now)
        found: list[Result] = []
        for order in orders:
            try:
                hold = self._one(order, now)
            except ReservationRefusedError as exc:
                found.append(exc)
            else:
                found.append(Reserved(hold, hold.lease_left(now)))
        return found

    def settle(self, now: float) -> None:
        """Let go what is counted by now, and what is over; once use was taken in."""
        self.holds.pass_time(now)
        known: dict[tuple[str, float | None], float | None] = {}

        def counted_up_to(hold: Hold) -> float | None:
            of = hold.session_id, hold.started_at
            if of not in known:
                known[of] = self._counted_up_to(hold)
            return known[of]

        self.holds.count(counted_up_to, now)

    def _counted_up_to(self, hold: Hold) -> float | None:
        run = self._ledger.runs.get(hold.session_id)
        if run is None or run.started_at != hold.started_at or run.implausible_since is not None:
            return None  # what is implausible was seen, and not counted
        return min([process.last_at for process in run.speakers], default=None)

    def _one(self, order: Order, now: float) -> Hold:
        if isinstance(order, Reserve):
            return self._reserve(order, now)
        hold = self.holds.get(order.id)
        if hold is None:
            detail = f"no reservation {order.id!r} is known here, or not any more"
            raise ReservationRefusedError(ReservationRefusal.UNKNOWN, detail)
        if isinstance(order, Commit):
            return self._commit(hold, order, now)
        if isinstance(order, Extend):
            return self._extend(hold, order, now)
        if hold.state is HoldState.HELD:
            return self.holds.release(hold, now)
        if hold.state in (HoldState.RELEASED, HoldState.ENDED):
            return hold
        raise _committed(hold)

    def _reserve(self, order: Reserve, now: float) -> Hold:
        asked = order.request
        known = self.holds.of_key(asked.key)
        if known is not None:
            if known.asked != asked.asked:
                detail = "the Idempotency-Key names another reservation: take a new one for each"
                raise ReservationRefusedError(ReservationRefusal.KEY_REUSED, detail)
            return known
        run = self._run(asked.session_id)
        rooms = self._rooms(run, now)
        why = refused(asked.amounts, rooms)
        if why is not None:
            self._refusals.note(why, asked.session_id, now)
            raise self._error(why, now)
        if not self.holds.has_room(asked.session_id):
            detail = (
                f"run {asked.session_id!r} has {MOST_OF_RUN:,} reservations, or there are too many "
                "in all: commit or release some"
            )
            raise ReservationRefusedError(ReservationRefusal.TOO_MANY, detail)
        hold = Hold(
            order.id, asked.key, asked.asked, asked.session_id, run.started_at, asked.amounts,
            tuple([room.claim for room in rooms]), asked.lease_seconds, now + asked.lease_seconds,
        )  # fmt: skip
        self.holds.add(hold)
        return hold

    def _commit(self, hold: Hold, order: Commit, now: float) -> Hold:
        if hold.state in (HoldState.COMMITTED, HoldState.COUNTED):
            if {**hold.amounts, **order.used} == dict(hold.used):
                return hold
            raise _committed(hold)
        if hold.state is HoldState.RELEASED:
            detail = "this reservation was given back: nothing of it can have been used"
            raise ReservationRefusedError(ReservationRefusal.RELEASED, detail)
        done = self.holds.commit(hold, order.used, now - order.seconds_ago, now)
        # A sample may have shown it already.
        return self.holds.count_one(done, self._counted_up_to, now)

    def _extend(self, hold: Hold, order: Extend, now: float) -> Hold:
        if hold.state is HoldState.HELD:
            return self.holds.extend(hold, order.lease_seconds, now)
        if hold.state is HoldState.ENDED:
            detail = "its lease has ended, and others may have the room: reserve anew"
            raise ReservationRefusedError(ReservationRefusal.LEASE_ENDED, detail)
        if hold.state is HoldState.RELEASED:
            detail = "this reservation was given back: reserve anew"
            raise ReservationRefusedError(ReservationRefusal.RELEASED, detail)
        raise _committed(hold)

    def _run(self, session_id: str) -> RunTotals:
        run = self._ledger.runs.get(session_id)
        if run is None:
            detail = f"no run {session_id!r} is known here"
            raise ReservationRefusedError(ReservationRefusal.UNKNOWN_RUN, detail)
        if run.ended_at is not None and not run.may_be_resumed:
            state = run.attributes.state or "ended"
            detail = f"run {session_id!r} has ended: {state}"
            raise ReservationRefusedError(ReservationRefusal.RUN_ENDED, detail)
        return run

    def _rooms(self, run: RunTotals, now: float) -> list[Room]:
        rooms = []
        for budget, group, state in self._shared.standings(run):
            by_itself = run.session_id if budget.window.kind is WindowKind.RUN else ""
            until = _until(budget, state, now)
            claim = Claim(budget.name, group, by_itself, until, _dearest(budget))
            held = self.holds.held(budget.name, group, now, by_itself)
            rooms.append(Room(claim, state, held))
        return rooms

    def _error(self, why: Refused, now: float) -> ReservationRefusedError:
        states = [room.state for room in why.rooms]
        members: dict[str, Any] = {"budgets": [state.origin for state in states]}
        if why.refusal is ReservationRefusal.BUSY:
            wait = min(_RETRY_MOST, max(_RETRY_LEAST, self.holds.next_end(now)))
            members["retry_after"] = round(wait, 3)
        else:
            members["resets_at"] = _latest(states)
        return ReservationRefusedError(why.refusal, why.detail, **members)


def held_now(
    holds: Holds, budgets: Iterable[Budget], now: float
) -> dict[BudgetKey, Mapping[str, Number]]:
    """Return what is held of each group of which something is."""
    limited = {budget.name: budget.limits for budget in budgets}
    found: dict[BudgetKey, Mapping[str, Number]] = {}
    for name, group in holds.places():
        amounts = holds.held(name, group, now)
        kept = {r: amount for r, amount in amounts.items() if r in limited.get(name, ())}
        if kept:
            found[name, group] = kept
    return found


def _committed(hold: Hold) -> ReservationRefusedError:
    detail = f"what was used of reservation {hold.id!r} was said before, otherwise"
    return ReservationRefusedError(ReservationRefusal.COMMITTED, detail)


def _until(budget: Budget, state: BudgetState, now: float) -> float:
    """Return when the window that admits something ends, as far as that is known."""
    window = budget.window
    if window.kind is WindowKind.ROLLING:
        part = window.seconds / _ROLLING_PARTS
        return math.ceil((now + window.seconds) / part) * part
    if window.kind is WindowKind.FIRST_USE and not math.isfinite(state.window.end):
        part = window.seconds / _ROLLING_PARTS  # it opens with the use that is held for
        return math.ceil((now + window.seconds) / part) * part
    return math.inf if window.kind is WindowKind.RUN else state.window.end


def _dearest(budget: Budget) -> int:
    """Return what a token counts at most, in thousandths."""
    if not budget.weights:
        return WHOLE_WEIGHT
    return max(WHOLE_WEIGHT, *(budget.weights.get(kind, WHOLE_WEIGHT) for kind in TOKEN_KINDS))


def _latest(states: Sequence[BudgetState]) -> str | None:
    """Return when the last of them is reset, with its offset; None if one of them never is."""
    resets = [(state.window.resets_at, state) for state in states]
    known = [(at, state.tz) for at, state in resets if at is not None]
    if len(known) < len(resets):
        return None
    at, tz = max(known, key=lambda each: each[0])
    return local_time(at, tz)
