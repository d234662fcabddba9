"""An operator's limits in place of the run's own, in the process: when they hold, and how long."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from otel_budget import InvalidValueError, LimitStatus, ResourceMonitor
from otel_budget.core.verdict import ResourceState
from otel_budget.testing import FakeClock
from tests.support.monitors import Make
from tests.unit.sdk.test_asking import asking
from tests.unit.sdk.test_sidecar_verdicts import continued, guided


def ordered(monitor: ResourceMonitor, limit: int | None, **fields: Any) -> None:
    """Let the sidecar say that an operator's limit on tokens holds in place of the run's own."""
    origin, warning = (None, None) if limit is None else ("operator", limit * 8 // 10)
    state = ResourceState(0, limit, limit, 0.0, LimitStatus.OK, origin, None, warning_at=warning)
    verdict = continued(
        monitor,
        session_id=monitor.session_id,
        started_at=monitor._record.started_at,
        **{"resources": {"tokens": state}, "own_limits_replaced": ("tokens",), **fields},
    )
    monitor._run._receive(verdict)


@pytest.fixture
def run(make: Make) -> ResourceMonitor:
    """A run with 100 tokens of its own, that has used 100 of them."""
    monitor = guided(make, max_tokens=100, max_duration_seconds=None, max_api_calls=None)
    monitor.record_operation(100)
    assert not monitor.should_continue()
    return monitor


def test_a_higher_one_lets_it_go_on_up_to_that_and_no_further(run: ResourceMonitor) -> None:
    """By its exact counts, though the sidecar sees them later; its verdict names whose it is."""
    ordered(run, 200)
    assert run.should_continue()
    assert run.limits.max_tokens == 100, "its own stays what it was"
    assert run.get_tokens_remaining() == 100
    run.record_operation(99)
    assert run.should_continue()
    run.record_operation(1)
    assert not run.should_continue()
    assert (run.verdict.limit_from, run.verdict.resources["tokens"].limit) == ("operator", 200)


def test_a_lower_one_stops_it_at_that(make: Make) -> None:
    """At the record that reaches it."""
    run = guided(make, max_tokens=1000)
    ordered(run, 50)
    run.record_operation(50)
    assert run.verdict.limit_from == "operator"
    assert not run.should_continue()


def test_none_lifts_its_own(run: ResourceMonitor) -> None:
    """For as long as the order holds."""
    ordered(run, None)
    run.record_operation(10_000)
    assert run.should_continue()
    assert run.get_tokens_remaining() is None


def test_without_the_sidecars_word_nothing_is_replaced(run: ResourceMonitor) -> None:
    """Its ceilings only tighten, as ever."""
    ordered(run, 200, own_limits_replaced=())
    assert not run.should_continue()


def test_a_limit_on_what_the_sidecar_knows_nothing_of_replaces_none(run: ResourceMonitor) -> None:
    """It judges none of it, so the run does."""
    ordered(run, 200, resources={})
    assert not run.should_continue()


def test_its_own_hold_again_when_the_order_ends_and_that_is_said(
    run: ResourceMonitor, caplog: pytest.LogCaptureFixture
) -> None:
    """No order is latched."""
    with caplog.at_level(logging.INFO, "otel_budget"):
        ordered(run, 200)
        ordered(run, 200, own_limits_replaced=(), sequence=3)
    assert not run.should_continue()
    said = [r.getMessage() for r in caplog.records if "limited to" in r.getMessage()]
    name = run.session_id
    assert said == [
        f"run {name!r}: an operator's limits hold: it is limited to tokens 200",
        f"run {name!r}: its own limits hold again: it is limited to tokens 100",
    ]


def test_its_own_hold_again_when_the_sidecar_is_lost_and_that_is_warned_of(
    run: ResourceMonitor, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """At the end of the lease; back again, the order holds again."""
    ordered(run, 200)
    assert run.should_continue()
    clock.advance(14.9)
    assert run.should_continue()
    clock.advance(0.2)
    assert not run.should_continue()
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert any("without a sidecar its own limits hold again" in words for words in warned)
    ordered(run, 200, sequence=4, evaluated_at=9.0)
    assert run.should_continue()


def test_limits_that_its_code_changes_meanwhile_are_its_own_when_the_order_ends(
    run: ResourceMonitor,
) -> None:
    """Not before."""
    ordered(run, 200)
    run.update_limits(max_tokens=150, max_cost_usd=0)
    assert run._guard.check().resources["tokens"].limit == 200
    assert run._guard.check().resources["cost"].limit == 0
    ordered(run, 200, own_limits_replaced=(), sequence=3)
    assert run._guard.check().resources["tokens"].limit == 150


def test_it_wakes_a_run_that_waits(run: ResourceMonitor) -> None:
    """As soon as it is heard."""
    answer = asking(run)
    ordered(run, 100)
    assert run._record.waiting, "no more than it has"
    ordered(run, 300, sequence=3)
    assert answer() is not None


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_what_is_no_permission_is_refused(make: Make, value: object) -> None:
    """It is a matter of yes or no."""
    with pytest.raises(InvalidValueError, match="limits_from_outside"):
        make(limits_from_outside=value)
