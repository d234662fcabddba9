"""Rows in columns, and the amounts of a sidecar's JSON, for lines on a terminal."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from otel_budget.core.resources import RESOURCES
from otel_budget.logs.text import printable

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from otel_budget.core.quantities import Number


def aligned(rows: Iterable[Sequence[str]], right: Container[int] = ()) -> list[str]:
    """Return rows as lines in columns. right: numbers of those whose texts end alike."""
    table = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            text.rjust(width) if place in right else text.ljust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def number_of(resource: str, value: object) -> Number:
    """Return an amount of a sidecar's JSON: money is text there. Raises TypeError, ValueError."""
    if isinstance(value, str):
        amount = Decimal(value)
        if not amount.is_finite():
            raise ValueError(f"{resource} is not an amount")
        return amount
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{resource} is not an amount")
    row = RESOURCES.get(resource)
    return value if row is None else row.quantity.as_limit(value)
