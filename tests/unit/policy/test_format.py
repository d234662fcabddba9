"""Numbers as people read them."""

from decimal import Decimal, localcontext

import pytest

from otel_budget.core.forecast import NO_FORECAST, Estimate, Forecast
from otel_budget.core.quantities import Number
from otel_budget.core.wrap_up import WrapUp
from otel_budget.policy.format import amount, calls_left, last_calls, percent, rest_of, time_left


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


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0 s"),
        (89.9, "89 s"),
        (90.0, "1 min"),
        (754.0, "12 min"),
        (5399.0, "89 min"),
        (5400.0, "1.5 h"),
        (7200.0, "2 h"),
        (200_000.0, "2.3 d"),
        (1e300, "more than a year"),
    ],
)
def test_a_time_that_is_forecast_is_cut(seconds: float, said: str) -> None:
    """Nobody needs the seconds of hours, and no more is promised than there is."""
    assert time_left(seconds) == said


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        (Estimate(23.4, 19.2, 27.9), "about 23 calls left (19 to 27)"),
        (Estimate(23.4, 23.1, 23.9), "about 23 calls left"),
        (Estimate(958.0, 958.0, 958.0), "958 calls left"),
        (Estimate(1.9, 1.0, 1.9), "about 1 call left"),
        (Estimate(0.9, 0.4, 2.2), "less than 1 call left (0 to 2)"),
        (Estimate(0.9, 0.4, 0.95), "less than 1 call left"),
        (Estimate(0.0, 0.0, 0.0), "no call left"),
        (Estimate(1234.0, 1000.0, 1e300), "about 1,234 calls left (1,000 to 1,000,000)"),
        (Estimate(1e300, 1e299, 1e301), "more than a million calls left"),
    ],
)
def test_calls_that_are_left_are_those_that_fit_as_a_whole(calls: Estimate, said: str) -> None:
    """With their range, where it says more."""
    assert calls_left(calls) == said


@pytest.mark.parametrize(
    ("forecast", "said"),
    [
        (
            Forecast(Estimate(23.4, 19.2, 27.9), Estimate(754.0, 600.0, 900.0)),
            "about 23 calls left (19 to 27), 12 min",
        ),
        (Forecast(None, Estimate(754.0, 600.0, 900.0)), "about 12 min left"),
        (Forecast(None, Estimate(754.0, 754.0, 754.0)), "12 min left"),
        (Forecast(Estimate(23.4, 19.2, 27.9)), "about 23 calls left (19 to 27)"),
        (NO_FORECAST, ""),
    ],
)
def test_what_is_left_of_a_resource_is_said_in_calls_and_in_time(
    forecast: Forecast, said: str
) -> None:
    """As far as it is known."""
    assert rest_of(forecast) == said


@pytest.mark.parametrize(
    ("allowed", "said"),
    [
        (WrapUp(1), "1 call"),
        (WrapUp(2, 14_480, Decimal("0.25"), 60.0), "2 calls, 14,480 tokens, $0.25, 60 s at most"),
        (WrapUp(1, None, None, 21.5), "1 call, 21 s at most"),
    ],
)
def test_last_calls_are_said_with_what_is_known_of_them(allowed: WrapUp, said: str) -> None:
    assert last_calls(allowed) == said
