"""What a response of Pydantic AI's says of the call behind it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from otel_budget.core import extras
from otel_budget.genai import billed
from otel_budget.genai.call_tracker import CALL_TRACKER
from otel_budget.genai.costs import charged
from otel_budget.genai.values import as_count, field

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from pydantic_ai.messages import ModelResponse
    from pydantic_ai.usage import RequestUsage

    from otel_budget.adapters.pydantic_ai.streams import Growth


def said(response: Callable[[], ModelResponse], growth: Growth | None = None) -> dict[str, Any]:
    """Return what a response says. Never raises, whatever a model of the application's returns."""
    try:
        return said_by(response(), growth)
    except Exception:  # noqa: BLE001 - it must not end the user's model call
        CALL_TRACKER.broken("ends")
        return {"output": None}


def said_by(response: ModelResponse, growth: Growth | None = None) -> dict[str, Any]:
    """Return what a response says of its call, for ``report_of``. Its input has the cached tokens.

    Of a stream that was left before its end the output so far is not what was paid for: it is
    unknown. growth: of a stream's usage.
    """
    usage = response.usage if growth is None else growth.usage(response.usage)
    details = getattr(response, "provider_details", None)
    is_whole = getattr(response, "state", "complete") == "complete"
    return {
        "input": usage.input_tokens,
        "output": usage.output_tokens if is_whole else None,
        "cached": usage.cache_read_tokens,
        "cache_write": usage.cache_write_tokens,
        "reasoning": _reasoning(usage) if is_whole else None,
        "model": response.model_name,
        "provider": response.provider_name,
        "response_id": response.provider_response_id,
        "charge": _charge(details),
        "service_tier": billed.tier_in_usage(details) or field(details, "traffic_type"),
        "extras": billed.in_usage(details) | _extras(usage, getattr(response, "parts", None)),
        "estimate": getattr(usage, "cost", None),  # since version 2
    }


def _charge(details: object) -> Decimal | None:
    """Return what OpenRouter charged. Pydantic AI leaves a 0 out, and keeps what comes with it."""
    free = isinstance(details, dict) and "is_byok" in details and "cost" not in details
    return charged({"cost": 0, **details} if free else details)  # type: ignore[dict-item] # free says so


def _extras(usage: Any, parts: object) -> Counter[str]:
    """Return what is billed beside plain tokens. The usage has genai-prices' names for it."""
    details = getattr(usage, "details", None) or {}
    found = {name: as_count(getattr(usage, name, details.get(name))) or 0 for name in extras.NAMES}
    files = as_count(getattr(usage, "storage_searches", None))
    found[extras.FILE_SEARCHES] = found[extras.FILE_SEARCHES] or files or 0
    hour, searches = "ephemeral_1h_input_tokens", "web_search_requests"
    found[extras.CACHE_WRITE_1H] = found[extras.CACHE_WRITE_1H] or as_count(details.get(hour)) or 0
    by_tool = billed.tools_in(parts)
    said = found[extras.WEB_SEARCHES] or as_count(details.get(searches))
    if said:  # Google bills an answer of older models once, however many queries it has
        by_tool.pop(extras.WEB_SEARCHES, None)
        found[extras.WEB_SEARCHES] = said
    return Counter(found) | by_tool


def _reasoning(usage: RequestUsage) -> int | None:
    """Return the output that was reasoning. Version 1 has it among the provider's own details."""
    if hasattr(usage, "output_reasoning_tokens"):
        return usage.output_reasoning_tokens  # type: ignore[no-any-return] # not installed here
    details = usage.details or {}
    return details.get("reasoning_tokens", details.get("thinking_tokens"))
