"""What log records add up to."""

from __future__ import annotations

from decimal import Decimal

from otel_budget.presets.loader import preset
from otel_budget.sources.otlp.events import EventUsage


def test_money_is_what_an_event_means_not_what_its_floats_add_up_to() -> None:
    """A program multiplies and adds floats for what one event says; sums of ours are exact."""
    (rule,) = (one for one in preset("claude_code").events if "cost_usd" in one.amounts)
    usage = EventUsage("boot")
    for cost in (0.06820000000000001, 0.017837999999999993, 0.1):
        usage.add(rule, {"cost_usd": cost, "input_tokens": 1})
    assert usage.amounts["cost_usd"] == Decimal("0.186038")
