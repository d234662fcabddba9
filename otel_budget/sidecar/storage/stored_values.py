"""Single values of a stored row: numbers, amounts and labels, each checked as it is read.

The ``load`` functions raise ValueError, TypeError, ArithmeticError, LookupError or AttributeError
for NaN, text, a truth value or a list in the place of a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from otel_budget.core import validation
from otel_budget.core.observation import shared_labels
from otel_budget.core.resources import quantity_of

if TYPE_CHECKING:
    from otel_budget.core.quantities import Number


def dump_number(value: Number) -> int | float | str:
    """Return a number as it is stored."""
    return str(value) if isinstance(value, Decimal) else value


def load_number(value: float | str) -> Number:
    """Return a number as it was stored: money is a Decimal, anything else is none."""
    number = Decimal(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not math.isfinite(number):
        raise ValueError(f"a number is {value!r}")
    return number


def load_limits(values: Mapping[str, Any]) -> dict[str, Number]:
    """Return limits, by resource; an infinite one is none."""
    finite = {key: value for key, value in values.items() if value not in (math.inf, "Infinity")}
    return {key: load_number(value) for key, value in finite.items()}


def load_real(value: Any) -> float:
    """Return a plain number."""
    if isinstance(value, bool | str) or not math.isfinite(value):
        raise ValueError(f"a number is {value!r}")
    return value  # type: ignore[no-any-return] # an int or a float


def load_moment(value: Any) -> float | None:
    """Return a moment in seconds, or that there is none."""
    return None if value is None else load_real(value)


def load_amount(resource: str, value: float | str) -> Number:
    """Return what was used of a resource: of money a Decimal, of others none; they do not mix."""
    if not quantity_of(resource).is_stored_as(value):
        raise TypeError(f"{resource} is {value!r}")
    return load_number(value)


def load_amounts(values: Mapping[str, Any]) -> dict[str, Number]:
    """Return what was used, by resource."""
    return {key: load_amount(key, value) for key, value in values.items()}


def load_labels(values: Any) -> Mapping[str, str] | None:
    """Return labels of a run; those that are equal are one object, as with those that are read."""
    if values is None:
        return None
    if not all(isinstance(text, str) for item in values.items() for text in item):
        raise TypeError("labels are text")
    return shared_labels(values)


def load_parent(value: Any) -> str | None:
    """Return the session id of a run's parent."""
    return None if value is None else validation.session_id(value)


def load_calls(values: Mapping[str, Any]) -> dict[str, int]:
    """Return numbers of calls, by name."""
    return {key: int(load_real(value)) for key, value in values.items()}
