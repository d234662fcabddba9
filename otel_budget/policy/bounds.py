"""Where each limited resource begins to be approaching, and where it is exceeded.

Threshold times limit is exact, taken from the decimal the threshold was written as, and worked out
once. Of several limits on one resource the lower holds: adding one never loosens anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from otel_budget.core.limits import DEFAULT_THRESHOLD, ResourceLimits
from otel_budget.core.resources import RESOURCES

if TYPE_CHECKING:
    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import Verdict

#: Wide enough that a threshold (17 digits) times a limit (up to 34) is never rounded.
EXACT = Context(prec=100)


#: Where limits come from that are the run's own.
OWN: Final = "session"


@dataclass(frozen=True, slots=True)
class Bound:
    """Where a resource begins to be approaching, and where it is exceeded."""

    limit: Number
    warning_at: Number
    """The smallest use that counts as approaching, in the resource's own type."""
    origin: str


Bounds = dict[str, Bound]
"""Per limited resource; absent is unlimited."""


@lru_cache(maxsize=4096)
def bound(resource: str, limit: Number, threshold: float, origin: str) -> Bound:
    """Return the bound for one limit. threshold: above 0 and at most 1."""
    exact_limit = limit if isinstance(limit, Decimal) else Decimal(repr(limit))
    warning = EXACT.multiply(Decimal(repr(threshold)), exact_limit)
    quantity = RESOURCES[resource].quantity
    return Bound(quantity.as_limit(limit), quantity.at_least(warning), origin)


def bounds_of(limits: ResourceLimits) -> Bounds:
    """Return the bounds of a run's own limits."""
    return {
        row.name: bound(row.name, limit, row.threshold_of(limits), OWN)
        for row in RESOURCES.values()
        if (limit := row.limit_of(limits)) is not None
    }


def bounds_from(
    limits: Mapping[str, Number], thresholds: Mapping[str, float], origin: str
) -> Bounds:
    """Return bounds out of plain mappings; a missing threshold is the default."""
    return {
        resource: bound(resource, limit, thresholds.get(resource, DEFAULT_THRESHOLD), origin)
        for resource, limit in limits.items()
        if resource in RESOURCES
    }


def bounds_in(verdict: Verdict) -> Bounds:
    """Return the bounds that a sidecar's verdict names, but for those of the run's own limits."""
    return {
        name: Bound(
            state.limit,
            state.limit if state.warning_at is None else state.warning_at,
            state.limit_from,
        )
        for name, state in verdict.resources.items()
        if state.limit is not None and state.limit_from not in (None, OWN) and name in RESOURCES
    }


def replaced_in(verdict: Verdict) -> dict[str, Bound | None]:
    """Return what holds in place of the run's own limits by a sidecar's verdict; None: no limit.

    Not of resources of whose use it knows nothing: it judges none of these.
    """
    theirs, known = bounds_in(verdict), verdict.resources
    return {name: theirs.get(name) for name in verdict.own_limits_replaced if name in known}


def with_others(own: Bounds, others: Mapping[str, Bound | None]) -> Bounds:
    """Return bounds with others in place of some of them; None: none at all."""
    if not others:
        return own
    kept = {name: bound for name, bound in own.items() if name not in others}
    return {**kept, **{name: bound for name, bound in others.items() if bound is not None}}


def stricter(one: Bounds, other: Bounds) -> Bounds:
    """Return the bounds that hold when both do.

    Limit and warning line are each the lower of the two, so adding a limit never loosens anything.
    """
    merged = dict(one)
    for resource, theirs in other.items():
        ours = merged.get(resource)
        if ours is None:
            merged[resource] = theirs
            continue
        lower = theirs if theirs.limit < ours.limit else ours
        warning = min(ours.warning_at, theirs.warning_at)
        merged[resource] = Bound(lower.limit, warning, lower.origin)
    return merged
