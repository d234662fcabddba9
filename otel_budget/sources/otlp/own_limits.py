"""Limits that stand in a resource: what started a program may say so what its run may use.

``otel_budget.max_tokens`` and the like, by the keys of a configuration. The values come from an
environment variable as a rule, and are text there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otel_budget import semconv
from otel_budget.core import validation
from otel_budget.core.quantities import MONEY
from otel_budget.errors import InvalidValueError
from otel_budget.sources.otlp.wanted import (
    LIMIT_ATTRIBUTES,
    THRESHOLD_ATTRIBUTES,
    WRAP_UP_ATTRIBUTE,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.core.resources import Resource
    from otel_budget.sources.otlp.messages import Scalar


class OwnLimits(NamedTuple):
    """What a run says that it may use; as in RunAttributes."""

    limits: Mapping[str, Number]
    thresholds: Mapping[str, float]
    unread: tuple[str, ...] = ()
    """Metrics, as in RunObservation.implausible, for what cannot be read: no limit of a resource
    would mean that it is unlimited."""
    wrap_up_calls: float | None = None

    @property
    def shown(self) -> int:
        """How many of ``optional_series`` there are."""
        return len(self.limits) + (self.wrap_up_calls is not None)


NONE = OwnLimits({}, {})


def own_limits(attributes: Mapping[str, Scalar]) -> OwnLimits:
    """Return the limits that are among the attributes of a resource."""
    limits: dict[str, Number] = {}
    thresholds: dict[str, float] = {}
    unread: dict[str, None] = {}
    kept_back: float | None = None
    for name, value in attributes.items():
        if name in LIMIT_ATTRIBUTES:
            limit = _limit(LIMIT_ATTRIBUTES[name], value)
            if limit is None:
                unread[semconv.LIMIT.name] = None
            else:
                limits[LIMIT_ATTRIBUTES[name].name] = limit
        elif name in THRESHOLD_ATTRIBUTES:
            share = number(value)
            if share is not None and 0 < share <= 1:
                thresholds[THRESHOLD_ATTRIBUTES[name].name] = float(share)
            else:
                unread[semconv.WARNING_THRESHOLD.name] = None
        elif name == WRAP_UP_ATTRIBUTE:
            kept_back = _calls(value)
            if kept_back is None:
                unread[semconv.WRAP_UP_CALLS.name] = None
    if not limits and not thresholds and not unread and kept_back is None:
        return NONE
    return OwnLimits(limits, thresholds, tuple(unread), kept_back)


def _limit(row: Resource, value: Scalar) -> Number | None:
    try:
        if row.quantity is MONEY and isinstance(value, str):
            return row.quantity.limit_from_json(row.limit_key, value)
        return row.quantity.limit(row.limit_key, number(value))
    except InvalidValueError:
        return None


def _calls(value: Scalar) -> float | None:
    try:
        return float(validation.count(WRAP_UP_ATTRIBUTE, number(value)))
    except InvalidValueError:
        return None


def number(value: object) -> int | float | None:
    """Return the number that an attribute holds, which may be text; None if it is none."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return value
    try:
        text = str(value)
        return int(text) if text.lstrip("-").isdecimal() else float(text)
    except ValueError:
        return None
