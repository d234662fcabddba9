"""When a shared budget is used up, at the pace of late."""

from __future__ import annotations

import math

import pytest

from otel_budget import semconv
from otel_budget.core.budget import Budget, Window, WindowKind, WindowSpan
from otel_budget.core.verdict import BudgetState
from otel_budget.policy.budgets import budget_state
from otel_budget.policy.pool_pace import PoolPaces

HOUR = 3600.0
DAY = Window(WindowKind.CALENDAR, every="day")
POOL = Budget("pool", DAY, {semconv.TOKENS: 100_000})
TODAY = WindowSpan(0.0, 24 * HOUR, 24 * HOUR)
KEY = ("pool", ())


def stands(used: int, span: WindowSpan = TODAY, budget: Budget = POOL) -> BudgetState:
    """Return how the budget stands."""
    return budget_state(budget, (), {semconv.TOKENS: used}, span)


def paces(
    *samples: tuple[float, int], span: WindowSpan = TODAY, budget: Budget = POOL
) -> PoolPaces:
    """Return the paces after samples of what was used, each with its time."""
    found = PoolPaces()
    for at, used in samples:
        found.observe(KEY, budget, {semconv.TOKENS: used}, span, at)
    return found


def test_a_steady_pace_is_the_pace() -> None:
    """From the second sample on; 10 tokens a second, 70,000 left."""
    found = paces(*((HOUR + 10.0 * n, 20_000 + 100 * n) for n in range(101)))
    want = {"tokens": pytest.approx(7000.0)}
    assert found.exhaustion_seconds(KEY, stands(30_000), HOUR + 1000) == want


def test_nothing_is_told_before_anything_was_seen_to_be_spent() -> None:
    assert PoolPaces().exhaustion_seconds(KEY, stands(500), HOUR) == {}
    assert paces((HOUR, 50_000)).exhaustion_seconds(KEY, stands(50_000), HOUR + 60) == {}


def test_what_lasts_until_the_reset_does_not_run_out() -> None:
    """One token a second, 20 hours before midnight, with 99,000 left."""
    found = paces(*((4 * HOUR + 10.0 * n, 10 * n) for n in range(101)))
    assert found.exhaustion_seconds(KEY, stands(1000), 4 * HOUR + 1000) == {}


def test_a_total_runs_out_however_long_it_takes() -> None:
    span = WindowSpan(0.0)
    total = Budget("pool", Window(WindowKind.TOTAL), {semconv.TOKENS: 10**9})
    found = paces(*((10.0 * n, 10 * n) for n in range(101)), span=span, budget=total)
    state = stands(1000, span, total)
    assert found.exhaustion_seconds(KEY, state, 1000.0)["tokens"] == pytest.approx(10**9 - 1000)


def test_what_is_used_up_has_run_out_also_after_a_start() -> None:
    assert PoolPaces().exhaustion_seconds(KEY, stands(100_000), HOUR) == {"tokens": 0.0}


def test_a_pace_slackens_and_ends_where_nothing_more_is_used() -> None:
    """It is told anew meanwhile, and no more once nothing is being spent."""
    found = paces(*((HOUR + 10.0 * n, 20_000 + 100 * n) for n in range(101)))
    end = HOUR + 1000
    at_once, later, much_later = (
        found.exhaustion_seconds(KEY, stands(30_000), at).get("tokens", math.inf)
        for at in (end, end + 600, end + 3 * HOUR)
    )
    assert at_once < later < much_later == math.inf
    assert found.slackening(end + 60) == {KEY}
    assert found.slackening(end + 61) == set(), "a moment later it is the same"
    assert found.slackening(end + 3 * HOUR) == {KEY}, "that it ended is to be told"
    assert found.slackening(end + 4 * HOUR) == set()


def test_a_window_that_begins_is_no_use_that_was_taken_back() -> None:
    tomorrow = WindowSpan(24 * HOUR, 48 * HOUR, 48 * HOUR)
    found = paces(*((24 * HOUR - 1000 + 10.0 * n, 100 * n) for n in range(100)))
    found.observe(KEY, POOL, {semconv.TOKENS: 100}, tomorrow, 24 * HOUR)
    told = found.exhaustion_seconds(KEY, stands(100, tomorrow), 24 * HOUR)
    assert told == {"tokens": pytest.approx(9990.0)}


def test_room_that_comes_back_to_a_rolling_window_is_taken_off() -> None:
    """As much leaves as comes: it never runs out."""
    rolling = Budget("pool", Window(WindowKind.ROLLING, seconds=HOUR), {semconv.TOKENS: 100_000})
    found = PoolPaces()
    for n in range(200):
        at = HOUR + n
        used = 50_000 + (100 if n % 2 else 0)
        found.observe(KEY, rolling, {semconv.TOKENS: used}, WindowSpan(at - HOUR), at)
    state = stands(50_000, WindowSpan(HOUR), rolling)
    assert found.exhaustion_seconds(KEY, state, HOUR + 199).get("tokens", math.inf) > 10 * HOUR


def test_a_clock_that_was_set_back_makes_no_pace() -> None:
    found = paces((HOUR, 100), (HOUR - 600, 200))
    assert found.exhaustion_seconds(KEY, stands(200), HOUR - 600) == {}


def test_groups_that_are_gone_are_forgotten() -> None:
    found = paces((HOUR, 100), (HOUR + 10, 1100))
    assert found.exhaustion_seconds(KEY, stands(1100), HOUR + 10)
    found.keep(set())
    assert found.exhaustion_seconds(KEY, stands(1100), HOUR + 10) == {}
