"""What an answer of an SDK says of its call."""

from __future__ import annotations

from typing import Any

from otel_budget.genai.call_tracker import CALL_TRACKER
from otel_budget.genai.usage_of import usage_of
from otel_budget.genai.values import field


def said_by(answer: Any) -> dict[str, Any]:
    """Return what an answer says of its call, for ``report_of``. Never raises."""
    try:
        used = usage_of(answer)
        return {
            "input": used.get("input_tokens"),
            "output": used.get("output_tokens"),
            "cached": used.get("cache_read_tokens"),
            "cache_write": used.get("cache_write_tokens"),
            "reasoning": used.get("reasoning_tokens"),
            "model": used.get("model"),
            "service_tier": used.get("service_tier"),
            "charge": used.get("cost_usd"),
            "extras": used.get("extras"),
            "response_id": field(answer, "id"),
        }
    except Exception:  # noqa: BLE001 - a defect here must not end the user's model call
        CALL_TRACKER.broken("ends")
        return {}
