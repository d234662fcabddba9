"""--sweep: a range of limits, logarithmic, both ends in."""

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget.errors import InvalidValueError
from otel_budget.replay.limit_range import limit_range


def test_twelve_limits_from_200k_to_5m_grow_by_the_same_factor() -> None:
    """The example of the contract: 25 times as much in eleven steps."""
    swept = limit_range("max_tokens=200k..5M/12")
    assert (swept.resource, swept.limit_key) == ("tokens", "max_tokens")
    assert len(swept.limits) == 12
    assert (swept.limits[0], swept.limits[-1]) == (200_000, 5_000_000)
    assert swept.limits[1] == round(200_000 * 25 ** (1 / 11))
    assert all(type(limit) is int for limit in swept.limits)


def test_without_steps_there_are_twelve() -> None:
    """What is not said has its default."""
    assert limit_range("max_tokens=200k..5M") == limit_range("max_tokens=200k..5M/12")


def test_each_limit_is_of_the_kind_of_its_resource() -> None:
    """Money is exact, time is a duration, calls are whole."""
    assert limit_range("max_cost_usd=0.10..10/3").limits == (Decimal("0.1"), 1, 10)
    assert limit_range("max_duration_seconds=1m..1h40m/3").limits == (60.0, 600.0, 6000.0)
    assert limit_range("max_active_seconds=60..6000/3").limits == (60.0, 600.0, 6000.0)
    assert limit_range("max_api_calls=10..1k/3").limits == (10, 100, 1000)
    assert limit_range("max_tool_calls=1..4/3").limits == (1, 2, 4)


@given(
    st.integers(1, 10**9), st.integers(2, 10**6), st.integers(2, 40),
    st.sampled_from(("max_tokens", "max_cost_usd", "max_duration_seconds")),
)  # fmt: skip
def test_limits_rise_from_end_to_end(low: int, factor: int, steps: int, key: str) -> None:
    """Whatever the range: both ends, as many as asked for, each a limit; or a refusal."""
    high = min(low * factor, 2**53)
    try:
        swept = limit_range(f"{key}={low}..{high}/{steps}")
    except InvalidValueError as exc:
        assert "different limits" in str(exc)  # noqa: PT017 - only small counts are refused
        return
    assert len(swept.limits) == steps
    assert (swept.limits[0], swept.limits[-1]) == (low, high)
    assert list(swept.limits) == sorted(set(swept.limits))
    assert all(math.isfinite(limit) for limit in swept.limits)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "LIMIT=LOWEST..HIGHEST/STEPS"),
        ("max_tokens", "LIMIT=LOWEST..HIGHEST/STEPS"),
        ("max_tokens=1M", "LIMIT=LOWEST..HIGHEST/STEPS"),
        ("tokens=200k..5M/12", "'tokens' is not allowed; allowed: a limit: max_duration_seconds, "),
        ("max_tokens=..5M/12", "'' is not allowed; allowed: a whole number above 0"),
        ("max_tokens=200k../12", "'' is not allowed; allowed: a whole number above 0"),
        ("max_tokens=0..5M/12", "'0' is not allowed; allowed: a whole number above 0"),
        ("max_tokens=-5..5M/12", "'-5' is not allowed"),
        ("max_tokens=nan..5M/12", "'nan' is not allowed"),
        ("max_tokens=1e3..5M/12", "'1e3' is not allowed"),
        ("max_tokens=0.5..5M/12", "'0.5' is not allowed; allowed: a whole number"),
        ("max_tokens=5m..6M/12", "'5m' is not allowed; allowed: a whole number"),
        ("max_tokens=1..9999999999G/12", "'9999999999G' is not allowed"),
        ("max_tokens=5M..200k/12", "5M..200k: the lower limit comes first"),
        ("max_tokens=1M..1M/2", "1M..1M: the lower limit comes first, and they differ"),
        ("max_tokens=200k..5M/", "'' is not allowed; allowed: 2 to 100 steps"),
        ("max_tokens=200k..5M/1", "'1' is not allowed; allowed: 2 to 100 steps: both ends are"),
        ("max_tokens=200k..5M/0", "'0' is not allowed; allowed: 2 to 100 steps"),
        ("max_tokens=200k..5M/2.5", "'2.5' is not allowed; allowed: 2 to 100 steps"),
        ("max_tokens=200k..5M/101", "'101' is not allowed; allowed: 2 to 100 steps"),
        ("max_tokens=200k..5M/4/4", "is not allowed"),
        ("max_api_calls=1..5/12", "there are no 12 different limits between 1 and 5"),
        ("max_cost_usd=$1..$5/3", "'$1' is not allowed; allowed: US dollars above 0"),
        ("max_duration_seconds=1x..2h/3", "'1x' is not allowed; allowed: a duration above 0"),
    ],
)  # fmt: skip
def test_a_range_that_is_none_is_refused_with_what_is_wrong(text: str, said: str) -> None:
    """The part at fault is named, and what may stand there."""
    with pytest.raises(InvalidValueError) as caught:
        limit_range(text)
    assert str(caught.value).startswith("--sweep: ")
    assert said in str(caught.value)
