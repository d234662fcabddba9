"""A cumulative counter as seen from outside: it grows, and drops only when it began anew.

The rule is PromQL's: a value below the last one means the counter was reset to 0 in between, so
all of the new value is new. What was counted before the reset stays counted.
"""

from __future__ import annotations

from typing import NamedTuple

from otel_budget.core.quantities import Number


class CounterState(NamedTuple):
    """What one series added up to, and its last raw value, in the units of the series."""

    total: Number
    last: Number

    def observe(self, value: Number) -> tuple[CounterState, bool]:
        """Return the state after one more sample, and whether the sample showed a reset."""
        if value >= self.last:
            return CounterState(self.total + (value - self.last), value), False  # type: ignore[operator]
        return CounterState(self.total + value, value), True  # type: ignore[operator]


def first(value: Number) -> CounterState:
    """Return the state after the first sample: all of it counts, whenever it was counted."""
    return CounterState(value, value)
