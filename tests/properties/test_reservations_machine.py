"""Reservations as a state machine: held and used never pass a limit, and all of it comes back."""

from __future__ import annotations

import contextvars
from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from otel_budget import ResourceLimits, ResourceMonitor
from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.core.reasons import Reason
from otel_budget.sdk.reserving import ReserveBlock

TOKENS, CALLS, MONEY = 1000, 12, Decimal(2)
LIMITS: tuple[Decimal, ...] = (Decimal(TOKENS), Decimal(CALLS), MONEY)
AMOUNTS = st.integers(0, 400)
CENTS = st.integers(0, 60).map(lambda cents: Decimal(cents) / 100)


class Reservations(RuleBasedStateMachine):
    """A parent, and two runs below it; each hold is taken in a context of its own, as in a task."""

    def __init__(self) -> None:
        """Begin with nothing used."""
        super().__init__()
        limits = ResourceLimits.only(max_tokens=TOKENS, max_api_calls=CALLS, max_cost_usd=MONEY)
        self.parent = ResourceMonitor(limits, sidecar=None)
        lower = ResourceLimits.only(max_tokens=700)
        self.runs = [self.parent, ResourceMonitor(lower, parent=self.parent)]
        self.runs.append(ResourceMonitor(ResourceLimits.only(), parent=self.parent))
        self.held: list[tuple[int, ReserveBlock, contextvars.Context, list[Decimal]]] = []
        self.used = [[Decimal(0)] * 3 for _ in self.runs]

    def _sum(self, place: int, whose: int | None = None) -> Decimal:
        return sum(
            (rest[place] for run, _, _, rest in self.held if whose in (None, run)), Decimal(0)
        )

    @rule(run=st.integers(0, 2), tokens=AMOUNTS, cents=CENTS)
    def reserve(self, run: int, tokens: int, cents: Decimal) -> None:
        """It is refused exactly where it does not fit, and says which of the two it is."""
        used = [sum((u[place] for u in self.used), Decimal(0)) for place in range(3)]
        wanted, limits = (Decimal(tokens), Decimal(1), cents), LIMITS
        stopped = any(used[place] >= limits[place] for place in range(3)) or self.used[1][0] >= 700
        fits = all(
            used[place] + self._sum(place) + wanted[place] <= limits[place] for place in range(3)
        ) and (run != 1 or self.used[1][0] + self._sum(0, 1) + tokens <= 700)
        alone = all(used[place] + wanted[place] <= limits[place] for place in range(3)) and (
            run != 1 or self.used[1][0] + tokens <= 700
        )
        block = self.runs[run].reserve(tokens=tokens, cost_usd=cents)
        context = contextvars.Context()
        reason = ""
        try:
            context.run(block.__enter__)
        except BudgetExceeded as exc:
            reason = exc.verdict.reason
        if reason:
            assert stopped or (not fits and (reason == Reason.BUDGET_BUSY) == alone)
            return
        assert fits
        self.held.append((run, block, context, list(wanted)))

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 99), tokens=AMOUNTS, cents=CENTS)
    def record(self, which: int, tokens: int, cents: Decimal) -> None:
        """What is recorded inside, up to what is held, is held no more."""
        run, _, context, rest = self.held[which % len(self.held)]
        tokens, cents = min(tokens, int(rest[0])), min(cents, rest[2])
        monitor = self.runs[run]
        context.run(
            lambda: monitor.record_operation(tokens, api_call=bool(rest[1]), cost_usd=cents)
        )
        for place, amount in enumerate((Decimal(tokens), rest[1], cents)):
            rest[place] -= amount
            self.used[run][place] += amount

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 99))
    def leave(self, which: int) -> None:
        """What is left goes back."""
        _, block, context, _ = self.held.pop(which % len(self.held))
        context.run(block.__exit__, None, None, None)

    @invariant()
    def held_is_what_is_under_way(self) -> None:
        """And with what is used it is never above a limit."""
        room = self.parent.usage_sink.room
        assert room is not None
        found = (Decimal(room.tokens), Decimal(room.api_calls), room.cost)
        assert found == tuple(self._sum(place) for place in range(3))
        assert len(room.open) == len(self.held)
        for place, limit in enumerate(LIMITS):
            assert sum(u[place] for u in self.used) + self._sum(place) <= limit
        below = self.runs[1].usage_sink.room
        assert below is not None
        assert below.tokens == self._sum(0, 1)

    def teardown(self) -> None:
        """Close the runs."""
        for run in self.runs:
            run.close(timeout=0)


TestReservations = Reservations.TestCase
TestReservations.settings = settings(max_examples=8, stateful_step_count=20, deadline=None)
