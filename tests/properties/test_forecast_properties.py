"""What holds of every forecast, whatever a run does."""

import json
import math
from collections.abc import Iterator
from decimal import Decimal

from hypothesis import assume, given
from hypothesis import strategies as st

from otel_budget import semconv
from otel_budget.core.forecast import Estimate, Forecast, ends_first
from otel_budget.core.quantities import Number
from otel_budget.core.resources import RESOURCES
from otel_budget.core.validation import MAX_COUNT
from otel_budget.ledger.call_pace import CallPace
from otel_budget.policy.forecast import forecast_of

#: Resources that a forecast is made of.
LIMITED = tuple(RESOURCES)

counts = st.integers(0, 3) | st.integers(0, 1000) | st.sampled_from([0, 1, 2**40, 2**53])
amounts = st.integers(0, 10) | st.integers(0, 200_000) | st.sampled_from([0, 2**40, 2**53])
money = st.decimals(0, 1000, places=6) | st.sampled_from([Decimal(0), Decimal(10) ** 15])
waits = st.floats(0, 100) | st.sampled_from([0.0, 1e-9, 3600.0, 1e9])
steps = st.tuples(counts, amounts, money, counts, waits)
rooms = (
    st.floats(1e-15, float(MAX_COUNT))
    | st.integers(0, 2**53)
    | st.decimals(0, 10**15, places=15)
    | st.sampled_from([0, 1, Decimal("1e-15"), 2**53])
)


def paces(most: int = 60) -> st.SearchStrategy[CallPace]:
    """Return strategies of paces after any history of samples."""
    return st.lists(steps, max_size=most).map(pace_of)


def pace_of(history: list[tuple[int, int, Decimal, int, float]]) -> CallPace:
    """Return the pace after a history of samples: what each added, and when it came."""
    pace, at = CallPace(), 0.0
    totals: dict[str, Number] = {}
    for calls, tokens, cost, tools, wait in history:
        at += wait
        totals = {
            semconv.TOKENS: totals.get(semconv.TOKENS, 0) + tokens,
            semconv.API_CALLS: totals.get(semconv.API_CALLS, 0) + calls,
            semconv.COST: totals.get(semconv.COST, Decimal(0)) + cost,  # type: ignore[operator]
            semconv.TOOL_CALLS: totals.get(semconv.TOOL_CALLS, 0) + tools,
        }
        pace.observe(totals, at)
    return pace


def estimates(forecast: Forecast) -> Iterator[Estimate]:
    """Yield what a forecast tells."""
    yield from (one for one in forecast if one is not None)


@given(paces(), st.sampled_from(LIMITED), rooms)
def test_an_estimate_is_finite_and_not_negative_and_lies_within_its_range(
    pace: CallPace, resource: str, room: Number
) -> None:
    """Whatever the numbers: lumps, calls of nothing, 2^53 tokens in one."""
    for found in estimates(forecast_of(resource, room, pace)):
        assert 0 <= found.low <= found.value <= found.high < math.inf
    call = pace.next_call(resource)
    if call is not None:
        assert 0 <= call.low <= call.value <= call.high < math.inf


@given(paces(), st.sampled_from(LIMITED), rooms, rooms)
def test_more_room_is_never_less_time_or_fewer_calls(
    pace: CallPace, resource: str, one: Number, other: Number
) -> None:
    """Nor is an end of the range lower."""
    less, more = sorted((one, other), key=float)
    for before, after in zip(
        forecast_of(resource, less, pace), forecast_of(resource, more, pace), strict=True
    ):
        if before is None or after is None:
            continue
        for lower, higher in zip(before, after, strict=True):
            assert lower <= higher * (1 + 1e-9)


@given(paces(), st.sampled_from(LIMITED), st.sampled_from([0, -1, 0.0, Decimal(0), Decimal(-3)]))
def test_at_the_limit_nothing_is_left(pace: CallPace, resource: str, room: Number) -> None:
    """Whatever is known of the run."""
    nothing = Estimate(0.0, 0.0, 0.0)
    assert forecast_of(resource, room, pace) == Forecast(nothing, nothing)


