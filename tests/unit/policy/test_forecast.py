"""How many calls and seconds are left until a limit."""

import pytest

from otel_budget import semconv
from otel_budget.core.forecast import NO_FORECAST, Estimate, Forecast, ends_first
from otel_budget.core.quantities import Number
from otel_budget.ledger.call_pace import CallPace
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.forecast import completion_possible, forecast_of

GROWING = [20_000 + 500 * number for number in range(40)]


def pace_of(sizes: list[int], gap: float = 10.0, lump: int = 1) -> CallPace:
    """Return the pace of calls of these sizes, so many of which are seen at a time."""
    pace = CallPace()
    for number in range(lump, len(sizes) + 1, lump):
        totals = {semconv.TOKENS: sum(sizes[:number]), semconv.API_CALLS: number}
        pace.observe(totals, gap * number)
    return pace


def calls_of(forecast: Forecast) -> Estimate:
    """Return the calls left, which are known."""
    assert forecast.calls_left is not None
    return forecast.calls_left


def width(estimate: Estimate) -> float:
    """Return by how many times the range goes up and down."""
    return estimate.high / estimate.low


@pytest.mark.parametrize(
    ("room", "calls"),
    [(40_000, 1), (20_000, 0.5), (80_500, 2), (40_000 + 40_500 + 4100, 2.1)],
)
def test_the_call_that_crosses_the_limit_counts_by_the_part_that_fits(
    room: int, calls: float
) -> None:
    """The next one uses 40,000, and each 500 more."""
    assert calls_of(forecast_of(semconv.TOKENS, room, pace_of(GROWING))).value == pytest.approx(
        calls, rel=1e-3
    )


def test_whole_calls_are_those_that_fit_before() -> None:
    """As a person counts them."""
    assert forecast_of(semconv.TOKENS, 130_000, pace_of(GROWING)).whole_calls_left == 3


def test_seconds_are_those_of_the_calls() -> None:
    """Calls of ten seconds each, whatever their size."""
    forecast = forecast_of(semconv.TOKENS, 1_000_000, pace_of(GROWING))
    assert forecast.seconds_left is not None
    assert forecast.seconds_left.value == pytest.approx(10 * calls_of(forecast).value)


@pytest.mark.parametrize("resource", [semconv.DURATION, semconv.ACTIVE_DURATION])
def test_time_passes_by_itself(resource: str) -> None:
    """The seconds are known to the second; the calls in them follow from their pace."""
    forecast = forecast_of(resource, 100.0, pace_of(GROWING), now=400.0)
    assert forecast.seconds_left == (100.0, 100.0, 100.0)
    assert calls_of(forecast).value == pytest.approx(10)


def test_of_a_run_that_makes_no_calls_time_alone_is_known() -> None:
    """Unknown is not zero."""
    assert forecast_of(semconv.TOKENS, 100, CallPace()) == NO_FORECAST
    left = Estimate(100.0, 100.0, 100.0)
    assert forecast_of(semconv.DURATION, 100.0, CallPace()) == Forecast(None, left)


def test_of_what_calls_do_not_use_nothing_can_be_told() -> None:
    """It would last for ever, which is no number."""
    assert forecast_of(semconv.TOKENS, 100, pace_of([0, 0, 0])) == NO_FORECAST


def test_an_idle_run_has_calls_and_no_seconds_left() -> None:
    """Nobody knows when it goes on."""
    pace = pace_of(GROWING)
    working, idle = (forecast_of(semconv.TOKENS, 10**6, pace, now) for now in (410.0, 1000.0))
    assert idle.calls_left == working.calls_left
    assert (idle.seconds_left, working.seconds_left is None) == (None, False)


def test_a_limit_on_calls_is_exact() -> None:
    """Each is one."""
    assert forecast_of(semconv.API_CALLS, 7, pace_of(GROWING)).calls_left == (7.0, 7.0, 7.0)


def test_the_range_widens_with_doubt() -> None:
    """Few calls, noisy calls, and calls that nobody saw apart."""
    sure = calls_of(forecast_of(semconv.TOKENS, 10**5, pace_of(GROWING)))
    few = calls_of(forecast_of(semconv.TOKENS, 10**5, pace_of(GROWING[-4:])))
    lump = calls_of(forecast_of(semconv.TOKENS, 10**5, pace_of(GROWING, lump=40)))
    noisy = [size + (3000 if number % 2 else -3000) for number, size in enumerate(GROWING)]
    noise = calls_of(forecast_of(semconv.TOKENS, 10**5, pace_of(noisy)))
    assert width(sure) < min(width(few), width(lump), width(noise))
    assert width(sure) < 1.2


