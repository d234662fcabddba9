"""What other programs add up in floats, and what they mean by it."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from otel_budget.core.quantities import COUNT, MONEY, SECONDS
from otel_budget.core.samples import Sample
from otel_budget.presets.counting import count
from otel_budget.presets.loader import shipped

#: What calls cost, in millionths of a dollar: so are the prices of all providers.
CALLS = st.lists(st.integers(0, 5_000_000), min_size=1, max_size=300)
SUMS = st.floats(0, 1e12, allow_subnormal=False)


def added_up(millionths: list[int]) -> float:
    """Return what a program states that adds up floats."""
    total = 0.0
    for each in millionths:
        total += each / 1_000_000
    return total


@given(CALLS)
def test_a_sum_of_floats_is_what_was_added(millionths: list[int]) -> None:
    """Not 0.10973400000000001, whatever the order."""
    exact = Decimal(sum(millionths)) / 1_000_000
    for order in (millionths, sorted(millionths), millionths[::-1]):
        assert MONEY.from_float_sum(added_up(order)) == exact
    assert "e" not in MONEY.text(MONEY.from_float_sum(added_up(millionths))).lower()


@given(SUMS, SUMS)
def test_what_only_grows_still_does(one: float, other: float) -> None:
    """Else a counter would be taken for one that was reset."""
    low, high = sorted((one, other))
    assert MONEY.from_float_sum(low) <= MONEY.from_float_sum(high)


@given(SUMS)
def test_no_sum_is_changed_by_more_than_a_two_billionth(value: float) -> None:
    """And what is right is left as it is."""
    found = MONEY.from_float_sum(value)
    assert isinstance(found, Decimal)
    assert abs(found - Decimal(value)) <= Decimal(value) * Decimal("5.0001e-10")
    assert MONEY.from_float_sum(float(found)) == found


@given(st.integers(0, 10**15), SUMS)
def test_only_money_is_touched(whole: int, value: float) -> None:
    """A count is exact, and so are seconds."""
    assert COUNT.from_float_sum(float(whole)) == whole
    assert SECONDS.from_float_sum(value) == value


@given(st.lists(CALLS, min_size=1, max_size=4))
def test_series_of_one_run_add_up_exactly(series: list[list[int]]) -> None:
    """Each is what it states; no float comes in after that."""
    samples = [
        Sample(
            "claude_code_cost_usage_total",
            {"session_id": "s", "model": str(number)},
            added_up(millionths),
            "counter",
        )
        for number, millionths in enumerate(series)
    ]
    (run,) = count(shipped()["claude_code"], samples).sessions
    exact = Decimal(sum(map(sum, series))) / 1_000_000
    assert sum(run.counters.values(), Decimal(0)) == exact
    assert run.amounts["cost_usd"] == exact
