"""Whether what a run wants to use fits into what is left of the budgets that it shares.

It fits if what is used, what is held and what is wanted are together no more than each limit. A
budget that is used up lets nothing in. All budgets have to let it in, or none holds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otel_budget.core.reservation import ReservationRefusal
from otel_budget.core.resources import ZERO
from otel_budget.core.verdict import LimitStatus
from otel_budget.ledger.holds import weighed
from otel_budget.policy.budget_words import moment, of_group
from otel_budget.policy.budgets import plus
from otel_budget.policy.format import amount

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import BudgetState
    from otel_budget.ledger.holds import Claim


class Room(NamedTuple):
    """One budget of a run: how it stands, and what is held of it."""

    claim: Claim
    state: BudgetState
    held: Mapping[str, Number]
    """Tokens as they are weighed."""


class Refused(NamedTuple):
    """What does not let it in."""

    refusal: ReservationRefusal
    """EXCEEDED or BUSY."""
    rooms: tuple[Room, ...]
    """The budgets that are to blame."""
    detail: str
    """One line for people, with the numbers."""


def refused(wanted: Mapping[str, Number], rooms: Iterable[Room]) -> Refused | None:
    """Return what refuses an amount per resource; None if it fits everywhere."""
    rooms = tuple(rooms)
    full = tuple([room for room in rooms if _lacks(room, wanted, {})])
    if full:
        return Refused(ReservationRefusal.EXCEEDED, full, _said(full, wanted, held=False))
    busy = tuple([room for room in rooms if _lacks(room, wanted, room.held)])
    if busy:
        return Refused(ReservationRefusal.BUSY, busy, _said(busy, wanted, held=True))
    return None


def _lacks(room: Room, wanted: Mapping[str, Number], held: Mapping[str, Number]) -> list[str]:
    """Return the resources of which a budget has too little."""
    counted = weighed(wanted, room.claim)
    found = []
    for name, one in room.state.resources.items():
        zero = ZERO[name]
        more = plus(counted.get(name, zero), held.get(name, zero))
        if one.status is LimitStatus.EXCEEDED or plus(one.used, more) > one.limit:
            found.append(name)
    return found


def _said(rooms: tuple[Room, ...], wanted: Mapping[str, Number], *, held: bool) -> str:
    parts = []
    for room in rooms:
        counted, state = weighed(wanted, room.claim), room.state
        numbers = ", ".join(
            _numbers(name, room, counted.get(name, ZERO[name]), held=held)
            for name in _lacks(room, wanted, room.held if held else {})
        )
        resets = state.window.resets_at
        until = "" if held or resets is None else f", resets {moment(resets, state.tz)}"
        parts.append(f"budget {state.name}{of_group(state)}: {numbers}{until}")
    return "; ".join(parts)


def _numbers(name: str, room: Room, wanted: Number, *, held: bool) -> str:
    one = room.state.resources[name]
    used, limit = amount(name, one.used), amount(name, one.limit)
    others = f", {amount(name, room.held.get(name, ZERO[name]))} held by others" if held else ""
    return f"{amount(name, wanted)} of {name} do not fit: {used} of {limit} used{others}"
