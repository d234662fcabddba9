"""What is billed beside plain tokens: each part at its own price, or the cost is "at least"."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from otel_budget import InvalidValueError, Prices, Reason
from otel_budget.core.extras import Extras, extras_of, tier_of
from otel_budget.sdk.usage_arguments import OperationUsage
from tests.support.monitors import Make

CALL: dict[str, Any] = {"api_call": True, "input_tokens": 100_000, "output_tokens": 10_000}
CLAUDE = {**CALL, "model": "claude-sonnet-4-5", "provider": "anthropic"}
GPT = {**CALL, "model": "gpt-5-mini", "provider": "openai"}
AUDIO = {**CALL, "model": "gpt-audio", "provider": "openai"}
GEMINI = {**CALL, "model": "gemini-2.5-flash", "provider": "google"}


@pytest.mark.parametrize(
    ("call", "plain", "with_extras"),
    [
        # 5 at $0.01
        ({**CLAUDE, "extras": {"web_searches": 5}}, "0.45", "0.5"),
        # 5 minutes at $3.75, an hour at $6, for a million
        ({**CLAUDE, "cache_write_tokens": 50_000, "extras": {"cache_write_1h_tokens": 20_000}},
         "0.4875", "0.5325"),
        ({**GPT, "extras": {"file_searches": 4}}, "0.045", "0.055"),
        ({**GPT, "service_tier": "flex"}, "0.045", "0.0225"),
        ({**GPT, "service_tier": "batch"}, "0.045", "0.0225"),
        ({**GPT, "service_tier": "PRIORITY"}, "0.045", "0.081"),
        ({**CLAUDE, "service_tier": "batch"}, "0.45", "0.225"),
        ({**GEMINI, "extras": {"input_audio_tokens": 50_000}}, "0.055", "0.09"),
        ({**GEMINI, "extras": {"input_image_tokens": 50_000}}, "0.055", "0.055"),
    ],
)  # fmt: skip
def test_an_extra_with_a_price_costs_what_it_does(
    make: Make, call: dict[str, Any], plain: str, with_extras: str
) -> None:
    """And all of it is known."""
    without = {key: value for key, value in call.items() if key not in ("extras", "service_tier")}
    for given, cost in ((without, plain), (call, with_extras)):
        monitor = make(max_cost_usd=100, max_tokens=None, on_unpriced="stop")
        monitor.record_operation(**given)
        assert monitor.should_continue()
        used = monitor.get_usage_report()
        assert (used.cost_usd, used.unpriced_calls) == (Decimal(cost), 0)


@pytest.mark.parametrize("tier", ["default", "standard", "auto", "on_demand", "", None])
def test_the_standard_tier_is_none(make: Make, tier: str | None) -> None:
    """Whatever it is called."""
    monitor = make()
    monitor.record_operation(**GPT, service_tier=tier)
    assert monitor.get_usage_report().cost_usd == Decimal("0.045")
    assert tier_of(tier) is None


@pytest.mark.parametrize(
    ("call", "at_least"),
    [
        ({**CLAUDE, "extras": {"code_executions": 1}}, "0.45"),
        ({**CLAUDE, "extras": {"tool_calls": 1, "web_searches": 1}}, "0.46"),
        ({**CLAUDE, "extras": {"regional_calls": 1}}, "0.45"),
        ({**CLAUDE, "extras": {"output_audio_tokens": 10}}, "0.45"),
        ({**GPT, "cache_write_tokens": 5, "extras": {"cache_write_1h_tokens": 5}}, "0.045"),
        # Dearer than the standard tier for sure; cheaper; nobody knows.
        ({**CLAUDE, "service_tier": "priority"}, "0.45"),
        ({**CLAUDE, "service_tier": "flex"}, "0"),
        ({**CLAUDE, "service_tier": "scale", "extras": {"web_searches": 5}}, "0.05"),
        ({**CLAUDE, "model": "nobody-knows-it", "extras": {"web_searches": 5}}, "0"),
    ],
)  # fmt: skip
def test_an_extra_without_a_price_makes_the_cost_at_least(
    make: Make, call: dict[str, Any], at_least: str
) -> None:
    """It is not free, and it stops a run that asks for that."""
    monitor = make(max_cost_usd=100, max_tokens=None)
    monitor.record_operation(**call)
    used = monitor.get_usage_report()
    assert (used.cost_usd, used.unpriced_calls) == (Decimal(at_least), 1)
    assert "cost at least" in monitor.check_limits().message
    strict = make(max_cost_usd=100, max_tokens=None, on_unpriced="stop")
    strict.record_operation(**call)
    assert not strict.should_continue()
    assert strict.verdict.reason == Reason.UNPRICED_CALLS


def test_a_search_that_is_told_apart_from_its_call_counts_as_no_call(make: Make) -> None:
    """With its price, and without one."""
    monitor = make(max_cost_usd=100)
    monitor.record_operation(
        model="claude-sonnet-4-5", provider="anthropic", extras={"web_searches": 2}
    )
    used = monitor.get_usage_report()
    assert (used.cost_usd, used.api_calls, used.unpriced_calls) == (Decimal("0.02"), 0, 0)
    monitor.record_operation(extras={"web_searches": 2})
    assert monitor.get_usage_report().unpriced_calls == 1


def test_a_cost_that_is_given_is_of_all_of_the_call(make: Make) -> None:
    """Its extras included."""
    monitor = make(max_cost_usd=100)
    monitor.record_operation(**CALL, cost_usd=1, extras={"code_executions": 3}, service_tier="x")
    used = monitor.get_usage_report()
    assert (used.cost_usd, used.unpriced_calls) == (Decimal(1), 0)


def test_a_call_of_unknown_use_has_its_extras_counted(make: Make) -> None:
    """They are known all the same."""
    monitor = make(max_cost_usd=100)
    known: dict[str, Any] = {**CLAUDE, "extras": {"web_searches": 5}}
    known |= {"input_tokens": None, "output_tokens": None}
    monitor.record_operation(None, **known)
    used = monitor.get_usage_report()
    assert (used.cost_usd, used.unpriced_calls, used.unknown_usage_calls) == (Decimal("0.05"), 1, 1)


def test_an_operation_takes_extras_and_its_tier(make: Make) -> None:
    """As ``record_operation`` does."""
    monitor = make()
    with monitor.operation(model="gpt-5-mini", provider="openai") as operation:
        operation.record(input_tokens=100_000, output_tokens=10_000)
        operation.record(service_tier="flex", extras={"web_searches": 1})
    assert monitor.get_usage_report().cost_usd == Decimal("0.0325")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"extras": {"web_serches": 1}}, "extras: 'web_serches' .* web_searches"),
        ({"extras": {"web_searches": -1}}, r"extras\['web_searches'\]: -1"),
        ({"extras": {"web_searches": 1.5}}, r"extras\['web_searches'\]: 1\.5"),
        ({"extras": ["web_searches"]}, "extras: .* a mapping"),
        ({"service_tier": 1}, "service_tier: 1"),
        ({"extras": {"output_audio_tokens": 10_001}}, "output_audio_tokens: 10001 .*output_tokens"),
        ({"extras": {"cache_write_1h_tokens": 1}}, "cache_write_1h_tokens: 1 .*cache_write_tokens"),
    ],
)  # fmt: skip
def test_extras_that_cannot_be_are_refused_and_nothing_is_counted(
    make: Make, given: dict[str, Any], message: str
) -> None:
    """Naming the argument."""
    monitor = make()
    with pytest.raises(InvalidValueError, match=message):
        monitor.record_operation(**CALL, **given)
    assert monitor.get_usage_report().api_calls == 0


OWN = """\
prices:
  mine:
    - {input: 1, output: 10, cache_write: 2, cache_write_1h: 3, input_audio: 4, output_image: 50,
       per_web_search: 0.01, per_tool_call: 0.5}
    - {service_tier: Flex, input: 0.5, output: 5}
  free: {input: 0, output: 0}
  gpt-5-mini: {input: 1, output: 1}
