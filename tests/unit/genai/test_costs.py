"""What is said of a call's cost: what was charged, what was worked out, what cannot be money."""

import math
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from otel_budget.genai.costs import Costs, charged, in_headers
from otel_budget.genai.span_reader import read
from otel_budget.genai.values import as_money

CHAT = {"gen_ai.operation.name": "chat"}


@pytest.mark.parametrize(
    ("said", "cost"),
    [
        (0.25, "0.25"), ("0.5", "0.5"), (0, "0"), (0.0, "0"), (-0.0, "0"), (Decimal(2), "2"),
        (-1.0, None), (math.nan, None), (math.inf, None), (True, None), ("free", None),
        ([1], None), (None, None), ("1e-999999", None), ("", None),
    ],
)  # fmt: skip
def test_money_is_a_finite_number_of_at_least_0(said: object, cost: str | None) -> None:
    assert as_money(said) == (None if cost is None else Decimal(cost))


def test_a_number_of_very_many_digits_is_no_money() -> None:
    assert as_money(10**5000) is None


@pytest.mark.parametrize(
    ("scope", "seen", "costs"),
    [
        ("of-ours", {"gen_ai.usage.cost": 0.25}, Costs(Decimal("0.25"), None)),
        ("of-ours", {"gen_ai.usage.cost": 0}, Costs(Decimal(0), None)),
        ("of-ours", {"llm.cost.total": 0.25}, Costs(Decimal("0.25"), None)),
        ("of-ours", {"gen_ai.usage.cost": -1}, Costs()),
        ("pydantic-ai", {"operation.cost": 0.25}, Costs(None, Decimal("0.25"))),
        ("pydantic-ai", {"operation.cost": 0.0}, Costs(None, Decimal(0))),
        ("openlit.openai", {"gen_ai.usage.cost": 0.25}, Costs(None, Decimal("0.25"))),
        ("openlit.openai", {"gen_ai.usage.cost": 0}, Costs()),
        ("litellm", {"gen_ai.cost.total_cost": 0.25}, Costs(None, Decimal("0.25"))),
        ("litellm", {"gen_ai.cost.total_cost": 0.0}, Costs()),
        (
            "anybody",
            {"litellm.cost.total": 0.0, "operation.cost": 0.5},
            Costs(None, Decimal("0.5")),
        ),
    ],
)
def test_a_spans_cost_is_a_charge_unless_its_library_works_it_out(
    scope: str, seen: dict[str, Any], costs: Costs
) -> None:
    """OpenLIT and LiteLLM write 0 for models that they don't know."""
    assert read("chat", scope, {**CHAT, **seen}).costs == costs


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({"cost": 0.0421, "is_byok": False, "cost_details": {"upstream_inference_cost": None}},
         "0.0421"),
        # The newer answers name what the provider behind it took, which is in the price.
        ({"cost": 0.04, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.03}},
         "0.04"),
        ({"cost": 0.002, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.04}},
         "0.042"),
        ({"cost": 0, "is_byok": True, "upstream_inference_cost": 0.04}, "0.04"),
        ({"cost": 0}, "0"),
        ({"cost": {"input_tokens_cost": 0.1, "request_cost": 0.005, "total_cost": 0.25}}, "0.25"),
        ({"cost_in_usd_ticks": 421_000_000}, "0.0421"),
        ({"logfire_ai_gateway": {"cost": "0.0038"}}, "0.0038"),
        ({"cost": "a lot"}, None), ({"cost": None}, None), ({}, None), (None, None),
        ({"cost": {"total_cost": math.nan}}, None),
    ],
)  # fmt: skip
def test_gateways_and_providers_state_their_charge_in_the_usage(
    usage: Any, cost: str | None
) -> None:
    """OpenRouter's, Perplexity's, xAI's and Pydantic's gateway's, as mappings and as objects."""
    wanted = None if cost is None else Decimal(cost)
    assert charged(usage) == wanted
    assert charged(None if usage is None else SimpleNamespace(**usage)) == wanted


def test_a_proxy_of_litellm_states_its_charge_in_a_header() -> None:
    assert in_headers({"x-litellm-response-cost": "0.0421"}) == Decimal("0.0421")
    assert in_headers({"x-litellm-response-cost": "None"}) is None
    assert in_headers(None) is None
