"""What a call holds, and what is said where it does not fit."""

from __future__ import annotations

from decimal import Decimal

from otel_budget import semconv
from otel_budget.ledger.call_pace import CallPace
from otel_budget.policy.holding import UNKNOWN, Lack, margin, next_call


def _pace(*sizes: int, price: Decimal | None = None) -> CallPace:
    pace, tokens = CallPace(), 0
    for number, size in enumerate(sizes, start=1):
        tokens += size
        totals = {semconv.API_CALLS: number, semconv.TOKENS: tokens}
        pace.observe(totals if price is None else {**totals, semconv.COST: price * tokens}, number)
    return pace


def test_of_a_run_without_calls_nothing_is_known() -> None:
    assert next_call(CallPace(), 3) == UNKNOWN


def test_calls_of_one_size_hold_exactly_that() -> None:
    found = next_call(_pace(*[150] * 20, price=Decimal("0.001")), 2)
    assert (found.tokens, found.tokens_kept) == (150, 300)
    assert (found.cost, found.cost_kept) == (Decimal("0.15"), Decimal("0.3"))


def test_without_last_calls_nothing_is_kept_back() -> None:
    found = next_call(_pace(100, 110, 120), 0)
    assert (found.tokens_kept, found.cost_kept) == (0, Decimal(0))
    assert found.tokens is not None
    assert found.tokens > 120


def test_sizes_that_scatter_need_a_margin() -> None:
    found = next_call(_pace(*[100, 200] * 20), 0)
    one = margin(found.tokens_variance, 150, found.tokens_doubt)
    ten = margin(10 * found.tokens_variance, 1500, found.tokens_doubt)
    assert 20 < one < ten < 10 * one
    assert margin(0.0, 150, 0.0) == margin(-1e-12, 150, 0.0) == 0.0


def test_the_fewer_calls_were_seen_the_larger_is_the_margin() -> None:
    few, many = next_call(_pace(150, 150), 0), next_call(_pace(*[150] * 100), 0)
    assert few.tokens_doubt > 50 * many.tokens_doubt
    assert few.tokens_variance > many.tokens_variance


def test_words_name_all_numbers() -> None:
    busy = Lack(semconv.TOKENS, 1000, 300, 200, 600, 3, 0, is_held=True, whose="p")
    assert busy.message == (
        "tokens of run p at 300 of 1,000, 600 held by 3 calls under way; 200 is what a call is "
        "expected to use: it fits when they are over and have used less, or never"
    )
    over = Lack(semconv.COST, Decimal(1), Decimal("0.9"), Decimal("0.2"), Decimal(0), 0,
                Decimal("0.1"), is_held=False)  # fmt: skip
    assert "$0.10 kept back for the last calls; $0.20 is what" in over.message
    assert Lack(semconv.TOKENS, 5, 0, 6, 0, 0, 0, is_held=False, asked=True).is_whole
