"""May the run go on? Every resource in every state, progress, no limits, limits of 0."""

from __future__ import annotations

import math
import threading
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from otel_budget import BudgetExceeded, ResourceLimits, ResourceMonitor, Verdict
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import LimitStatus
from otel_budget.errors import InvalidValueError
from otel_budget.testing import FakeClock
from tests.support.monitors import Make

UNLIMITED = {"max_duration_seconds": None, "max_tokens": None, "max_api_calls": None}
LIMITS: dict[str, dict[str, Any]] = {
    "duration": {"max_duration_seconds": 100},
    "tokens": {"max_tokens": 100},
    "api_calls": {"max_api_calls": 100},
    "cost": {"max_cost_usd": 100},
}


def use(monitor: ResourceMonitor, clock: FakeClock, resource: str, amount: int) -> None:
    """Use so much of one resource."""
    if resource == "duration":
        clock.advance(amount)
    elif resource == "tokens":
        monitor.record_operation(tokens=amount)
    elif resource == "cost":
        monitor.record_operation(cost_usd=amount)
    else:
        for _ in range(amount):
            monitor.record_operation(api_call=True)


@pytest.mark.parametrize("resource", LIMITS)
@pytest.mark.parametrize(
    ("used", "progress", "reason"),
    [
        (0, None, Reason.WITHIN_LIMITS),
        (79, 0.0, Reason.WITHIN_LIMITS),
        (80, None, Reason.APPROACHING_LIMIT_PROGRESS_UNKNOWN),
        (80, 0.79, Reason.APPROACHING_LIMIT),
        (80, 0.8, Reason.FINISHING),
        (99, 0, Reason.APPROACHING_LIMIT),
        (99, 1, Reason.FINISHING),
        (100, None, Reason.LIMIT_EXCEEDED),
        (100, 1.0, Reason.LIMIT_EXCEEDED),
        (500, 0.9, Reason.LIMIT_EXCEEDED),
    ],
)
def test_the_answer_is_that_of_the_table(  # noqa: PLR0917 - one row of the table
    resource: str, used: int, progress: float | None, reason: Reason, clock: FakeClock, make: Make
) -> None:
    """Asked once at the end, or at every step on the way: the answer is the same."""
    stops = reason in (Reason.APPROACHING_LIMIT, Reason.LIMIT_EXCEEDED)
    asked_once, asked_always = (make(**{**UNLIMITED, **LIMITS[resource]}) for _ in range(2))
    for _ in range(used):
        asked_always.should_continue(progress)
        if resource != "duration":
            use(asked_always, clock, resource, 1)
    use(asked_once, clock, resource, used)
    for monitor in (asked_once, asked_always):
        assert monitor.should_continue(progress) is not stops
        assert monitor.should_continue(progress) is not stops  # and asking changes nothing
        verdict = monitor._guard.verdict(progress)
        assert (verdict.reason, verdict.should_continue) == (reason, not stops)


@pytest.mark.parametrize("resource", LIMITS)
def test_a_limit_of_zero_permits_nothing(resource: str, make: Make) -> None:
    """Not even a run that used nothing yet."""
    key = next(iter(LIMITS[resource]))
    assert not make(**{**UNLIMITED, key: 0}).should_continue(1.0)


def test_a_run_without_limits_goes_on_for_ever(clock: FakeClock, make: Make) -> None:
    """Whatever it uses."""
    monitor = make(**UNLIMITED)
    for _ in range(3):
        monitor.record_operation(2**50, api_call=True, cost_usd=2**50)
        clock.advance(1e12)
        assert monitor.should_continue(0.0)


def test_the_worst_resource_decides(make: Make) -> None:
    """One that is exceeded stops a run that may finish for another."""
    monitor = make(max_tokens=100, max_api_calls=1)
    monitor.record_operation(tokens=90)
    assert monitor.should_continue(0.9)
    monitor.record_operation(api_call=True)
    assert not monitor.should_continue(0.9)


@pytest.mark.parametrize("progress", [-0.01, 1.01, math.nan, math.inf, "0.5", True, Decimal("0.5"),
                                      Fraction(1, 2), [0.5]])  # fmt: skip
def test_a_progress_outside_its_range_is_refused(progress: Any, make: Make) -> None:
    """Also while all is well, and the progress reported before stays."""
    monitor = make()
    monitor.should_continue(0.25)
    with pytest.raises(InvalidValueError, match=r"progress_estimate: .*number from 0 to 1"):
        monitor.should_continue(progress)
    with pytest.raises(InvalidValueError, match="progress_estimate"):
        monitor.get_estimated_completion_possible(progress)
    assert monitor._record.progress == 0.25


