"""Room of shared budgets, as a run reserves it: credit is asked for, taken, and given back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from otel_budget import BudgetExceeded, ResourceLimits, ResourceMonitor
from otel_budget.core.reasons import Reason
from otel_budget.sdk.reservations import Amounts


class Granted:
    """Credit of some tokens; more comes when it is asked for."""

    def __init__(self, tokens: int, more: int = 0) -> None:
        self.left, self.more = tokens, more
        self.used, self.fetched = 0, 0
        self.is_spent = False
        self.problem = "budget team: nothing is left: stop"

    def take(self, amounts: Amounts) -> bool:
        if amounts.tokens > self.left:
            return False
        self.left -= amounts.tokens
        return True

    def give_back(self, amounts: Amounts) -> None:
        self.left += amounts.tokens

    def settle(self, amounts: Amounts) -> None:
        self.used += amounts.tokens

    def fetch(self) -> bool:
        self.fetched += 1
        self.left, self.more = self.left + self.more, 0
        return True


@pytest.fixture
def run() -> Iterator[ResourceMonitor]:
    monitor = ResourceMonitor(ResourceLimits.only(), "shares")
    with monitor:
        yield monitor


def share(monitor: ResourceMonitor, credit: Granted) -> Granted:
    monitor._run.room.credit = credit
    return credit


def test_a_reservation_is_taken_from_the_credit_and_the_rest_goes_back(
    run: ResourceMonitor,
) -> None:
    credit = share(run, Granted(1000))
    with run.reserve(tokens=300):
        assert credit.left == 700
        run.record_operation(tokens=200, api_call=True)
    assert (credit.left, credit.used, credit.fetched) == (800, 200, 0)


def test_credit_that_lacks_is_asked_for_before_anything_is_refused(run: ResourceMonitor) -> None:
    credit = share(run, Granted(0, more=300))
    with run.reserve(tokens=300):
        pass
    assert credit.fetched == 1


def test_room_that_others_hold_is_busy_and_the_words_are_the_sidecars(
    run: ResourceMonitor,
) -> None:
    share(run, Granted(0))
    with pytest.raises(BudgetExceeded) as caught, run.reserve(tokens=300):
        pass
    assert caught.value.verdict.reason == Reason.BUDGET_BUSY
    assert caught.value.verdict.message == "budget team: nothing is left: stop"
    assert run.should_continue(), "the run may try again"


def test_what_is_more_than_is_left_is_no_wait(run: ResourceMonitor) -> None:
    credit = share(run, Granted(0))
    credit.is_spent = True
    with pytest.raises(BudgetExceeded) as caught, run.reserve(tokens=300, timeout=30):
        pass
    assert caught.value.verdict.reason == Reason.WRAP_UP


def test_use_inside_of_two_reservations_is_settled_once(run: ResourceMonitor) -> None:
    credit = share(run, Granted(1000))
    with run.reserve(tokens=500), run.reserve(tokens=100):
        run.record_operation(tokens=250, api_call=True)
    assert credit.used == 250


def test_coroutines_ask_for_it_too(run: ResourceMonitor) -> None:
    credit = share(run, Granted(0, more=300))

    async def call() -> None:
        async with run.reserve(tokens=300):
            assert credit.left == 0

    asyncio.run(call())
    assert credit.fetched == 1
