"""Numbers as people read them; one spelling for logs, verdicts and the terminal."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from otel_budget import semconv

if TYPE_CHECKING:
    from otel_budget.model.usage import Number

_TENTHS_BELOW = 100


def amount(resource: str, value: Number) -> str:
    """Say an amount of a resource: ``831,000``, ``512.3 s``, ``$1.25``."""
    if resource == semconv.COST:
        money = value if isinstance(value, Decimal) else Decimal(repr(value))
        cents = money.quantize(Decimal("0.01"))
        return f"${cents:,}" if cents == money else f"${money.normalize():,f}"
    if resource == semconv.DURATION:
        return f"{value:,.1f} s" if value < _TENTHS_BELOW else f"{value:,.0f} s"
    return f"{value:,}"


def percent(ratio: float) -> str:
    """Say a ratio in percent with one decimal, cut and never rounded up to the next line.

    799,999 of 1,000,000 is 79.9 %, not 80.0 %: a number that looks past the line but is not
    would make every message about it wrong.
    """
    tenths = int(ratio * 1000 + 1e-9)
    return f"{tenths / 10:.1f}%"
