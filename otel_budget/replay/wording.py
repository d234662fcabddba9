"""Amounts and shares as a replay says them to people."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from otel_budget.core.quantities import COUNT, MONEY
from otel_budget.core.resources import RESOURCES

if TYPE_CHECKING:
    from otel_budget.core.quantities import Number

_SHORT: Final = ((10**9, "G"), (10**6, "M"), (10**3, "k"))
#: Largest unit first, in seconds.
_TIMES: Final = ((86_400, "d"), (3600, "h"), (60, "min"))


def short_amount(resource: str, amount: Number) -> str:
    """Write an amount of a resource in about three digits: 1.47M, $2.50, 45 min."""
    quantity = RESOURCES[resource].quantity
    if quantity in (COUNT, MONEY):
        sign = "$" if quantity is MONEY else ""
        for size, suffix in _SHORT:
            if amount >= size:
                return f"{sign}{_three_digits(float(amount) / size)}{suffix}"
        return f"${_cents(amount)}" if sign else f"{amount}"
    for size, unit in _TIMES:
        if amount >= size:
            return f"{_three_digits(float(amount) / size)} {unit}"
    return f"{_three_digits(float(amount))} s"


def percent(share: float | None) -> str:
    """Write a share in whole per cent; of one that is not known, a dash."""
    return "-" if share is None else f"{share * 100:.0f}%"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits


def _cents(amount: Number) -> str:
    exact = Decimal(str(amount))
    return f"{exact:.2f}" if exact == round(exact, 2) else f"{exact:.3g}"
