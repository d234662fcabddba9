"""What is said of the cost of one call, in US dollars. Pure.

The rules:
- A charge is what the sender of the bill (a gateway, a provider) says, or the application. It
  may be 0: a free model, a model on one's own hardware.
- An estimate is what a library works out by its own list. Some write 0 for a model that they
  don't know; theirs says nothing.
- What cannot be an amount of money (negative, NaN, infinite, no number at all) says nothing.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.genai import attribute_names
from otel_budget.genai.values import as_money, field

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Of xAI's unit of money: what it charged, in whole numbers.
_TICKS_PER_DOLLAR: Final = Decimal(10) ** 10
#: Where a gateway writes its charge beside the usage that the provider reported.
_GATEWAYS: Final = (("logfire_ai_gateway", "cost"), ("pydantic_ai_gateway", "cost_estimate"))
_HEADERS: Final = ("x-litellm-response-cost", "llm_provider-x-litellm-response-cost")


class Costs(NamedTuple):
    """What one span says."""

    charge: Decimal | None = None
    estimate: Decimal | None = None


NO_COSTS: Final = Costs()


def on_span(scope: str, seen: Mapping[str, object]) -> Costs:
    """Return what a span says its call cost."""
    if attribute_names.COSTS.isdisjoint(seen):
        return NO_COSTS
    said, estimate = _first(seen, attribute_names.CHARGE), _first(seen, attribute_names.ESTIMATE)
    if not scope.startswith(attribute_names.ESTIMATORS):
        return Costs(said, estimate)
    return Costs(None, (said or None) if estimate is None else estimate)


def _first(seen: Mapping[str, object], spellings: tuple[str, ...]) -> Decimal | None:
    for spelling in spellings:
        cost = as_money(seen.get(spelling))
        if cost or (cost is not None and spelling not in attribute_names.ZERO_IS_UNKNOWN):
            return cost
    return None


def charged(usage: object) -> Decimal | None:
    """Return what a provider's or a gateway's usage, object or mapping, says was charged.

    OpenRouter's is ``cost``, and for a call by one's own key with the provider behind it what that
    one charged on top; Perplexity's is a mapping with a total; xAI counts in its own unit.
    """
    for block, key in _GATEWAYS:
        cost = as_money(field(field(usage, block), key))
        if cost is not None:
            return cost
    said = field(usage, "cost")
    total = field(said, "total_cost")
    cost = as_money(said if total is None else total)
    if cost is None:
        ticks = as_money(field(usage, "cost_in_usd_ticks"))
        return None if ticks is None else ticks / _TICKS_PER_DOLLAR
    upstream = field(field(usage, "cost_details"), "upstream_inference_cost")
    upstream = as_money(field(usage, "upstream_inference_cost") if upstream is None else upstream)
    by_own_key = field(usage, "is_byok") is not False
    return cost + upstream if upstream is not None and by_own_key else cost


def in_headers(headers: object) -> Decimal | None:
    """Return what a gateway's response headers say was charged."""
    for name in _HEADERS:
        cost = as_money(field(headers, name))
        if cost is not None:
            return cost
    return None
