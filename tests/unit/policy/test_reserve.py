"""What is kept back for a run's last calls, and what these may use."""

from decimal import Decimal
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.core.quantities import Number
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import LimitStatus, Verdict
from otel_budget.core.wrap_up import WrapUp
from otel_budget.ledger.call_pace import CallPace
from otel_budget.policy.bounds import Bounds, bound
from otel_budget.policy.decision_table import DECISIONS
from otel_budget.policy.reserve import (
    LAST_ANSWER,
    LastCalls,
    allowance,
    reserve_of,
    with_reserve,
)
from otel_budget.policy.verdicts import verdict_from_usage

TOKENS, CALLS, COST = semconv.TOKENS, semconv.API_CALLS, semconv.COST


def pace(*sizes: int, cost: str = "0", every: float = 10.0) -> CallPace:
    """Return the pace of a run that made calls of these tokens, each at the same cost."""
    seen, tokens = CallPace(), 0
    for number, size in enumerate(sizes, 1):
        tokens += size
        spent = Decimal(cost) * number
        seen.observe({TOKENS: tokens, CALLS: number, COST: spent}, every * number)
    return seen


def limits(**given: Any) -> Bounds:
    """Return bounds of a run's own with the usual warning line."""
    return {name: bound(name, limit, 0.8, "session") for name, limit in given.items()}


def verdict(used: dict[str, Number], bounds: Bounds, calls: int, seen: CallPace) -> Verdict:
    """Return the verdict of a run on itself that reports no progress."""
    return verdict_from_usage(
        "run", used, bounds, progress=None, completion_threshold=0.8, now=0.0,
        last_calls=LastCalls(calls, seen),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("used", "reason"),
    [
        (700, Reason.WITHIN_LIMITS),
        (800, Reason.APPROACHING_LIMIT_PROGRESS_UNKNOWN),
        (801, Reason.WRAP_UP),
        (900, Reason.WRAP_UP),
        (1000, Reason.LIMIT_EXCEEDED),
    ],
)
def test_a_run_stops_where_after_one_more_call_the_last_one_would_not_fit(
    used: int, reason: Reason
) -> None:
    said = verdict({TOKENS: used}, limits(tokens=1000), 1, pace(*[100] * 7))
    assert said.reason == reason


def test_of_api_calls_so_many_are_left_as_are_kept_back() -> None:
    bounds, seen = limits(api_calls=10), CallPace()
    reasons = [str(verdict({CALLS: n}, bounds, 2, seen).reason) for n in range(6, 11)]
    unknown = "approaching_limit_progress_unknown"
    assert reasons == ["within_limits", "within_limits", "wrap_up", "wrap_up", "limit_exceeded"]
    assert verdict({CALLS: 8}, bounds, 1, seen).reason == unknown


def test_the_warning_line_moves_to_the_reserve_only_if_that_is_lower() -> None:
    seen = pace(*[100] * 7)
    assert with_reserve(limits(tokens=1000), 4, seen).bounds[TOKENS].warning_at == 501
    assert with_reserve(limits(tokens=100_000), 4, seen).bounds[TOKENS].warning_at == 80_000
    low = verdict({TOKENS: 700}, limits(tokens=1000), 4, seen)
    assert (low.status, low.resources[TOKENS].warning_at) == (LimitStatus.APPROACHING, 501)


def test_with_nothing_kept_back_bounds_are_as_they_were() -> None:
    bounds = limits(tokens=1000, api_calls=10)
    assert with_reserve(bounds, 0, pace(100)) == (bounds, {})
    assert with_reserve(bounds, 0, pace(100)).bounds is bounds


def test_before_the_first_call_nothing_but_api_calls_is_kept_back() -> None:
    names = (TOKENS, COST, CALLS, semconv.DURATION, semconv.TOOL_CALLS)
    assert [reserve_of(name, 1, CallPace()) for name in names] == [None, None, 2.0, None, None]


def test_of_times_the_reserve_is_the_time_from_one_call_to_the_next() -> None:
    seen = pace(*[100] * 7, every=10.0)
    assert reserve_of(semconv.DURATION, 2, seen) == pytest.approx(30.0)


def test_calls_of_tools_have_no_reserve() -> None:
    seen = CallPace()
    seen.observe({CALLS: 1, semconv.TOOL_CALLS: 5, TOKENS: 10}, 1.0)
    assert reserve_of(semconv.TOOL_CALLS, 3, seen) is None
    assert allowance(1, seen, {semconv.TOOL_CALLS: 0}) is not None


def test_money_is_held_against_the_price_of_calls() -> None:
    seen = pace(*[100] * 7, cost="0.02")
    bounds = limits(cost=Decimal("0.20"))
    assert verdict({COST: Decimal("0.16")}, bounds, 1, seen).reason != Reason.WRAP_UP
    assert verdict({COST: Decimal("0.161")}, bounds, 1, seen).reason == Reason.WRAP_UP


def test_a_stop_says_what_the_last_calls_may_use() -> None:
    said = verdict({TOKENS: 850, CALLS: 8}, limits(tokens=1000), 1, pace(*[100] * 7)).wrap_up
    assert said is not None
    assert said.calls == 1
    assert said.tokens is not None
    assert 100 <= said.tokens <= 150
    assert said.cost is None  # nothing of it was ever used
    assert said.seconds == LAST_ANSWER


def test_an_allowance_never_goes_past_a_limit() -> None:
    seen = pace(*[100] * 7, cost="0.02")
    left: dict[str, Number] = {TOKENS: 101, COST: Decimal("0.0201"), semconv.DURATION: 11.0}
    assert allowance(1, seen, left) == WrapUp(1, 101, Decimal("0.0201"), 11.0)
    assert allowance(5, seen, {CALLS: 2}) == allowance(2, seen, {CALLS: 9})


@pytest.mark.parametrize(
    "left", [{TOKENS: 84}, {CALLS: 0}, {semconv.DURATION: 9.0}, {COST: Decimal("0.015")}]
)
def test_where_not_even_one_more_call_fits_nothing_is_allowed(left: dict[str, Number]) -> None:
    assert allowance(1, pace(*[100] * 7, cost="0.02"), left) is None


def test_where_the_size_of_a_call_is_not_known_the_calls_alone_are_bound() -> None:
    assert allowance(0, CallPace(), {TOKENS: 5}) == WrapUp(1)
    assert allowance(3, CallPace(), {TOKENS: 5, CALLS: 2}) == WrapUp(2)


def test_only_stops_before_a_limit_allow_last_calls() -> None:
    last = LastCalls(1, CallPace())
    allowed = [str(d[1]) for d in DECISIONS if last.allowance(d, {}) is not None]
    assert allowed == ["approaching_limit", "budget_low", "wrap_up", "operator_stop"]
    assert last.allowance((Action.STOP, Reason.BUDGET_BUSY), {}) is None


def test_headroom_ends_where_the_last_calls_begin() -> None:
    said = verdict({TOKENS: 800}, limits(tokens=1000), 1, pace(*[50] * 7))
    assert said.headroom == {TOKENS: 101}
