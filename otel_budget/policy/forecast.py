"""What will be: whether the rest fits, and when a limit is reached. Straight lines, no more."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from otel_budget.core.uncertainty import NO_UNCERTAINTY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.core.uncertainty import UsageUncertainty
    from otel_budget.policy.bounds import Bounds


def completion_possible(
    used: Mapping[str, Number],
    bounds: Bounds,
    progress: float | None,
    uncertainty: UsageUncertainty = NO_UNCERTAINTY,
) -> bool | None:
    """Tell whether the rest of the run fits in every limit at the rate so far.

    If progress p took u, all of it takes u / p; it fits if that is at most the limit. Returns None
    when it cannot be told: no progress yet, or unknown, or what is known would fit but part of what
    is used of a limited resource is unknown. A run with no limits always fits; one
    that is past a limit never does.
    """
    if any(used[name] > limited.limit for name, limited in bounds.items()):
        return False
    if not bounds:
        return True
    if not progress:
        return None
    from fractions import Fraction  # seldom asked for: it takes its time to import

    share = Fraction(repr(progress))  # the decimal it was written as: 0.3 is 3/10
    fits = all(
        Fraction(used[name]) <= Fraction(limited.limit) * share for name, limited in bounds.items()
    )
    return None if fits and not bounds.keys().isdisjoint(uncertainty.at_least) else fits


def exhaustion_seconds(remaining: Number | None, per_second: float | None) -> float | None:
    """Return seconds until nothing remains at the given rate; None if it is not being spent.

    A rate so small that the answer would be beyond any number is none.
    """
    if remaining is None or per_second is None or per_second <= 0:
        return None
    seconds = float(remaining) / per_second
    return seconds if math.isfinite(seconds) else None
