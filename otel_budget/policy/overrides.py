"""What an operator's overrides change of a verdict. A run's own limits are never touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget.core.reasons import Action, Reason
from otel_budget.policy.bounds import Bounds, bounds_from

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    return {**kept, **bounds_from(ordered, thresholds, "operator")}


def said(override: Override) -> str:
    """Say in words that a run is stopped, for its message."""
    by = f" by {override.by}" if override.by else " by an operator"
    at_once = " at once" if override.now else ""
    return f"stopped{at_once}{by}: {override.reason}"
