"""Seconds from one call of a run to the next."""

import pytest

from otel_budget.ledger.call_gaps import IDLE_AFTER, CallGaps


def gaps_of(seconds: list[float], made: float = 1) -> CallGaps:
    """Return what is known after gaps, each of so many calls."""
    gaps = CallGaps()
    for one in seconds:
        gaps.observe(one, 1000, made)
    return gaps


def mean_of(gaps: CallGaps) -> float:
    """Return the usual gap."""
    found = gaps.mean_and_variance()
    assert found is not None
    return found[0]


def test_without_a_gap_nothing_is_known() -> None:
    """Unknown is not zero."""
    assert CallGaps().mean_and_variance() is None
    assert gaps_of([3600.0]).mean_and_variance() is None


@pytest.mark.parametrize("before", [0, 1, 3, 20])
def test_a_pause_for_a_person_is_no_pace(before: int) -> None:
    """Whenever it is."""
    gaps = gaps_of([10.0] * before + [3600.0] + [10.0] * 5)
    assert mean_of(gaps) == pytest.approx(10)


def test_two_long_gaps_in_a_row_are_the_pace() -> None:
    """An agent whose every tool takes ten minutes."""
    gaps = gaps_of([600.0] * 5)
    assert mean_of(gaps) == pytest.approx(600)
    assert gaps.idle_after() > 600


def test_a_long_gap_counts_for_a_few_usual_ones() -> None:
    """A test suite that takes four minutes says something, but not that all do."""
    assert mean_of(gaps_of([10.0] * 20 + [240.0])) == pytest.approx(10 + 50 / 21, rel=0.1)
    assert mean_of(gaps_of([240.0] + [10.0] * 20)) == pytest.approx(10 + 50 / 21, rel=0.1)


def test_calls_made_at_once_share_the_gap() -> None:
    """Four in parallel every 40 s are one in 10 s."""
    assert mean_of(gaps_of([40.0, 0, 0, 0] * 12)) == pytest.approx(10, rel=0.1)
    assert mean_of(gaps_of([39.7, 0.1, 0.1, 0.1] * 12)) == pytest.approx(10, rel=0.2)


def test_calls_that_nobody_saw_apart_count_each() -> None:
    """A scrape that shows three."""
    gaps = gaps_of([15.0] * 10, made=3)
    assert mean_of(gaps) == pytest.approx(5)


def test_a_run_is_idle_after_minutes() -> None:
    """Or later, if that is what its calls take."""
    assert gaps_of([10.0] * 5).idle_after() == IDLE_AFTER
    assert CallGaps().idle_after() == IDLE_AFTER


def test_gaps_that_go_with_the_size_of_calls_are_found() -> None:
    """And those that do not."""
    growing, steady = CallGaps(), CallGaps()
    for number in range(1, 40):
        growing.observe(number, 1000 * number, 1)
        steady.observe(5, 1000 * number, 1)
    assert growing.with_size() > 0
    assert steady.with_size() == pytest.approx(0, abs=1e-6)


def test_its_state_is_all_of_it() -> None:
    """It goes on as if nothing had been."""
    gaps = gaps_of([10.0, 0.0, 3600.0, 12.0, 0.0])
    again = CallGaps.from_state(gaps.state())
    for one in (gaps, again):
        one.observe(9, 1000, 2)
    assert again.mean_and_variance() == gaps.mean_and_variance()
