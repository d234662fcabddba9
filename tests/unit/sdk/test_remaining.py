"""What is left of every limit."""

from __future__ import annotations

import pytest

from otel_budget.testing import FakeClock
from tests.support.monitors import Make


def test_what_is_left_goes_down_to_zero_and_not_below(clock: FakeClock, make: Make) -> None:
    """Seconds, tokens and calls."""
    monitor = make(max_duration_seconds=60, max_tokens=100, max_api_calls=2)

    def left() -> tuple[float | None, int | None, int | None]:
        return (
            monitor.get_time_remaining(),
            monitor.get_tokens_remaining(),
            monitor.get_api_calls_remaining(),
        )

    assert left() == (60, 100, 2)
    clock.advance(20)
    monitor.record_operation(30, api_call=True)
    assert left() == (40, 70, 1)
    clock.advance(100)
    for _ in range(3):
        monitor.record_operation(100, api_call=True)
    assert left() == (0, 0, 0)


def test_nothing_is_left_of_a_limit_of_zero(make: Make) -> None:
    """It permits nothing."""
    monitor = make(max_duration_seconds=0, max_tokens=0, max_api_calls=0)
    assert monitor.get_time_remaining() == 0
    assert monitor.get_tokens_remaining() == monitor.get_api_calls_remaining() == 0


@pytest.mark.parametrize("used", [0, 2**53])
def test_what_is_left_of_no_limit_is_not_a_number(used: int, make: Make) -> None:
    """None is unlimited: infinity and zero would both be taken for something else."""
    monitor = make(max_duration_seconds=None, max_tokens=None, max_api_calls=None)
    monitor.record_operation(used)
    assert monitor.get_time_remaining() is None
    assert monitor.get_tokens_remaining() is None
    assert monitor.get_api_calls_remaining() is None


def test_what_is_left_follows_the_limits(make: Make) -> None:
    """At once when they change."""
    monitor = make(max_tokens=100)
    monitor.record_operation(60)
    monitor.update_limits(max_tokens=50)
    assert monitor.get_tokens_remaining() == 0
    monitor.update_limits(max_tokens=200)
    assert monitor.get_tokens_remaining() == 140
