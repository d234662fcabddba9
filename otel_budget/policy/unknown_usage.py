"""What calls of unknown price or unknown use do to a run: nothing, or they stop it.

The rule: such a call stops a run only if the run's limits cannot be held for want of it, that is
for a price under a limit on cost, for a use under a limit on tokens or cost. What is exceeded by
what is known is exceeded first of all (decision_table.py). That a use may be estimated instead is
not policy: then it is counted, and no longer unknown.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from otel_budget import semconv
from otel_budget.core.limits import STOP
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.uncertainty import UsageUncertainty
from otel_budget.policy.decision_table import Decision

UNKNOWN_USAGE: Decision = (Action.STOP, Reason.UNKNOWN_USAGE)
UNPRICED: Decision = (Action.STOP, Reason.UNPRICED_CALLS)


@dataclass(frozen=True, slots=True)
class OnUnknown:
    """What is to be done; the default is to go on, and to say "at least"."""

    unpriced: Literal["ignore", "stop"] = "ignore"
    usage: Literal["ignore", "estimate", "stop"] = "ignore"

    def stopped_by(
        self, uncertainty: UsageUncertainty, limited: Collection[str]
    ) -> Decision | None:
        """Return the decision to stop for what is unknown, or None. limited: resources."""
        counted = semconv.TOKENS in limited or semconv.COST in limited
        if self.usage == STOP and uncertainty.unknown_usage_calls and counted:
            return UNKNOWN_USAGE
        if self.unpriced == STOP and uncertainty.unpriced_calls and semconv.COST in limited:
            return UNPRICED
        return None


def unknown_calls(reason: Reason, uncertainty: UsageUncertainty) -> str:
    """Return how many calls a stop for what is unknown is about."""
    usage = reason is Reason.UNKNOWN_USAGE
    number = uncertainty.unknown_usage_calls if usage else uncertainty.unpriced_calls
    return f"{number:,} call" + ("" if number == 1 else "s")