@given(paces(), st.sampled_from(LIMITED), rooms)
def test_what_is_kept_of_a_pace_foretells_the_same(
    pace: CallPace, resource: str, room: Number
) -> None:
    """Also once the run went on."""
    kept, before = pace.kept(), forecast_of(resource, room, pace, 1e12)
    pace.observe(
        {semconv.TOKENS: 2.0**60, semconv.COST: Decimal(9), semconv.API_CALLS: pace.calls + 1}, 1e12
    )
    assert forecast_of(resource, room, CallPace.of_kept(kept), 1e12) == before


@given(paces(), st.sampled_from(LIMITED), rooms, st.lists(steps, max_size=5))
def test_a_pace_goes_on_where_it_was_stored(
    pace: CallPace, resource: str, room: Number, later: list[tuple[int, int, Decimal, int, float]]
) -> None:
    """Its state goes through JSON."""
    again = CallPace.from_state(json.loads(json.dumps(pace.state())))
    assert again.state() == pace.state()
    assert forecast_of(resource, room, again) == forecast_of(resource, room, pace)
    used = 2.0**60
    for calls, tokens, _cost, _tools, wait in later:
        used += tokens
        totals: dict[str, Number] = {semconv.TOKENS: used, semconv.API_CALLS: pace.calls + calls}
        pace.observe(totals, 1e12 + wait)
        again.observe(totals, 1e12 + wait)
    assert again.state() == pace.state()


@given(
    st.integers(1, 10**6), st.integers(2, 200), st.floats(0.01, 300),
    st.integers(1, 10**9),
)  # fmt: skip
def test_calls_of_one_size_are_told_exactly(size: int, made: int, gap: float, room: int) -> None:
    """And so are their seconds."""
    assume(room / size < 10_000)
    pace = CallPace()
    for number in range(1, made + 1):
        pace.observe({semconv.TOKENS: size * number, semconv.API_CALLS: number}, gap * number)
    forecast = forecast_of(semconv.TOKENS, room, pace)
    assert forecast.calls_left is not None
    assert math.isclose(forecast.calls_left.value, room / size, rel_tol=1e-6)
    assert forecast.seconds_left is not None
    assert math.isclose(forecast.seconds_left.value, room / size * gap, rel_tol=1e-6)


@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=30),
    st.integers(100, 10**5),
    st.integers(0, 500),
)
def test_lumps_of_calls_that_grow_steadily_are_told_apart(
    lumps: list[int], first: int, growth: int
) -> None:
    """As no scrape of 15 s sees the calls themselves. Where growth is a line, nothing is lost."""
    assume(growth * sum(lumps) < first)
    pace, made = CallPace(), 0
    for lump in lumps:
        made += lump
        used = made * first + growth * made * (made - 1) // 2
        pace.observe({semconv.TOKENS: used, semconv.API_CALLS: made}, float(made))
    size = pace.size_of(semconv.TOKENS)
    assert size is not None
    newest = first + growth * (made - 1)
    assert math.isclose(size.newest, newest, rel_tol=0.02)


@given(st.dictionaries(st.sampled_from(LIMITED), st.builds(
    Forecast,
    st.none() | st.floats(0, 1e6).map(lambda one: Estimate(one, one, one)),
    st.none() | st.floats(0, 1e6).map(lambda one: Estimate(one, one, one)),
)))  # fmt: skip
def test_what_ends_first_is_told_by_what_is_known(forecasts: dict[str, Forecast]) -> None:
    """By seconds where they are known of each, else by calls; ties in the order of the table."""
    first = ends_first(forecasts)
    told = {name: left for name, left in forecasts.items() if left != Forecast()}
    if first is None:
        assert not told
        return
    assert first in told
    seconds = {name: left.seconds_left for name, left in forecasts.items() if left.seconds_left}
    if len(seconds) == len(forecasts):
        least = min(one.value for one in seconds.values())
        assert first == next(n for n in LIMITED if n in seconds and seconds[n].value == least)
