"""Amounts as numbers of JSON, as all that a replay prints has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.quantities import Number

_DIGITS: Final = 9


def number(amount: Number) -> int | float:
    """Return an amount as a number; seconds and money without what floats make up."""
    return amount if isinstance(amount, int) else round(float(amount), _DIGITS)


def numbers(amounts: Mapping[str, Number]) -> dict[str, int | float]:
    """Return amounts by resource as numbers."""
    return {name: number(amount) for name, amount in amounts.items()}