"""


#: 80,000 plain, 20,000 written to a cache; 10,000 out.
USED = OperationUsage(110_000, 100_000, 10_000, 0, 20_000, api_call=True)


@pytest.fixture
def own(tmp_path: Path) -> Prices:
    """The prices above."""
    path = tmp_path / "prices.yaml"
    path.write_text(OWN, encoding="utf-8")
    return Prices.from_yaml(path)


@pytest.mark.parametrize(
    ("model", "extras", "tier", "cost"),
    [
        ("mine", {}, None, "0.22"),
        ("mine", {"cache_write_1h_tokens": 10_000}, None, "0.23"),
        ("mine", {"input_audio_tokens": 10_000}, None, "0.25"),
        ("mine", {"output_image_tokens": 1_000}, None, "0.26"),
        ("mine", {"web_searches": 1, "tool_calls": 2}, None, "1.23"),
        ("mine", {}, "flex", "0.1"),
        ("free", {"input_audio_tokens": 10_000}, None, "0"),
    ],
)  # fmt: skip
def test_own_prices_name_extras_and_tiers(
    own: Prices, model: str, extras: dict[str, int], tier: str | None, cost: str
) -> None:
    """The dearer of two kinds of cache, audio and pictures, units, another tier; free is free."""
    worth = own.worth(model, None, USED._replace(extras=extras_of(extras, tier)))
    assert worth == (Decimal(cost), True)


@pytest.mark.parametrize(
    ("model", "extras", "tier", "cost"),
    [
        ("mine", {"file_searches": 1}, None, "0.22"),
        ("mine", {"web_searches": 1}, "flex", "0.1"),
        ("mine", {}, "priority", "0.22"),
        ("mine", {}, "batch", None),
        ("free", {"web_searches": 1}, None, "0"),
        # A tier that the file does not name has no price of the list beside the file's own.
        ("gpt-5-mini", {}, "flex", None),
    ],
)
def test_what_own_prices_do_not_name_is_not_covered(
    own: Prices, model: str, extras: dict[str, int], tier: str | None, cost: str | None
) -> None:
    """Neither by the list."""
    worth = own.worth(model, None, USED._replace(extras=extras_of(extras, tier)))
    assert worth == (None if cost is None else Decimal(cost), False)


def test_tokens_of_a_kind_that_are_more_than_there_are_leave_the_cost_uncovered() -> None:
    """What is cached may be the audio: the rest of it, 300, costs what audio does."""
    used = OperationUsage(
        1000, 1000, 0, 600, api_call=True, extras=Extras({"input_audio_tokens": 900})
    )
    cost, covered = Prices().worth("gemini-2.5-flash", "google", used)
    assert not covered
    assert (
        cost
        == Decimal("0.3") * 100 / 10**6
        + Decimal(300) / 10**6
        + Decimal(600) * Decimal("0.03") / 10**6
    )


def test_tokens_of_a_model_without_a_price_are_at_least_even_if_they_are_no_call(
    make: Make,
) -> None:
    """``api_call=True`` is easily forgotten; without a model's name tokens never had a price."""
    monitor = make(max_cost_usd=1)
    monitor.record_operation(100)
    assert monitor.get_usage_report().unpriced_calls == 0
    monitor.record_operation(input_tokens=100, output_tokens=5, model="gpt-4o", provider="openai")
    assert monitor.get_usage_report().unpriced_calls == 0
    monitor.record_operation(input_tokens=100, output_tokens=5, model="nobody-knows-it")
    used = monitor.get_usage_report()
    assert (used.api_calls, used.unpriced_calls) == (0, 1)
    assert "cost at least" in monitor.check_limits().message
