"""What a run's calls use and how long they take, from its totals alone."""

import json
from decimal import Decimal
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.core.quantities import Number
from otel_budget.ledger.call_pace import CallPace


def pace_of(
    sizes: list[int], *, costs: list[float] | None = None, gap: float = 10.0, before: int = 0
) -> CallPace:
    """Return the pace of calls of these sizes. before: calls made before the first was seen."""
    pace, totals = CallPace(), {semconv.TOKENS: 1000 * before, semconv.API_CALLS: before}
    cost = Decimal(0)
    if before:
        pace.observe(dict(totals), 0.0)
    for number, size in enumerate(sizes, 1):
        totals[semconv.TOKENS] += size
        totals[semconv.API_CALLS] += 1
        seen: dict[str, Number] = dict(totals)
        if costs is not None:
            cost += Decimal(str(costs[number - 1]))
            seen[semconv.COST] = cost
        pace.observe(seen, gap * number)
    return pace


def test_without_a_call_nothing_is_known() -> None:
    """Tokens alone do not say how many calls they are."""
    pace = CallPace()
    pace.observe({semconv.TOKENS: 0}, 0.0)
    pace.observe({semconv.TOKENS: 500}, 10.0)
    assert pace.calls == 0
    assert pace.size_of(semconv.TOKENS) is None
    assert pace.next_call(semconv.TOKENS) is None
    assert pace.call_time() is None


def test_an_api_call_is_one() -> None:
    """Exactly."""
    assert pace_of([10]).next_call(semconv.API_CALLS) == (1.0, 1.0, 1.0)


def test_the_next_call_is_as_large_as_the_newest_and_the_growth() -> None:
    """With a range, for who keeps a reserve."""
    found = pace_of([1000 + 100 * number for number in range(20)]).next_call(semconv.TOKENS)
    assert found is not None
    assert found.value == pytest.approx(3000)
    assert 2700 < found.low < found.value < found.high < 3300


def test_a_resource_that_is_not_counted_is_unknown() -> None:
    """Not free."""
    assert pace_of([10, 20]).next_call(semconv.TOOL_CALLS) is None


def test_half_of_the_cost_goes_with_the_context_until_a_run_shows_its_own() -> None:
    """As with a cache: what is new costs as much whatever the context is."""
    noisy = [0.010, 0.030, 0.012, 0.008, 0.025] * 8
    size = pace_of([1000 + 100 * n for n in range(40)], costs=noisy).size_of(semconv.COST)
    assert size is not None
    assert 0 < size.growth < 0.017 / 2950 * 100
    assert size.noise > 0


def test_cost_in_proportion_to_the_context_is_found_out() -> None:
    """Without a cache all of it goes with the context: that is surer than what is usual."""
    sizes = [1000 + 100 * number for number in range(40)]
    found = pace_of(sizes, costs=[size / 1000 for size in sizes]).next_call(semconv.COST)
    assert found is not None
    assert found.value == pytest.approx(5.0, rel=0.01)


def test_a_run_that_exports_only_cost_has_a_size() -> None:
    """Then that is what grows."""
    pace = CallPace()
    for number in range(1, 30):
        cost = Decimal(number * (number + 1))
        pace.observe({semconv.COST: cost, semconv.API_CALLS: number}, 10.0 * number)
    found = pace.next_call(semconv.COST)
    assert found is not None
    assert found.value == pytest.approx(60)


def test_tokens_that_come_after_their_call_are_of_the_next_one() -> None:
    """Nothing is lost: a library may report the usage by itself."""
    pace = CallPace()
    for number in range(1, 21):
        pace.observe({semconv.TOKENS: 500 * (number - 1), semconv.API_CALLS: number}, 10.0 * number)
        pace.observe({semconv.TOKENS: 500 * number, semconv.API_CALLS: number}, 10.0 * number + 1)
    found = pace.next_call(semconv.TOKENS)
    assert found is not None
    assert found.value == pytest.approx(500)


def test_what_was_used_before_the_first_sample_is_a_lump_of_one_size() -> None:
    """A resumed run: nobody saw the calls apart, so it is known less surely."""
    resumed = pace_of([], before=500).next_call(semconv.TOKENS)
    seen = pace_of([1000] * 40).next_call(semconv.TOKENS)
    assert resumed is not None
    assert seen is not None
    assert resumed.value == seen.value == pytest.approx(1000)
    assert resumed.high - resumed.low > 3 * (seen.high - seen.low)


def test_samples_without_a_call_change_nothing() -> None:
    """A scrape may show none; the time passes until the next that does."""
    often, rarely = CallPace(), CallPace()
    for number in range(40):
        totals = {semconv.TOKENS: 1000 * (number // 4), semconv.API_CALLS: number // 4}
        often.observe(totals, 15.0 * number)
        if number % 4 == 0:
            rarely.observe(totals, 15.0 * number)
    assert often.state() == rarely.state()


def test_a_run_without_a_call_for_minutes_is_idle() -> None:
    """It waits for somebody."""
    pace = pace_of([1000] * 10)
    assert not pace.is_idle(100.0 + 300)
    assert pace.is_idle(100.0 + 301)
    assert not CallPace().is_idle(1e9)


def test_calls_at_the_same_moment_tell_no_time() -> None:
    """They were folded into one, and nobody knows when they were made."""
    assert pace_of([1000] * 10, gap=0.0).call_time() is None


def test_a_state_goes_through_json() -> None:
    """As the storage keeps it."""
    pace = pace_of([1000 + 100 * n for n in range(10)], costs=[0.1] * 10)
    again = CallPace.from_state(json.loads(json.dumps(pace.state())))
    assert again.state() == pace.state()
    assert CallPace.from_state(CallPace().state()).state() == CallPace().state()


@pytest.mark.parametrize(
    "state",
    [
        (),
        (1,),
        [None] * 8,
        (float("nan"), *CallPace().state()[1:]),
        (True, *CallPace().state()[1:]),
        ("1", *CallPace().state()[1:]),
        (*CallPace().state()[:5], [["cost", 1.0]], *CallPace().state()[6:]),
        (*CallPace().state()[:6], [1.0], CallPace().state()[7]),
    ],
)  # fmt: skip
def test_what_is_no_state_is_refused(state: Any) -> None:
    """Whoever reads it begins anew, and says so."""
    with pytest.raises(ValueError, match=r"."):
        CallPace.from_state(state)
