"""Numbers as people read them; one spelling for logs, verdicts and the terminal."""

from __future__ import annotations

from decimal import ROUND_DOWN, Context, Decimal
from typing import TYPE_CHECKING

from otel_budget import semconv

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.usage import Number

_TENTHS_BELOW = 100
#: Below the first a float's error in tenths of a percent is smaller by far than the second.
_SMALL, _SURELY = 1e3, 1e-6
#: Not the caller's context: a run that counts with six digits can still be told its cost.
_CUT = Context(prec=100, rounding=ROUND_DOWN)


def amount(resource: str, value: Number) -> str:
    """Say an amount of a resource: ``831,000``, ``512 s``, ``$1.25``; seconds are cut."""
    if resource == semconv.COST:
        money = value if isinstance(value, Decimal) else Decimal(repr(value))
        cents = money.quantize(Decimal("0.01"), context=_CUT)
        return f"${cents:,}" if cents == money else f"${money.normalize(_CUT):,f}"
    if resource in semconv.TIMES:
        step = Decimal("0.1") if value < _TENTHS_BELOW else Decimal(1)
        return f"{Decimal(repr(value)).quantize(step, context=_CUT):,} s"
    return f"{value:,}"


def amounts(limits: Mapping[str, Number | None]) -> str:
    """Say limits by resource, those that there are: ``tokens 5,000, cost $2.50``."""
    given = {name: limit for name, limit in limits.items() if limit is not None}
    return ", ".join(f"{name} {amount(name, limit)}" for name, limit in given.items())


def percent(ratio: float) -> str:
    """Say a ratio in percent with one decimal, cut and never rounded up to the next line.

    799,999 of 1,000,000 is 79.9 %, not 80.0 %: a number that looks past the line but is not
    would make every message about it wrong.
    """
    tenths = ratio * 1000
    cut = int(tenths)
    if ratio < _SMALL and _SURELY < tenths - cut < 1 - _SURELY:
        return f"{cut // 10}.{cut % 10}%"  # so far from a line that a float's error is no matter
    return f"{_CUT.multiply(Decimal(repr(ratio)), 100).quantize(Decimal('0.1'), context=_CUT)}%"
