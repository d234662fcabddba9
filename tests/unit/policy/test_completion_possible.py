"""Would the rest fit in every limit, at the rate so far?"""

from __future__ import annotations

import pytest

from otel_budget.testing import FakeClock
from tests.support.monitors import Make


@pytest.mark.parametrize(
    ("tokens", "progress", "possible"),
    [
        (0, None, None),
        (0, 0.0, None),
        (500, None, None),
        (500, 0, None),
        (500, 0.5, True),
        (501, 0.5, False),
        (300, 0.3, True),
        (301, 0.3, False),
        (1, 0.001, True),
        (2, 0.001, False),
        (1000, 1, True),
        (1000, 0.999, False),
        (1001, 1.0, False),
        (1001, None, False),
        (1001, 0.0, False),
    ],
)
def test_it_fits_if_all_of_it_takes_at_most_the_limit(
    tokens: int, progress: float | None, possible: object, make: Make
) -> None:
    """Unknown is an answer of its own; what is past a limit never fits."""
    monitor = make(max_tokens=1000)
    monitor.record_operation(tokens)
    assert monitor.get_estimated_completion_possible(progress) is possible


def test_every_limit_counts(clock: FakeClock, make: Make) -> None:
    """Tokens would do, but the time does not; and then the money does not."""
    monitor = make(max_duration_seconds=100, max_tokens=1000, max_cost_usd=10)
    monitor.record_operation(100, cost_usd=1)
    clock.advance(10)
    assert monitor.get_estimated_completion_possible(0.1) is True
    clock.advance(0.5)
    assert monitor.get_estimated_completion_possible(0.1) is False
    monitor.update_limits(max_duration_seconds=None)
    assert monitor.get_estimated_completion_possible(0.1) is True
    monitor.record_operation(cost_usd=0.01)
    assert monitor.get_estimated_completion_possible(0.1) is False


@pytest.mark.parametrize("progress", [None, 0.0, 0.5])
def test_a_run_without_limits_always_fits(progress: float | None, make: Make) -> None:
    """Whatever it used."""
    monitor = make(max_duration_seconds=None, max_tokens=None, max_api_calls=None)
    monitor.record_operation(2**50)
    assert monitor.get_estimated_completion_possible(progress) is True


def test_asking_changes_no_verdict_and_no_progress(make: Make) -> None:
    """It is an estimate, not a report."""
    monitor = make(max_tokens=100)
    monitor.should_continue(0.25)
    monitor.get_estimated_completion_possible(0.75)
    assert monitor._record.progress == 0.25
