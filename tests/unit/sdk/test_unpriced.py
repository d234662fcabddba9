"""A limit on cost that cannot hold for a call is said: once, with why and what to do."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest

from otel_budget import Prices
from otel_budget.sdk import recorder
from otel_budget.sdk.pricing.unpriced import UnpricedNotices
from tests.support.monitors import Make

USED: dict[str, Any] = {"api_call": True, "input_tokens": 1000, "output_tokens": 100}
UNKNOWN = {**USED, "model": "nobody-knows-it", "provider": "openai"}
KNOWN = {**USED, "model": "gpt-4o", "provider": "openai"}


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Any:
    """What was said in a process of its own."""
    monkeypatch.setattr(recorder, "UNPRICED_NOTICES", UnpricedNotices())
    caplog.set_level(logging.WARNING, "otel_budget")
    return caplog


def lines(said: pytest.LogCaptureFixture) -> list[str]:
    """Return what was said of prices."""
    return [text for text in said.messages if "has no price" in text]


@pytest.mark.parametrize(
    ("call", "cause"),
    [
        (UNKNOWN, "'nobody-knows-it' (provider 'openai') has no price: it is in no price list"),
        (USED, "no named model (provider not named) has no price: it names no model"),
        ({"tokens": 100, "api_call": True}, "it names no model"),
        ({**KNOWN, "extras": {"tool_calls": 1}}, "the list has none for tool_calls"),
        ({**KNOWN, "service_tier": "scale"}, "the list has none for the service tier 'scale'"),
        ({"api_call": True, "tokens": 5, "model": "gpt-4o"}, "input and output are not told apart"),
    ],
)
def test_the_first_call_without_a_price_says_that_the_limit_does_not_hold(
    make: Make, said: pytest.LogCaptureFixture, call: dict[str, Any], cause: str
) -> None:
    """The next ones do not; the verdict goes on saying "at least"."""
    monitor = make(max_cost_usd=5, max_tokens=None)
    for _ in range(3):
        monitor.record_operation(**call)
    (line,) = lines(said)
    assert cause in line
    assert "The limit on cost, $5, does not apply to such calls" in line
    assert "on_unpriced='stop'" in line
    assert monitor.should_continue()
    assert "cost at least" in monitor.verdict.message


@pytest.mark.parametrize(
    ("limits", "call"),
    [
        ({}, UNKNOWN),  # no limit on cost
        ({"max_cost_usd": 5, "on_unpriced": "stop"}, UNKNOWN),  # that says it
        ({"max_cost_usd": 5}, KNOWN),
        ({"max_cost_usd": 5}, {**UNKNOWN, "cost_usd": 0}),
        ({"max_cost_usd": 5}, {"tokens": None, "api_call": True}),  # on_unknown_usage
    ],
)
def test_where_the_limit_holds_or_there_is_none_nothing_is_said(
    make: Make, said: pytest.LogCaptureFixture, limits: dict[str, Any], call: dict[str, Any]
) -> None:
    """Nor where something else is said."""
    make(**limits).record_operation(**call)
    assert not lines(said)


def test_each_model_is_said_and_each_once_for_all_runs(
    make: Make, said: pytest.LogCaptureFixture
) -> None:
    """A server has a run for each request."""
    for _ in range(3):
        monitor = make(max_cost_usd=5)
        monitor.record_operation(**UNKNOWN)
        monitor.record_operation(**{**UNKNOWN, "model": "another-one"})
    assert len(lines(said)) == 2


def test_a_limit_that_comes_later_is_one_too(make: Make, said: pytest.LogCaptureFixture) -> None:
    """The calls before it had none."""
    monitor = make()
    monitor.record_operation(100, api_call=True)
    assert not lines(said)
    monitor.update_limits(max_cost_usd=5)
    monitor.record_operation(100, api_call=True)
    assert len(lines(said)) == 1


def test_without_the_price_list_one_line_says_how_to_install_it(
    make: Make, said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the models are."""
    monkeypatch.setitem(sys.modules, "otel_budget.sdk.pricing.bundled", None)
    monkeypatch.delattr("otel_budget.sdk.pricing.bundled", raising=False)
    monitor = make(max_cost_usd=5, prices=Prices())
    monitor.record_operation(**KNOWN)
    monitor.record_operation(**{**KNOWN, "model": "gpt-4.1"})
    (line,) = lines(said)
    assert "the price list is not installed" in line
    assert "pip install" in line
    assert "$5, does not apply" in line
