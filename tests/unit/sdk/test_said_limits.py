"""What a run says of its limits: when it begins, when it is printed, when one never applied."""

from __future__ import annotations

import logging
from decimal import Decimal

import pytest

from otel_budget import ResourceLimits
from otel_budget.genai.call_tracker import CALL_TRACKER
from otel_budget.genai.notices import Notices
from tests.support.monitors import Make


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is said once in a process be said in each test."""
    monkeypatch.setattr(CALL_TRACKER, "notices", Notices())


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (ResourceLimits(max_cost_usd=Decimal(5)),
         "duration 3,600 s, tokens 1,000,000, api_calls 1,000, cost $5.00"),
        (ResourceLimits.only(max_active_seconds=90), "active_duration 90.0 s"),
        (ResourceLimits.only(), "nothing"),
    ],
)  # fmt: skip
def test_a_run_says_once_what_it_is_limited_to(
    limits: ResourceLimits, said: str, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Limits that come by default among them: nobody has to guess why it stopped."""
    with caplog.at_level(logging.INFO, "otel_budget"):
        monitor = make(limits, "said-limits")
        assert caplog.text == ""
        for _ in range(2):
            monitor.record_operation(1, api_call=True)
            monitor.should_continue()
    assert caplog.text.count(f"run 'said-limits': limited to {said}\n") == 1
    assert repr(monitor) == f"<ResourceMonitor 'said-limits', running, limited to {said}>"


def test_a_limit_on_calls_that_never_applied_is_said_once(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Tokens were recorded, and no call: it is easily forgotten."""
    for _ in range(2):
        monitor = make()
        monitor.record_operation(tokens=1500)
        monitor.close(timeout=0)
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "recorded 1,500 tokens and no API call, so its limit of 1,000 API calls" in warnings[0]
    assert "pass api_call=True with each call" in warnings[0]


@pytest.mark.parametrize("tokens", [0, 5])
def test_nothing_is_said_of_calls_where_nothing_was_forgotten(
    tokens: int, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """There was a call, or nothing at all, or no limit on calls."""
    for limits, call in ((None, tokens > 0), (ResourceLimits(max_api_calls=None), False)):
        monitor = make(limits)
        monitor.record_operation(tokens=tokens, api_call=call)
        monitor.close(timeout=0)
    assert "no API call" not in caplog.text


def test_a_cost_nobody_knows_is_not_said_to_be_at_least_nothing(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor is what has no limit called unlimited in one breath with a sum."""
    monitor = make()
    monitor.record_operation(5, api_call=True)
    with caplog.at_level(logging.INFO, "otel_budget"):
        monitor.log_status()
    assert "cost not known, no limit" in caplog.text
    monitor.record_operation(5, api_call=True, cost_usd=Decimal("0.25"))
    caplog.clear()
    with caplog.at_level(logging.INFO, "otel_budget"):
        monitor.log_status()
    assert "cost at least $0.25, no limit" in caplog.text
