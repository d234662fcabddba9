"""What a run used, as a report and as a summary."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

from otel_budget.core.usage import ResourceUsage
from otel_budget.testing import FakeClock
from tests.support.monitors import Make


def test_a_report_has_everything_that_was_counted(
    clock: FakeClock, make: Make, tmp_path: Path
) -> None:
    """From the start time to the last checkpoint."""
    monitor = make(session_id="report", project_root=tmp_path)
    monitor.record_operation(
        input_tokens=100, output_tokens=50, cache_read_tokens=80, cache_write_tokens=20,
        reasoning_tokens=30, api_call=True, cost_usd=0.25, model="m",
    )  # fmt: skip
    monitor.record_operation(tokens=None, api_call=True, outcome="error")
    clock.advance(10)
    monitor.pause()
    clock.advance(5)
    monitor.unpause()
    clock.advance(2.5)
    assert monitor.checkpoint() is not None
    assert monitor.get_usage_report() == ResourceUsage(
        session_id="report", started_at=1_700_000_000.0, duration_seconds=17.5,
        active_seconds=12.5, tokens=150, input_tokens=100, output_tokens=50, cache_read_tokens=80,
        cache_write_tokens=20, reasoning_tokens=30, api_calls=2, failed_api_calls=1,
        unknown_usage_calls=1, cost_usd=Decimal("0.25"), unpriced_calls=1, checkpoints=1,
        last_checkpoint_at=1_700_000_017.5,
    )  # fmt: skip


def test_a_report_goes_through_json_and_back_exactly(clock: FakeClock, make: Make) -> None:
    """Money is text on the way."""
    monitor = make()
    monitor.record_operation(cost_usd=Decimal("0.1000000000000000000000001"))
    clock.advance(0.1)
    usage = monitor.get_usage_report()
    assert ResourceUsage.from_dict(json.loads(json.dumps(usage.to_dict()))) == usage


def test_a_pause_stops_the_active_time_and_not_the_duration(clock: FakeClock, make: Make) -> None:
    """Pausing twice is one pause; unpausing what is not paused is nothing."""
    monitor = make()
    monitor.unpause()
    clock.advance(1)
    for _ in range(2):
        monitor.pause()
        clock.advance(10)
    usage = monitor.get_usage_report()
    assert (usage.duration_seconds, usage.active_seconds) == (21, 1)
    monitor.unpause()
    clock.advance(3)
    usage = monitor.get_usage_report()
    assert (usage.duration_seconds, usage.active_seconds) == (24, 4)


def test_a_closed_run_stands_still(clock: FakeClock, make: Make) -> None:
    """Also one that was closed while it was paused."""
    monitor = make()
    clock.advance(2)
    monitor.pause()
    clock.advance(3)
    monitor.close(timeout=0)
    monitor.pause()
    clock.advance(100)
    monitor.unpause()
    usage = monitor.get_usage_report()
    assert (usage.duration_seconds, usage.active_seconds) == (5, 2)


def test_a_summary_has_used_limit_percentage_and_remaining(clock: FakeClock, make: Make) -> None:
    """Per resource; percentages go past a hundred, what remains never below zero."""
    monitor = make(max_duration_seconds=100, max_tokens=1000, max_api_calls=0, max_cost_usd=None)
    clock.advance(25)
    monitor.record_operation(1500, cost_usd=3)
    summary = monitor.get_usage_summary()
    assert summary == {
        "duration": {"used": 25.0, "limit": 100.0, "percentage": 25.0, "remaining": 75.0},
        "tokens": {"used": 1500, "limit": 1000, "percentage": 150.0, "remaining": 0},
        "api_calls": {"used": 0, "limit": 0, "percentage": 100.0, "remaining": 0},
        "cost": {"used": 3.0, "limit": None, "percentage": None, "remaining": None},
        "checkpoints": {"count": 0, "last_checkpoint_at": None},
    }


def test_a_summary_is_json_whatever_the_amounts(make: Make) -> None:
    """Money as a number; to the last digit it is in the report."""
    monitor = make(max_cost_usd=1e-15, max_tokens=5)
    monitor.record_operation(2**53, api_call=True, cost_usd=Decimal("0.1"))
    monitor.record_operation(cost_usd=0.2)
    cost = json.loads(json.dumps(monitor.get_usage_summary(), allow_nan=False))["cost"]
    assert (cost["used"], cost["limit"], cost["remaining"]) == (0.3, 1e-15, 0.0)
    assert monitor.get_usage_report().cost_usd == Decimal("0.3")


def test_a_summary_knows_the_checkpoints(clock: FakeClock, make: Make, tmp_path: Path) -> None:
    """How many, and when the last."""
    monitor = make(project_root=tmp_path)
    monitor.checkpoint()
    clock.advance(5)
    monitor.checkpoint()
    assert monitor.get_usage_summary()["checkpoints"] == {
        "count": 2,
        "last_checkpoint_at": 1_700_000_005.0,
    }