def test_the_duration_is_measured_on_the_monotonic_clock(clock: FakeClock, make: Make) -> None:
    """A wall clock that is set forward or back ends nothing and gives nothing back."""
    monitor = make(max_duration_seconds=10)
    clock.jump(1e6)
    assert monitor.should_continue(0.0)
    clock.jump(-2e6)
    clock.advance(9.9)
    assert not monitor.should_continue(0.0)
    clock.advance(0.1)
    assert not monitor.should_continue(1.0)


def test_an_odd_threshold_is_met_exactly(make: Make) -> None:
    """0.55 of 100 is 55, though as a float it is more."""
    monitor = make(max_tokens=100, token_warning_threshold=0.55)
    monitor.record_operation(54)
    assert monitor.should_continue(0.0)
    monitor.record_operation(1)
    assert not monitor.should_continue(0.0)


def test_other_limits_count_from_the_next_question_on(make: Make) -> None:
    """Lowered they stop, raised they let go on: nothing is latched."""
    monitor = make(max_tokens=1000)
    monitor.record_operation(500)
    assert monitor.should_continue(0.0)
    monitor.update_limits(max_tokens=500)
    assert not monitor.should_continue(1.0)
    monitor.update_limits(ResourceLimits(max_tokens=10_000))
    assert monitor.should_continue(0.0)
    monitor.record_operation(7500)
    assert not monitor.should_continue(0.0)


@pytest.mark.parametrize(
    ("limits", "changes", "key"),
    [
        ({"max_tokens": 5}, {}, "limits"),
        (None, {"max_token": 5}, "max_token"),
        (None, {"max_tokens": -5}, "max_tokens"),
    ],
)
def test_limits_that_are_none_are_refused_and_change_nothing(
    limits: Any, changes: dict[str, Any], key: str, make: Make
) -> None:
    """By the name of the argument."""
    monitor = make(max_tokens=7)
    with pytest.raises(InvalidValueError, match=key):
        monitor.update_limits(limits, **changes)
    assert monitor.limits == ResourceLimits(max_tokens=7)


def test_raise_if_stopped_raises_the_verdict(make: Make) -> None:
    """With all its numbers, for those who rather catch than ask."""
    monitor = make(max_tokens=10)
    monitor.raise_if_stopped(0.5)
    monitor.record_operation(10)
    with pytest.raises(BudgetExceeded, match=r"tokens at 100\.0%") as caught:
        monitor.raise_if_stopped(0.5)
    verdict = caught.value.verdict
    assert (verdict.action, verdict.status) == (Action.STOP, LimitStatus.EXCEEDED)
    assert verdict.resources["tokens"].used == 10


def test_the_callback_hears_each_change_of_verdict_once_and_in_order(make: Make) -> None:
    """Also one that it causes itself; and its own failure ends nothing."""
    heard: list[str] = []

    def hear(verdict: Verdict) -> None:
        heard.append(verdict.reason)
        if verdict.reason == Reason.APPROACHING_LIMIT:
            monitor.record_operation(tokens=20)
            raise RuntimeError("the caller's own")

    monitor = make(max_tokens=100, on_verdict=hear)
    for progress in (0.1, 0.1, 0.2, 0.3):
        monitor.should_continue(progress)
        monitor.record_operation(tokens=20)
    assert heard == [Reason.APPROACHING_LIMIT_PROGRESS_UNKNOWN]  # 0.3 was said before that
    assert not monitor.should_continue(0.3)
    assert not monitor.should_continue(0.3)
    assert heard[1:] == [Reason.APPROACHING_LIMIT, Reason.LIMIT_EXCEEDED]


def test_no_lock_is_held_while_the_callback_runs(make: Make) -> None:
    """It may wait for threads that use the same monitor."""
    done: list[bool] = []

    def hear(_: Verdict) -> None:
        other = threading.Thread(target=monitor.check_limits)
        other.start()
        other.join(20)
        done.append(not other.is_alive())

    monitor = make(max_tokens=10, on_verdict=hear)
    monitor.record_operation(10)
    assert done == [True]


def test_a_run_that_was_told_to_stop_and_then_to_go_on_was_not_stopped(make: Make) -> None:
    """Its outcome is that of the last answer."""
    with make(max_tokens=10) as monitor:
        monitor.record_operation(10)
        assert not monitor.should_continue()
        monitor.update_limits(max_tokens=100)
        assert monitor.should_continue()
    assert monitor._record.state == "completed"
    with make(max_tokens=10) as stopped:
        stopped.record_operation(10)
        assert not stopped.should_continue()
    assert stopped._record.state == "stopped"
