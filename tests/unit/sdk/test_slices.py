"""Slices of shared budgets: taken without waiting, got ahead, given back, never past the budget."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from otel_budget import semconv
from otel_budget.core.budget import Mode, WindowSpan
from otel_budget.core.quantities import Number
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.reservation import ReservationRefusal
from otel_budget.core.verdict import BudgetResource, BudgetState, LimitStatus, Verdict
from otel_budget.sdk.reservations import Amounts
from otel_budget.sdk.sidecar_client.reservations import Held, Refused, UnsupportedError
from otel_budget.sdk.sidecar_client.slices import (
    CALLS_AHEAD,
    COMMIT_EVERY,
    IDLE,
    LEASE,
    Slices,
    _within,
)
from tests.support.sidecar_fixtures import START

CALL = Amounts(100, 1)


class Budget:
    """A sidecar with one budget of tokens; nothing is ever counted, so committed stays held."""

    def __init__(self, limit: int, clock: list[float]) -> None:
        self.limit, self.clock = limit, clock
        self.held: dict[str, tuple[int, float]] = {}
        self.used = self.asked = 0
        self.away = False
        self.newest: Mapping[str, Number] = {}
        self.problem: Exception | None = None
        self._ids = map(str, itertools.count())

    @property
    def taken(self) -> int:
        now = self.clock[0]
        return self.used + sum(tokens for tokens, until in self.held.values() if now < until)

    def _answer(self) -> None:
        self.asked += 1
        if self.problem is not None:
            raise self.problem
        if self.away:
            raise ConnectionRefusedError

    def reserve(
        self,
        session_id: str,
        amounts: Mapping[str, Number],
        lease_seconds: float,
        *,
        key: str | None = None,
    ) -> Held | Refused:
        self._answer()
        tokens, self.newest = int(amounts[semconv.TOKENS]), amounts
        if self.used + tokens > self.limit:
            return Refused(ReservationRefusal.EXCEEDED, "all is used")
        if self.taken + tokens > self.limit:
            return Refused(ReservationRefusal.BUSY, "others hold it", 1.0)
        held_id = next(self._ids)
        self.held[held_id] = tokens, self.clock[0] + lease_seconds
        return Held(held_id, lease_seconds)

    def commit(
        self, held_id: str, used: Mapping[str, Number], seconds_ago: float = 0.0
    ) -> Held | Refused:
        self._answer()
        assert seconds_ago >= 0
        self.held.pop(held_id, None)
        self.used += int(used[semconv.TOKENS])
        return Held(held_id, 300.0)

    def extend(self, held_id: str, lease_seconds: float) -> Held | Refused:
        self._answer()
        tokens, until = self.held[held_id]
        if until <= self.clock[0]:
            return Refused(ReservationRefusal.LEASE_ENDED, "over")
        self.held[held_id] = tokens, self.clock[0] + lease_seconds
        return Held(held_id, lease_seconds)

    def release(self, held_id: str) -> Refused | None:
        self._answer()
        self.held.pop(held_id)
        return None


class Run:
    """Slices of one run, tended to by hand."""

    def __init__(self, budget: Budget) -> None:
        self.budget, self.clock = budget, budget.clock
        self.due = self.told = 0
        self.slices = Slices(
            "r", budget, on_more=self._more, work=self._work, clock=lambda: self.clock[0]
        )
        self.hear()

    def _more(self) -> None:
        self.told += 1

    def _work(self, _slices: Slices) -> None:
        self.due += 1

    def hear(
        self, *, mode: Mode = Mode.ENFORCE, seconds: float = 1e9,
        limited: tuple[str, ...] = (semconv.TOKENS,),
    ) -> None:  # fmt: skip
        left = max(0, self.budget.limit - self.budget.used)
        limit = self.budget.limit
        tokens = BudgetResource(limit - left, limit, left, 0.0, LimitStatus.OK, limit, 0, 0, limit)
        resources = dict.fromkeys(limited, tokens)
        state = BudgetState("b", {}, mode, WindowSpan(0.0), resources, "budget:b")
        verdict = Verdict(
            "r", Action.CONTINUE, LimitStatus.OK, Reason.WITHIN_LIMITS, "", {}, START,
            budgets=(state,),
        )  # fmt: skip
        self.slices.heard(verdict, seconds=seconds)

    def call(self) -> bool:
        """Make a call, with a round trip if it takes one."""
        if not self.slices.take(CALL) and not (self.slices.fetch() and self.slices.take(CALL)):
            return False
        self.slices.settle(CALL)
        return True


def begin(limit: int = 100_000) -> Run:
    return Run(Budget(limit, [1000.0]))


def test_the_first_call_takes_a_round_trip_and_those_after_it_none() -> None:
    run = begin()
    assert not run.slices.take(CALL)
    assert (run.slices.lacks, run.due) == (True, 1)
    assert run.slices.fetch()
    asked = run.budget.asked
    for _ in range(CALLS_AHEAD):
        assert run.slices.take(CALL)
        run.slices.settle(CALL)
    assert (run.budget.asked, run.told) == (asked, 1)


def test_where_it_is_scarce_no_more_is_held_than_a_call_lacks() -> None:
    run = begin(1000)
    assert run.call()
    assert run.budget.taken == 100
    run.slices.tend()
    assert run.budget.taken == 100


def test_a_run_uses_all_there_is_and_no_more() -> None:
    run = begin(100_000)
    made = 0
    while run.call():
        made += 1
        run.clock[0] += 0.1
        run.slices.tend()
        run.hear()
    assert made == 1000
    run.clock[0] += IDLE
    run.slices.tend()
    run.hear()
    assert not run.call()
    assert run.slices.is_spent


def test_what_is_idle_goes_back_and_what_was_used_is_committed() -> None:
    run = begin()
    run.call()
    run.clock[0] += IDLE
    run.slices.tend()
    assert (run.budget.used, run.budget.held) == (100, {})
    run.clock[0] += COMMIT_EVERY
    assert run.slices.tend() is None


def test_the_end_of_a_run_gives_all_of_it_back() -> None:
    run = begin()
    run.call()
    run.slices.take(CALL)
    run.slices.close()
    run.slices.tend()
    assert (run.budget.used, run.budget.held) == (100, {})
    assert run.slices.take(CALL), "nothing binds a run that is over"


def test_a_lease_goes_on_while_a_call_lasts() -> None:
    run = begin()
    run.call()
    run.slices.take(CALL)
    for _ in range(20):
        run.clock[0] += LEASE / 4
        run.slices.tend()
    assert run.budget.taken >= 100


def test_a_lease_that_ended_while_the_sidecar_was_away_is_no_credit_any_more() -> None:
    run = begin()
    run.call()
    run.budget.away = True
    run.clock[0] += LEASE
    run.slices.tend()
    assert not run.slices.take(CALL)


def test_a_call_of_unknown_size_takes_what_is_left_at_most_and_gives_back_what_it_had() -> None:
    run = begin(1000)
    all_of_it = Amounts(10**9, 1)
    assert not run.slices.take(all_of_it)
    assert run.slices.fetch()
    assert run.slices.take(all_of_it)
    assert run.budget.taken == 1000
    run.slices.settle(CALL)
    run.slices.give_back(Amounts(10**9 - 100, 0))
    run.clock[0] += IDLE
    run.slices.tend()
    assert (run.budget.used, run.budget.held) == (100, {})


def test_a_known_call_that_is_larger_than_what_is_left_is_refused_for_good() -> None:
    run = begin(150)
    assert run.call()
    run.clock[0] += IDLE
    run.slices.tend()
    run.hear()
    assert not run.slices.take(CALL)
    assert run.slices.is_spent


def test_room_that_others_hold_is_not_spent() -> None:
    run = begin(1000)
    run.budget.held["other"] = 950, math.inf
    assert not run.call()
    assert (run.slices.lacks, run.slices.is_spent) == (True, False)
    run.budget.held.clear()
    assert run.call()


def test_what_a_larger_call_was_refused_for_good_says_nothing_of_a_smaller_one() -> None:
    run = begin(1000)
    run.budget.held["other"] = 750, math.inf
    run.budget.used = 200  # of which no verdict told yet
    large = Amounts(900, 1)
    assert not run.slices.take(large)
    run.slices.fetch()
    assert (run.slices.take(large), run.slices.is_spent) == (False, True)
    assert (run.slices.take(CALL), run.slices.is_spent) == (False, False)
    assert not run.slices.fetch()
    assert not run.slices.is_spent
    run.budget.held.clear()
    assert run.call()


def test_without_an_enforced_budget_or_a_verdict_in_force_nothing_binds() -> None:
    run = begin(0)
    assert not run.slices.take(CALL)
    run.hear(mode=Mode.SHADOW)
    assert run.slices.take(CALL)
    run.hear(seconds=5)
    assert not run.slices.take(CALL)
    run.clock[0] += 5
    assert run.slices.take(CALL)


def test_a_sidecar_without_reservations_is_counted_by_afterwards_and_said_once(
    caplog: object,
) -> None:
    run = begin(0)
    run.budget.problem = UnsupportedError("404")
    for _ in range(3):
        run.slices.take(CALL)
        run.slices.fetch()
        assert run.slices.take(CALL)
    said = [r.getMessage() for r in caplog.records]  # type: ignore[attr-defined] # pytest's own
    assert len([text for text in said if "counted afterwards" in text]) == 1


def test_more_than_was_taken_is_made_good_by_the_next_slice() -> None:
    run = begin(10_000)
    assert not run.slices.take(CALL)
    assert run.slices.fetch()
    assert run.slices.take(CALL)
    run.slices.settle(Amounts(700, 1))
    run.clock[0] += IDLE
    run.slices.tend()
    assert (run.budget.used, run.budget.held) == (700, {})


def test_after_a_pause_longer_than_a_lease_others_may_have_what_was_granted() -> None:
    run = begin()
    assert run.call()
    assert run.slices.take(CALL)
    run.clock[0] += LEASE  # the process was frozen, or the machine slept: nobody tended to it
    assert not run.slices.take(CALL)
    run.slices.settle(CALL)
    run.slices.tend()
    assert run.call()
    run.clock[0] += IDLE
    run.slices.tend()
    assert (run.budget.used, run.budget.taken) == (300, 300)


def test_use_of_a_lease_that_ended_is_committed_and_leaves_no_debt() -> None:
    run = begin(300)
    assert run.call()
    assert not run.slices.take(CALL)
    assert run.slices.fetch()
    assert run.slices.take(CALL)
    run.clock[0] += LEASE
    run.slices.tend()
    run.slices.settle(CALL)
    run.slices.tend()
    assert run.budget.used == 200
    assert run.slices.tend() is None
    assert run.call(), "all that is left fits exactly"
    run.clock[0] += IDLE
    run.slices.tend()
    assert (run.budget.used, run.budget.taken) == (300, 300)


def test_a_lease_is_as_old_as_the_request_for_it() -> None:
    run = begin()

    def slowly(*args: Any, **others: Any) -> Held | Refused:
        found = Budget.reserve(run.budget, *args, **others)
        run.clock[0] += 2.0
        return found

    run.budget.reserve = slowly  # type: ignore[method-assign] # an answer that comes late
    assert not run.slices.take(CALL)
    assert run.slices.fetch()
    run.clock[0] += LEASE - 2.0
    assert run.budget.taken == 0
    assert not run.slices.take(CALL)


def test_what_no_budget_limited_when_it_was_granted_is_asked_for_once_one_does() -> None:
    run = begin()
    assert run.call()
    run.hear(limited=(semconv.TOKENS, semconv.API_CALLS))
    assert not run.slices.take(CALL)
    assert run.slices.fetch()
    assert run.slices.take(CALL)
    assert run.budget.newest[semconv.API_CALLS] >= 1


@pytest.mark.parametrize("left", ["0.69999999999999996", "0.6666666666666667", "0.0000023456"])
def test_a_call_that_does_not_know_what_it_costs_asks_for_no_more_than_is_left(left: str) -> None:
    wanted = _within(Amounts(1, 1, Decimal(10**6)), (math.inf, math.inf, float(left)))
    assert Decimal(left) - Decimal("0.000002") < wanted.cost_usd <= Decimal(left)


class SlicesMachine(RuleBasedStateMachine):
    """Calls of several runs at once, time, losses and ends: together never past the budget."""

    @initialize(limit=st.sampled_from((150, 1000, 40_000)))
    def begin(self, limit: int) -> None:
        self.clock = [1000.0]
        self.budget = Budget(limit, self.clock)
        self.runs = [Run(self.budget) for _ in range(3)]
        self.open: list[tuple[Run, Amounts]] = []
        self.recorded = 0
        self.lost_lease = False

    @rule(number=st.integers(0, 2), tokens=st.sampled_from((1, 50, 100)), waits=st.booleans())
    def start(self, number: int, tokens: int, *, waits: bool) -> None:
        run, wanted = self.runs[number], Amounts(tokens, 1)
        took = run.slices.take(wanted)
        if not took and waits:
            run.slices.fetch()
            took = run.slices.take(wanted)
        if took:
            self.open.append((run, wanted))

    @rule(data=st.data(), share=st.sampled_from((0.0, 0.5, 1.0)))
    def finish(self, data: st.DataObject, share: float) -> None:
        if not self.open:
            return
        run, wanted = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        used = replace_tokens(wanted, int(wanted.tokens * share))
        self.recorded += used.tokens
        run.slices.settle(used)
        run.slices.give_back(Amounts(wanted.tokens - used.tokens, 0))

    @rule(number=st.integers(0, 2))
    def tend(self, number: int) -> None:
        self.runs[number].slices.tend()

    @rule(seconds=st.sampled_from((0.1, 0.6, 1.5, 10.0)))
    def pass_time(self, seconds: float) -> None:
        self.clock[0] += seconds
        for run in self.runs:
            run.slices.tend()

    @rule(number=st.integers(0, 2))
    def hear(self, number: int) -> None:
        self.runs[number].hear()

    @rule(away=st.booleans())
    def lose(self, *, away: bool) -> None:
        self.budget.away = away
        if not away:
            for run in self.runs:
                run.slices.tend()

    @invariant()
    def nothing_is_used_or_under_way_past_the_budget(self) -> None:
        if hasattr(self, "budget"):
            under_way = sum(wanted.tokens for _, wanted in self.open)
            assert self.recorded + under_way <= self.budget.limit


def replace_tokens(amounts: Amounts, tokens: int) -> Amounts:
    return amounts._replace(tokens=tokens)


SlicesMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSlices = SlicesMachine.TestCase
