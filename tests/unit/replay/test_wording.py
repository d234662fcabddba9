"""Amounts as a replay says them: about three digits, in the unit that fits."""

from decimal import Decimal

import pytest

from otel_budget.core.quantities import Number
from otel_budget.replay.wording import percent, short_amount


@pytest.mark.parametrize(
    ("resource", "amount", "text"),
    [
        ("tokens", 999, "999"),
        ("tokens", 200_000, "200k"),
        ("tokens", 1_464_427, "1.46M"),
        ("tokens", 12_345_678_901, "12.3G"),
        ("api_calls", 7, "7"),
        ("cost", Decimal("2.50"), "$2.50"),
        ("cost", Decimal(20), "$20.00"),
        ("cost", Decimal("0.1234567"), "$0.123"),
        ("cost", Decimal(1500), "$1.5k"),
        ("duration", 45.0, "45 s"),
        ("duration", 90.0, "1.5 min"),
        ("active_duration", 7200.0, "2 h"),
        ("duration", 172_800.0, "2 d"),
    ],
)
def test_an_amount_is_short(resource: str, amount: Number, text: str) -> None:
    """As beside a point of a picture."""
    assert short_amount(resource, amount) == text


def test_a_share_that_is_not_known_is_a_dash() -> None:
    """Unknown is not zero."""
    assert (percent(0.824), percent(0.0), percent(None)) == ("82%", "0%", "-")
