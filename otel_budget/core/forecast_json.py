"""A forecast as JSON types and back: what cannot be told is null, never 0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_budget.core.forecast import Estimate, Forecast

if TYPE_CHECKING:
    from otel_budget.core.json_fields import Fields


def to_dict(forecast: Forecast) -> dict[str, Any]:
    """Return a forecast as the contract has it (docs/design.md, section 5)."""
    calls, seconds = forecast
    return {
        "calls_left": None if calls is None else calls.value,
        "calls_left_range": None if calls is None else [calls.low, calls.high],
        "whole_calls_left": forecast.whole_calls_left,
        "seconds_left": None if seconds is None else seconds.value,
        "seconds_left_range": None if seconds is None else [seconds.low, seconds.high],
    }


def from_fields(fields: Fields) -> Forecast:
    """Return the forecast in a decoded object. Raises InvalidValueError naming the field."""
    return Forecast(_estimate(fields, "calls_left"), _estimate(fields, "seconds_left"))


def _estimate(fields: Fields, key: str) -> Estimate | None:
    value = fields.maybe(fields.real, key)
    if value is None:
        return None
    low, high = fields.range_around(f"{key}_range", value)
    return Estimate(value, low, high)
