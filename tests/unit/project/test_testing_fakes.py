"""The public fakes: what users test their own code with."""

from __future__ import annotations

import doctest
import gc

import pytest

from otel_budget import ResourceLimits, ResourceMonitor, testing
from otel_budget.core import verdict_json
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import LimitStatus
from otel_budget.sdk.lifecycle.at_exit import LEFT_BEHIND
from otel_budget.testing import FakeClock, stop_verdict


def test_the_examples_in_the_documentation_are_true() -> None:
    """They are run."""
    found = doctest.testmod(testing)
    assert found.attempted > 0
    assert found.failed == 0
    gc.collect()
    LEFT_BEHIND.finish()


def test_time_passes_on_both_clocks_and_jumps_on_one() -> None:
    """As with real ones."""
    clock = FakeClock(now=100.0)
    clock.advance(5)
    assert (clock.clock.monotonic(), clock.clock.time()) == (5, 105)
    clock.jump(-50)
    assert (clock.clock.monotonic(), clock.clock.time()) == (5, 55)


def test_a_monitor_under_a_fake_clock_lives_by_it(session_id: str) -> None:
    """An hour passes in no time."""
    clock = FakeClock()
    monitor = ResourceMonitor(ResourceLimits(), session_id, clock=clock.clock)
    clock.advance(3600)
    assert not monitor.should_continue(1.0)
    monitor.close(timeout=0)


def test_a_made_up_stop_is_one_the_sidecar_could_have_sent() -> None:
    """It goes over the wire; any field can be had otherwise."""
    verdict = stop_verdict("run-1", message="enough", reason=Reason.OPERATOR_STOP)
    assert (verdict.action, verdict.reason, verdict.message) == (
        Action.STOP, "operator_stop", "enough",
    )  # fmt: skip
    assert verdict.status is LimitStatus.EXCEEDED
    assert verdict_json.from_json(verdict_json.to_json(verdict)) == verdict
    with pytest.raises(TypeError, match="colour"):
        stop_verdict("run-1", colour="red")