def test_seconds_are_told_less_surely_than_calls() -> None:
    """How long a tool takes is anybody's guess."""
    forecast = forecast_of(semconv.TOKENS, 10**6, pace_of(GROWING))
    assert forecast.seconds_left is not None
    assert width(forecast.seconds_left) > width(calls_of(forecast))


def test_a_context_that_is_compacted_again_and_again_lasts_longer() -> None:
    """From 15,000 to 60,000 and back: past the top a call uses 37,500 on the average."""
    once = [15_000 + 1500 * number for number in range(31)]
    pace = pace_of(once * 2 + once[:10])
    calls = calls_of(forecast_of(semconv.TOKENS, 10_000_000, pace)).value
    assert calls == pytest.approx(10_000_000 / 37_500, rel=0.1)


LASTS = Forecast(None, Estimate(9, 9, 9))
ALL = {
    semconv.DURATION: Forecast(Estimate(9, 9, 9), Estimate(90, 90, 90)),
    semconv.TOKENS: Forecast(Estimate(5, 4, 6), Estimate(80, 20, 99)),
    semconv.API_CALLS: Forecast(Estimate(4, 4, 4), Estimate(85, 30, 99)),
}


@pytest.mark.parametrize(
    ("forecasts", "first"),
    [
        ({}, None),
        ({semconv.TOKENS: NO_FORECAST}, None),
        (ALL, semconv.TOKENS),
        ({**ALL, semconv.COST: Forecast(Estimate(3, 3, 3))}, semconv.COST),
        ({**ALL, semconv.COST: NO_FORECAST}, semconv.API_CALLS),
        ({semconv.COST: ALL["tokens"], semconv.TOKENS: ALL["tokens"]}, semconv.TOKENS),
        ({semconv.TOKENS: NO_FORECAST, semconv.DURATION: LASTS}, semconv.DURATION),
    ],
)  # fmt: skip
def test_what_ends_first_is_told_by_seconds_if_all_have_them(
    forecasts: dict[str, Forecast], first: str | None
) -> None:
    """Else by calls, which are not compared with seconds; of equals the first of the table."""
    assert ends_first(forecasts) == first


def fits(limit: int, progress: float, pace: CallPace | None, used: int) -> bool | None:
    """Tell whether the rest of a run fits in a limit on tokens."""
    bounds = bounds_from({semconv.TOKENS: limit}, {}, "session")
    spent: dict[str, Number] = {semconv.TOKENS: used}
    return completion_possible(spent, bounds, progress, pace=pace)


def test_progress_is_not_spend() -> None:
    """At half of its calls a run that grows has used less than half of its tokens."""
    pace, used = pace_of(GROWING), sum(GROWING)
    needed = used + sum(GROWING[-1] + 500 * number for number in range(1, 41))
    assert needed > 2.5 * used
    assert fits(2 * used + 1, 0.5, None, used) is True
    assert fits(2 * used + 1, 0.5, pace, used) is False
    assert fits(int(needed * 0.999), 0.5, pace, used) is False
    assert fits(int(needed * 1.001), 0.5, pace, used) is True


@pytest.mark.parametrize(("limit", "possible"), [(80, True), (79, False)])
def test_calls_of_one_size_fit_by_the_straight_line(limit: int, possible: object) -> None:
    """To the token."""
    assert fits(limit, 0.5, pace_of([1] * 40), 40) is possible


def test_of_one_lump_the_straight_line_is_all_there_is() -> None:
    """Its growth is not known."""
    pace, used = pace_of(GROWING, lump=40), sum(GROWING)
    assert fits(2 * used, 0.5, pace, used) is True
    assert fits(2 * used - 1, 0.5, pace, used) is False


def test_time_fits_by_the_pace_of_calls() -> None:
    """An hour that a person took is not taken again."""
    pace = CallPace()
    for number in range(1, 41):
        at = 10.0 * number + (3600 if number > 20 else 0)
        pace.observe({semconv.TOKENS: 100 * number, semconv.API_CALLS: number}, at)
    bounds = bounds_from({semconv.DURATION: 4500.0}, {}, "session")
    assert completion_possible({semconv.DURATION: 4000.0}, bounds, 0.5) is False
    assert completion_possible({semconv.DURATION: 4000.0}, bounds, 0.5, pace=pace) is True
