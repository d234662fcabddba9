"""What the sidecar holds a run against, and what of that is kept back for the run's last calls.

The reserve is that of ``policy.reserve``, by the run's pace as it was scraped: of its own limits,
of its ceilings, and of the budgets that it shares. A run that keeps nothing back has none of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.verdict import LimitStatus
from otel_budget.policy.budgets import least
from otel_budget.policy.decision_table import WITHIN, WRAPPING_UP, Decision
from otel_budget.policy.reserve import LastCalls, least_remaining

if TYPE_CHECKING:
    from otel_budget.core.quantities import Number
    from otel_budget.core.wrap_up import WrapUp
    from otel_budget.ledger.snapshot import RunSnapshot
    from otel_budget.policy.bounds import Bounds
    from otel_budget.policy.budgets import Pools
    from otel_budget.policy.families import Above
    from otel_budget.policy.status import RunStatus

_NO_ROOM: Final[Mapping[str, Number]] = MappingProxyType({})


class RunLimits(NamedTuple):
    """What a run is held against, and what it keeps back of that for its last calls."""

    bounds: Bounds
    """Its own limits and its ceilings; their warning lines where what is kept back begins, if that
    is lower."""
    used: Mapping[str, Number]
    decision: Decision = WITHIN
    """WRAPPING_UP where less is left of one, or of a budget, than is kept back."""
    room: Mapping[str, Number] = _NO_ROOM
    """Per resource, how much more may be used of it until that is so."""
    short: frozenset[str] = frozenset()
    """Origins of the budgets of which less is left, where they decide."""

    @property
    def of_budgets(self) -> LimitStatus:
        """What these are for the run."""
        return LimitStatus.APPROACHING if self.short else LimitStatus.OK


def limits_of(snapshot: RunSnapshot, bounds: Bounds, budgets: Pools) -> RunLimits:
    """Return what a run is held against, beside the budgets that it shares.

    bounds: its own limits and its ceilings.
    """
    used = snapshot.used
    if semconv.ACTIVE_DURATION in bounds:
        used = _with_active_time(snapshot)
    calls = int(snapshot.attributes.wrap_up_calls or 0)
    if not calls:
        return RunLimits(bounds, used)
    last_calls = LastCalls(calls, snapshot.pace)
    reserved = last_calls.reserve(bounds)
    if reserved.is_reached(used):
        return RunLimits(reserved.bounds, used, WRAPPING_UP)
    short = budgets.short_of(last_calls)
    decision = WRAPPING_UP if short else WITHIN
    return RunLimits(reserved.bounds, used, decision, reserved.room(used), short)


def last_calls_of(
    decision: Decision,
    snapshot: RunSnapshot,
    weighed: RunStatus,
    budgets: Pools,
    above: Above,
) -> WrapUp | None:
    """Return what a run that is stopped may still use to finish: all that limits it has room for.

    above: what the runs above it have left. Returns None where not one call fits, and of a stop
    that is no graceful one.
    """
    left = least(least_remaining(weighed.resources, budgets.states), above.remaining)
    calls = int(snapshot.attributes.wrap_up_calls or 0)
    return LastCalls(calls, snapshot.pace).allowance(decision, left)


def _with_active_time(snapshot: RunSnapshot) -> Mapping[str, Number]:
    """Return use with the active time.

    Of a run that does not say how long it was active no pause is known: it is its duration.
    """
    active = snapshot.active
    if active is None:
        if semconv.DURATION not in snapshot.used:
            return snapshot.used
        active = float(snapshot.used[semconv.DURATION])
    return {**snapshot.used, semconv.ACTIVE_DURATION: active}
