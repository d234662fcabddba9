"""What the SDK says of a call: its usage, its answer, and what was asked for."""

from __future__ import annotations

from typing import Any

from otel_budget.genai import billed
from otel_budget.genai.costs import charged
from otel_budget.genai.values import field


def said_by(usage: Any, output: object) -> dict[str, Any]:
    """Return what a usage and an answer's items say, for ``report_of``. None: there are none."""
    of_input = getattr(usage, "input_tokens_details", None)
    of_output = getattr(usage, "output_tokens_details", None)
    return {
        "input": getattr(usage, "input_tokens", None),
        "output": getattr(usage, "output_tokens", None),
        "cached": getattr(of_input, "cached_tokens", None),
        "cache_write": getattr(of_input, "cache_write_tokens", None),
        "reasoning": getattr(of_output, "reasoning_tokens", None),
        "charge": charged(usage),
        "extras": billed.in_usage(usage) | billed.tools_in(output),
    }


def asked_tier(settings: object) -> object:
    """Return the service tier that a model's settings ask for: the SDK drops what was served."""
    more = field(settings, "extra_args"), field(settings, "extra_body")
    return next((tier for each in more if (tier := field(each, "service_tier"))), None)


def id_of(response: Any) -> dict[str, Any]:
    """Return the response's id; the SDK puts a made-up one where an API has none."""
    made_up = str(response.id or "").startswith("__")
    return {} if made_up else {"response_id": response.id}
