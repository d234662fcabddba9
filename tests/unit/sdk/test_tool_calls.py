"""Calls of tools, the first of the further resources: counted and limited like the others."""

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from otel_budget import ResourceLimits, ResourceMonitor, semconv
from otel_budget.errors import InvalidValueError
from tests.support.monitors import Make


@pytest.mark.parametrize("value", [-1, 1.0, 0.5, True, False, "2", float("nan"), 2**53 + 1, []])
def test_what_is_no_count_is_refused_and_counts_nothing(make: Make, value: Any) -> None:
    """As for tokens and calls; here, and in an operation."""
    monitor = make(session_id="refused")
    with pytest.raises(InvalidValueError, match="tool_calls"):
        monitor.record_operation(5, tool_calls=value)
    with (
        pytest.raises(InvalidValueError, match="tool_calls"),
        monitor.operation("step", api_call=False) as operation,
    ):
        operation.record(tool_calls=value)
    used = monitor.get_usage_report()
    assert (used.tool_calls, used.tokens) == (0, 0)


def test_a_total_past_what_a_metric_can_say_is_refused(make: Make) -> None:
    monitor = make()
    monitor.record_operation(tool_calls=2**53)
    with pytest.raises(InvalidValueError, match=r"tool_calls: 1 .*within 2"):
        monitor.record_operation(3, tool_calls=1)
    assert (monitor.get_usage_report().tool_calls, monitor.get_usage_report().tokens) == (2**53, 0)


def test_a_limit_warns_stops_and_says_what_is_left(make: Make) -> None:
    monitor = make(max_tool_calls=5, max_tokens=None)
    assert (monitor.get_tool_calls_remaining(), monitor.should_continue(0.1)) == (5, True)
    monitor.record_operation(tool_calls=4)
    assert monitor.get_tool_calls_remaining() == 1
    assert monitor.check_limits().approaching == ("tool_calls",)
    assert monitor.should_continue(0.9)
    assert not monitor.should_continue(0.1)
    monitor.record_operation(tool_calls=1)
    assert not monitor.should_continue(0.9)
    assert monitor.verdict.message == "tool_calls at 100.0% (5 of 5) with progress 90.0%: stop"
    assert monitor.get_estimated_completion_possible(0.5) is False
    assert monitor.get_usage_summary()["tool_calls"]["used"] == 5


def test_without_a_limit_and_a_call_there_is_nothing_to_say(make: Make) -> None:
    monitor = make()
    assert monitor.get_tool_calls_remaining() is None
    assert "tool_calls" not in monitor.get_usage_summary()
    assert monitor.get_usage_report().tool_calls == 0


def test_a_progress_from_before_a_line_was_crossed_is_not_used_after_it(make: Make) -> None:
    """As with the others: how many there were is known of the report that came before."""
    monitor = make(max_tool_calls=10, max_tokens=None)
    monitor.record_operation(tool_calls=3)
    assert monitor.should_continue(0.5)
    monitor.record_operation(tool_calls=1)
    assert monitor._record.further_at_report == {"tool_calls": 3}
    assert [monitor.verdict.progress] == [0.5]
    monitor.record_operation(tool_calls=4)
    assert [monitor.verdict.progress] == [None]
    assert monitor.should_continue(0.9)
    assert monitor._record.further_at_report == {"tool_calls": 8}


def test_a_resumed_run_goes_on_with_what_it_used(make: Make, tmp_path: Path) -> None:
    monitor = make(session_id="again", project_root=tmp_path, max_tool_calls=5)
    monitor.record_operation(tool_calls=3)
    monitor.close("failed", timeout=0)
    again = ResourceMonitor.resume("again", tmp_path)
    again.record_operation(tool_calls=1)
    assert (again.get_usage_report().tool_calls, again.get_tool_calls_remaining()) == (4, 1)
    again.close(timeout=0)


def test_what_was_shown_once_stays_shown(make: Make) -> None:
    """A lifted limit is no lost series."""
    from tests.unit.sdk.test_exposition import registry_of

    def shown(monitor: ResourceMonitor) -> float | None:
        registry: CollectorRegistry = registry_of(monitor)
        sid = {"session_id": monitor.session_id}
        return registry.get_sample_value(semconv.SESSION_TOOL_CALLS.name, sid)

    monitor = make(session_id="lifted")
    assert shown(monitor) is None
    monitor.update_limits(max_tool_calls=5)
    assert shown(monitor) == 0
    monitor.update_limits(ResourceLimits.only())
    assert shown(monitor) == 0
