"""Numbers as people read them."""

from decimal import Decimal, localcontext

import pytest

from otel_budget.core.quantities import Number
from otel_budget.policy.format import amount, percent


@pytest.mark.parametrize(
    ("resource", "value", "said"),
    [
        ("tokens", 0, "0"),
        ("tokens", 831_000, "831,000"),
        ("api_calls", 2**53, "9,007,199,254,740,992"),
        ("duration", 0.0, "0.0 s"),
        ("duration", 9.99, "9.9 s"),
        ("duration", 99.96, "99.9 s"),
        ("duration", 100.0, "100 s"),
        ("duration", 3599.999, "3,599 s"),
        ("duration", 1e-7, "0.0 s"),
        ("cost", Decimal(0), "$0.00"),
        ("cost", Decimal("1.5"), "$1.50"),
        ("cost", Decimal("1.500"), "$1.50"),
        ("cost", Decimal("1234.5678"), "$1,234.5678"),
        ("cost", Decimal("1E+3"), "$1,000.00"),
        ("cost", Decimal("0.0000001"), "$0.0000001"),
        ("cost", 0.1, "$0.10"),
    ],
)
def test_an_amount_is_said_in_the_way_of_its_resource(
    resource: str, value: Number, said: str
) -> None:
    """Thousands apart, seconds cut, money to the cent or in full."""
    assert amount(resource, value) == said


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (0.0, "0.0%"),
        (0.831, "83.1%"),
        (0.29, "29.0%"),
        (0.7999999, "79.9%"),
        (0.999999999999, "99.9%"),
        (1.0, "100.0%"),
        (1.001, "100.1%"),
        (12.0, "1200.0%"),
        (1e-9, "0.0%"),
        (float(2**53), "900719925474099200.0%"),
    ],
)
def test_a_percentage_is_cut_and_never_rounded_up(ratio: float, said: str) -> None:
    """What has not reached a line does not read as if it had."""
    assert percent(ratio) == said


def test_what_is_said_does_not_depend_on_the_callers_decimal_context() -> None:
    """A run that counts with three digits can still be told its cost."""
    with localcontext() as context:
        context.prec = 3
        assert amount("cost", Decimal("12345.6789")) == "$12,345.6789"
        assert percent(0.12345) == "12.3%"
