"""Texts at hooks that have more than one number, or none."""

from dataclasses import replace
from decimal import Decimal

from otel_budget import semconv
from otel_budget.agents.words import brief_text, end_text, lines_of
from otel_budget.core.budget import Budget, Window, WindowKind, WindowSpan
from otel_budget.core.forecast import Estimate, Forecast
from otel_budget.core.verdict import LimitStatus, ResourceState, Verdict
from otel_budget.policy.budgets import budget_state
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


TEAM = Budget("team", Window(WindowKind.TOTAL), {semconv.TOKENS: 1000}, per=("user",))


def sharing(used: int, own: Verdict, *, binds: bool) -> Verdict:
    """Return a verdict with a budget that it shares."""
    state = budget_state(TEAM, ("ann b",), {semconv.TOKENS: used}, WindowSpan(0.0))
    return replace(own, budgets=(replace(state, binds=binds),))


def test_an_end_by_a_budget_names_it_and_how_it_is_raised() -> None:
    """A limit of the run's own that is only near is not what stopped it."""
    for own in (verdict(10, reason="limit_exceeded"), verdict(910, reason="limit_exceeded")):
        assert end_text(sharing(1020, own, binds=True)) == (
            "otel-budget: stopped: budget team of user=ann b: tokens at 102.0% (1,020 of 1,000). "
            "To go on: otel-budget budget raise team --group 'user=ann b' --max-tokens N "
            '--reason "..."'
        )


def test_an_end_by_a_budget_that_is_low_names_the_budget_before_a_limit_that_is_near() -> None:
    """Both are past their warning line."""
    stop = sharing(850, verdict(910, reason="budget_low"), binds=True)
    assert end_text(stop).startswith(
        "otel-budget: stopped: budget team of user=ann b: tokens at 85.0% (850 of 1,000), tokens "
        "at 91.0% (910 of 1,000). To go on: otel-budget budget raise team"
    )


def test_a_budget_that_is_near_its_limit_is_a_line_of_its_own_and_is_briefed_of() -> None:
    """Also where nothing of the run itself is near."""
    near = sharing(850, verdict(10), binds=True)
    assert lines_of(near) == {("budget:team{user=ann b} tokens", "1000")}
    assert brief_text(near).startswith(
        "otel-budget: budget team of user=ann b: tokens at 85.0% (850 of 1,000): 150 left"
    )
