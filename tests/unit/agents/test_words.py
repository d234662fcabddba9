"""Texts at hooks that have more than one number, or none."""

from dataclasses import replace
from decimal import Decimal

from otel_budget import semconv
from otel_budget.agents.words import brief_text, end_text
from otel_budget.core.forecast import Estimate, Forecast
from otel_budget.core.verdict import LimitStatus, ResourceState
from tests.unit.agents.hooked import verdict

_NEAR = LimitStatus.APPROACHING
COST = ResourceState(Decimal("4.75"), Decimal(5), Decimal("0.25"), 0.95, _NEAR, "session")


def test_a_briefing_says_all_lines_and_what_is_left_of_the_nearest() -> None:
    """In the resource's own unit."""
    near = verdict(910)
    both = replace(near, resources={**near.resources, semconv.COST: COST})
    assert brief_text(both).startswith(
        "otel-budget: tokens at 91.0% (910 of 1,000), cost at 95.0% ($4.75 of $5.00): $0.25 left."
    )


def test_a_briefing_says_how_many_calls_are_left_where_that_is_known() -> None:
    """A model plans in calls, not in tokens."""
    near = verdict(910)
    calls = Forecast(Estimate(2.4, 1.9, 3.1))
    tokens = near.resources[semconv.TOKENS]._replace(forecast=calls)
    told = replace(near, resources={semconv.TOKENS: tokens})
    assert brief_text(told).startswith(
        "otel-budget: tokens at 91.0% (910 of 1,000): 90 left, about 2 calls. Wrap up"
    )


def test_an_end_for_a_near_limit_says_which() -> None:
    """A run that reports its progress is stopped before it is over."""
    stop = verdict(910, reason="approaching_limit")
    assert end_text(stop).startswith("otel-budget: stopped: tokens at 91.0% (910 of 1,000). To go")


def test_an_end_for_a_reason_that_is_not_known_has_the_verdicts_words() -> None:
    """A newer sidecar's."""
    assert end_text(verdict(reason="moon")) == "otel-budget: stopped: because of moon."
