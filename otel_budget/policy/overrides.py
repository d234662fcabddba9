"""What an operator's overrides change of a verdict.

A run's own limits are only touched where the run, or the sidecar's file, lets limits come from
outside; then an operator's limit takes the place of the run's own, be it higher or lower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import OPERATOR
from otel_budget.policy.bounds import OWN, Bounds, bounds_from, stricter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.observation import RunAttributes
    from otel_budget.core.override import Override
    from otel_budget.policy.decision_table import Decision

STOPPED: Decision = (Action.STOP, Reason.OPERATOR_STOP)


def ceilings(
    configured: Bounds, thresholds: Mapping[str, float], override: Override | None
) -> Bounds:  # fmt: skip
    """Return the ceilings that hold: an operator's in place of the configured ones.

    thresholds: the configured ones by resource; they go with an operator's ceiling, too.
    """
    if override is None:
        return configured
    kept = {name: bound for name, bound in configured.items() if name not in override.limits}
    ordered = {name: limit for name, limit in override.limits.items() if limit is not None}
    return {**kept, **bounds_from(ordered, thresholds, OPERATOR)}


def held_to(
    attributes: RunAttributes,
    configured: Bounds,
    thresholds: Mapping[str, float],
    order: Override | None,
    *,
    from_outside: bool,
) -> Bounds:
    """Return all that a run is held to: its own limits, and the ceilings.

    configured, thresholds: of the sidecar. order: an operator's limits. from_outside: True if these
    take the place of the run's own; then they keep its own thresholds, too.
    """
    limits = attributes.limits
    if order is None or not from_outside:
        own = bounds_from(limits, attributes.thresholds, OWN)
        return stricter(own, ceilings(configured, thresholds, order))
    ordered = {name: limit for name, limit in order.limits.items() if limit is not None}
    kept = {name: limit for name, limit in limits.items() if name not in order.limits}
    own = {
        **bounds_from(kept, attributes.thresholds, OWN),
        **bounds_from(ordered, attributes.thresholds, OPERATOR),
    }
    return stricter(own, ceilings(configured, thresholds, order))


def said(override: Override) -> str:
    """Say in words that a run is stopped, for its message."""
    by = f" by {override.by}" if override.by else " by an operator"
    at_once = " at once" if override.now else ""
    return f"stopped{at_once}{by}: {override.reason}"
