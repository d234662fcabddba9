"""Limits checked: every state of every resource, warnings once per change, the log."""

from __future__ import annotations

import logging

import pytest

from otel_budget import LimitStatus
from otel_budget.policy.format import rest_of
from otel_budget.testing import FakeClock
from tests.support.monitors import Make

NOTHING = {"max_duration_seconds": None, "max_tokens": None, "max_api_calls": None}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings so far, without the session's name, and forget them."""
    found = [
        record.getMessage().split(": ", 1)[1]
        for record in caplog.records
        if record.levelno == logging.WARNING
    ]
    caplog.clear()
    return found


def test_every_state_of_every_resource_is_told(clock: FakeClock, make: Make) -> None:
    """OK, approaching, exceeded, unlimited: with used, limit, remaining and ratio."""
    monitor = make(max_duration_seconds=100, max_tokens=1000, max_api_calls=None, max_cost_usd=2)
    result = monitor.check_limits()
    assert (result.status, result.approaching, result.exceeded) == (LimitStatus.OK, (), ())
    assert result.should_continue
    assert result.message == "all resources within their limits"

    clock.advance(80)
    monitor.record_operation(1200, api_call=True, cost_usd=0.5)
    result = monitor.check_limits()
    assert (result.approaching, result.exceeded) == (("duration",), ("tokens",))
    assert result.status is LimitStatus.EXCEEDED
    assert not result.should_continue
    assert "1,200 of 1,000" in result.message
    assert "80.0 s of 100 s" in result.message
    tokens, calls, cost = (result.resources[n] for n in ("tokens", "api_calls", "cost"))
    assert (tokens.used, tokens.limit, tokens.remaining, tokens.ratio) == (1200, 1000, 0, 1.2)
    assert (calls.used, calls.limit, calls.remaining, calls.ratio) == (1, None, None, None)
    assert calls.status is cost.status is LimitStatus.OK
    assert (cost.ratio, str(cost.remaining)) == (0.25, "1.5")


def test_an_approaching_run_may_go_on_as_far_as_its_limits_are_concerned(make: Make) -> None:
    """Whether it should, the verdict says: it knows the progress."""
    monitor = make(max_tokens=10)
    monitor.record_operation(9)
    result = monitor.check_limits()
    assert result.status is LimitStatus.APPROACHING
    assert result.should_continue


def test_a_limit_of_zero_is_exceeded_from_the_start(make: Make) -> None:
    """And is a hundred percent of nothing."""
    result = make(max_api_calls=0).check_limits()
    assert result.exceeded == ("api_calls",)
    assert result.resources["api_calls"].ratio == 1.0


def test_a_change_of_status_is_warned_of_exactly_once(
    caplog: pytest.LogCaptureFixture, make: Make
) -> None:
    """Not once per call, whichever call notices it; and each resource for itself."""
    caplog.set_level(logging.INFO, "otel_budget")
    monitor = make(max_tokens=100, max_api_calls=10)
    for _ in range(3):
        monitor.should_continue(0.5)
        monitor.check_limits()
    assert warnings(caplog) == []
    for _ in range(5):
        monitor.record_operation(20)
        for _ in range(3):
            monitor.should_continue(0.9)
            monitor.check_limits()
    assert warnings(caplog) == [
        "approaching: tokens at 80.0% (80 of 100)",
        "exceeded: tokens at 100.0% (100 of 100)",
    ]
    for _ in range(8):
        monitor.record_operation(api_call=True)
    assert warnings(caplog) == ["approaching: api_calls at 80.0% (8 of 10)"]


def test_a_count_that_jumps_past_everything_is_warned_of_once(
    caplog: pytest.LogCaptureFixture, make: Make
) -> None:
    """Straight from ok to exceeded, without being asked."""
    caplog.set_level(logging.INFO, "otel_budget")
    monitor = make(max_cost_usd=1)
    monitor.record_operation(cost_usd=3)
    monitor.record_operation(cost_usd=3)
    assert warnings(caplog) == ["exceeded: cost at 300.0% ($3.00 of $1.00)"]


def test_time_is_warned_of_when_somebody_asks(
    caplog: pytest.LogCaptureFixture, clock: FakeClock, make: Make
) -> None:
    """Nothing runs in the background for it."""
    monitor = make(**{**NOTHING, "max_duration_seconds": 10})
    monitor.should_continue()
    for _ in range(10):
        clock.advance(1)
        monitor.should_continue()
    assert warnings(caplog) == [
        "approaching: duration at 80.0% (8.0 s of 10.0 s)",
        "exceeded: duration at 100.0% (10.0 s of 10.0 s)",
    ]


def test_limits_that_are_raised_bring_a_resource_back_to_ok_and_say_so_once(
    caplog: pytest.LogCaptureFixture, make: Make
) -> None:
    """At INFO: it is no warning. And from there it warns anew."""
    caplog.set_level(logging.INFO, "otel_budget")
    monitor = make(max_tokens=100)
    monitor.record_operation(90)
    caplog.clear()
    monitor.update_limits(max_tokens=1000)
    monitor.check_limits()
    messages = [record.getMessage() for record in caplog.records]
    assert sum("ok: tokens at 9.0% (90 of 1,000)" in message for message in messages) == 1
    assert warnings(caplog) == []
    monitor.record_operation(800)
    assert warnings(caplog) == ["approaching: tokens at 89.0% (890 of 1,000)"]


def test_log_status_says_where_every_resource_stands(
    caplog: pytest.LogCaptureFixture, clock: FakeClock, make: Make
) -> None:
    """A line each at INFO, and one for the verdict; asking changes nothing."""
    monitor = make(max_tokens=1000, max_cost_usd=5)
    monitor.record_operation(250, api_call=True, cost_usd=0.125)
    clock.advance(90)
    caplog.set_level(logging.INFO, "otel_budget")
    caplog.clear()
    left = {name: rest_of(forecast) for name, forecast in monitor.forecast().items()}
    monitor.log_status()
    assert {record.levelno for record in caplog.records} == {logging.INFO}
    assert [record.getMessage() for record in caplog.records] == [
        f"run {monitor.session_id!r}: {line}"
        for line in (
            "duration at 2.5% (90.0 s of 3,600 s): 58 min left",
            f"tokens at 25.0% (250 of 1,000): {left['tokens']}",
            f"api_calls at 0.1% (1 of 1,000): {left['api_calls']}",
            f"cost at 2.5% ($0.125 of $5.00): {left['cost']}",
            "continue (within_limits): tokens at 25.0% (250 of 1,000): continue",
        )
    ]
    assert "left" in left["tokens"]


def test_a_cost_with_unpriced_calls_is_at_least_what_is_known(make: Make) -> None:
    """It never reads as "nothing spent": the verdict and the log say that part is unknown."""
    monitor = make(max_cost_usd=1)
    monitor.record_operation(tokens=10, api_call=True)
    check = monitor.check_limits()
    assert check.resources["cost"].at_least
    assert "cost at least 0.0%" in check.message
    assert "cost at least 0.0%" in monitor.verdict.message
    assert monitor.get_estimated_completion_possible(0.5) is None


def test_tokens_of_which_some_are_unknown_are_at_least_what_is_known(make: Make) -> None:
    """A call without usage used something."""
    monitor = make(max_tokens=100)
    monitor.record_operation(tokens=None, api_call=True)
    assert monitor.check_limits().resources["tokens"].at_least
    assert not monitor.check_limits().resources["api_calls"].at_least
