"""How large a run's calls are, one after the other, and how they grow."""

import pytest

from otel_budget.ledger.size_trend import SizeTrend


def trend_of(sizes: list[float], lump: int = 1) -> SizeTrend:
    """Return the trend of sizes, so many of which are seen at a time."""
    trend = SizeTrend()
    for first in range(0, len(sizes), lump):
        seen = sizes[first : first + lump]
        trend.observe(sum(seen) / len(seen), len(seen))
    return trend


GROWING = [20_000.0 + 500 * number for number in range(60)]


@pytest.mark.parametrize("lump", [1, 2, 3, 5])
def test_steady_growth_is_told_exactly(lump: int) -> None:
    """Also of calls that nobody saw apart."""
    size = trend_of(GROWING, lump).size()
    assert size.newest == pytest.approx(49_500)
    assert size.growth == pytest.approx(500)


def test_a_step_of_a_walk_is_kept() -> None:
    """What a call adds to the context is sent again by each one after it."""
    steps = [100, 900, 300, 2000, 100, 400, 700, 200, 1500, 300] * 4
    sizes = [10_000.0 + sum(steps[:number]) for number in range(len(steps))]
    size = trend_of(sizes).size()
    assert size.newest == pytest.approx(sizes[-1], rel=0.02)
    assert size.growth == pytest.approx(650, rel=0.1)
    assert size.walk > 0


def test_noise_about_a_line_is_no_step() -> None:
    """A call that was larger by chance says little of the next."""
    sizes = [10_000.0 + 100 * number + (2000 if number % 3 else -4000) for number in range(60)]
    size = trend_of(sizes).size()
    assert size.newest == pytest.approx(10_000 + 100 * 59, rel=0.1)
    assert size.noise > size.walk


def test_a_context_that_was_compacted_is_known_again_at_its_second_call() -> None:
    """Its growth is what it was before; and where it was compacted it will be again."""
    trend = trend_of(GROWING)
    trend.observe(3000, 1)
    assert trend.size().newest > 40_000
    trend.observe(3500, 1)
    size = trend.size()
    assert (size.newest, size.growth) == pytest.approx((3500, 500))
    assert (size.top, size.bottom) == pytest.approx((50_000, 3500))


def test_a_context_far_past_where_it_was_compacted_has_no_such_size() -> None:
    """The agent does not do so any more."""
    trend = trend_of(GROWING + [3000.0 + 500 * number for number in range(140)])
    assert trend.size().top == 0


def test_a_failed_call_is_no_step_of_the_growth() -> None:
    """But calls are smaller by it on the average."""
    before = trend_of(GROWING)
    before.observe(0, 1)
    size = before.size()
    assert 0.8 * 50_000 < size.newest < 50_000
    before.observe(50_500, 1)
    assert before.size().growth == pytest.approx(500, rel=0.2)
    assert before.size().noise > size.walk


@pytest.mark.parametrize("every", [2, 3, 4])
def test_of_two_contexts_in_turn_the_mean_is_told(every: int) -> None:
    """An agent and its sub-agent under one run."""
    sizes = [50_000.0 if number % every == 0 else 5000.0 for number in range(61)]
    size = trend_of(sizes).size()
    mean = (50_000 + 5000 * (every - 1)) / every
    assert size.newest == pytest.approx(mean, rel=0.25)
    assert size.noise > (0.3 * mean) ** 2


def test_the_first_calls_may_be_of_another_kind() -> None:
    """A title for the conversation, then the conversation."""
    size = trend_of([300.0, 20_000.0, 20_500.0, 21_000.0]).size()
    assert size.newest == pytest.approx(21_000)
    assert size.growth == pytest.approx(500)


def test_calls_that_nobody_saw_apart_are_known_less_surely() -> None:
    """As are few of them."""
    apart, lump = trend_of([1000.0] * 40).size(), trend_of([1000.0] * 40, 40).size()
    assert lump.newest == apart.newest
    assert lump.newest_variance > apart.newest_variance
    few = trend_of([1000.0] * 3).size()
    assert few.growth_variance > apart.growth_variance


def test_its_state_is_all_of_it() -> None:
    """It goes on as if nothing had been."""
    trend = trend_of(GROWING)
    again = SizeTrend.from_state(trend.state())
    for one in (trend, again):
        one.observe(3000, 1)
        one.observe(3500, 2)
    assert again.size() == trend.size()


def test_a_state_of_another_size_is_refused() -> None:
    """It is of another version."""
    with pytest.raises(ValueError, match="longer"):
        SizeTrend.from_state((*SizeTrend().state(), 0.0))
