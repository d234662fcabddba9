"""The status of a resource.

The rule: EXCEEDED if used >= limit, else APPROACHING if used >= threshold x limit, else OK. No
limit is always OK; a limit of 0 permits nothing. A run's status is its worst resource's.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from otel_budget.core.uncertainty import NO_UNCERTAINTY, UsageUncertainty
from otel_budget.core.validation import MAX_COUNT
from otel_budget.core.verdict import LimitCheckResult, LimitStatus, ResourceState
from otel_budget.policy.bounds import EXACT, Bound, Bounds
from otel_budget.policy.format import describe

if TYPE_CHECKING:
    from otel_budget.core.quantities import Number

#: JSON and people have no use for more, and none at all for infinity.
_LARGEST_RATIO = float(MAX_COUNT)

SEVERITY = {LimitStatus.OK: 0, LimitStatus.APPROACHING: 1, LimitStatus.EXCEEDED: 2}


class RunStatus(NamedTuple):
    """All resources of a run, held against their bounds."""

    status: LimitStatus
    """The worst of theirs."""
    resources: Mapping[str, ResourceState]


def status_of(used: Number, limited: Bound | None) -> LimitStatus:
    """Return the status of one resource: the rule at the top of this file."""
    if limited is None:
        return LimitStatus.OK
    if used >= limited.limit:
        return LimitStatus.EXCEEDED
    if used >= limited.warning_at:
        return LimitStatus.APPROACHING
    return LimitStatus.OK


def _state(
    used: Number,
    limited: Bound | None,
    at_least: bool,  # noqa: FBT001 - by name they take a third longer, and there are many
    estimated: bool,  # noqa: FBT001
) -> ResourceState:
    """Return one resource with its numbers, but what is forecast.

    at_least: part of the use is unknown. estimated: part of it is an estimate.
    """
    if limited is None:
        return ResourceState(
            used, None, None, None, LimitStatus.OK, None, None, at_least, estimated
        )
    limit = limited.limit
    remaining = remaining_of(used, limit)
    return ResourceState(
        used,
        limit,
        remaining,
        ratio_of(used, limit),
        status_of(used, limited),
        limited.origin,
        None,
        at_least,
        estimated,
        limited.warning_at,
    )


def run_status(
    used: Mapping[str, Number],
    bounds: Bounds,
    uncertainty: UsageUncertainty = NO_UNCERTAINTY,
) -> RunStatus:
    """Hold all resources of a run against their bounds.

    uncertainty: what is not known of the use. The status is that of what is known.
    """
    at_least, estimated = uncertainty.at_least, uncertainty.estimated
    worst = LimitStatus.OK
    resources = {}
    for name, value in used.items():
        state = resources[name] = _state(
            value, bounds.get(name), name in at_least, name in estimated
        )
        if state.status is not worst and SEVERITY[state.status] > SEVERITY[worst]:
            worst = state.status
    return RunStatus(worst, resources)


def check(
    used: Mapping[str, Number], bounds: Bounds, uncertainty: UsageUncertainty = NO_UNCERTAINTY
) -> LimitCheckResult:
    """Return the same with the names of what is near or exceeded, in words, too.

    The message says wherever there is a limit that part of the use is not known.
    """
    status, resources = run_status(used, bounds, uncertainty)
    approaching = named(resources, LimitStatus.APPROACHING)
    exceeded = named(resources, LimitStatus.EXCEEDED)
    return LimitCheckResult(
        status=status,
        approaching=approaching,
        exceeded=exceeded,
        resources=resources,
        message=_message(resources, exceeded + approaching),
    )


def headroom(resources: Mapping[str, ResourceState], bounds: Bounds) -> dict[str, Number]:
    """Return, per limited resource, how much more may be used before its status changes.

    A resource that is exceeded has no next status and is left out.
    """
    room: dict[str, Number] = {}
    for name, limited in bounds.items():
        state = resources.get(name)
        if state is None or state.status is LimitStatus.EXCEEDED:
            continue
        mark = limited.warning_at if state.status is LimitStatus.OK else limited.limit
        room[name] = minus(mark, state.used)
    return room


def remaining_of(used: Number, limit: Number) -> Number:
    """Return what is left until a limit, never below 0."""
    return max(minus(limit, used), type(limit)(0))


def minus(one: Number, other: Number) -> Number:
    """Return the difference of two amounts of one resource; of money, whatever the context is."""
    if isinstance(one, Decimal):
        return EXACT.subtract(one, other)  # type: ignore[arg-type] # money is Decimal throughout
    return one - other  # type: ignore[operator] # both are of the resource's own type


def ratio_of(used: Number, limit: Number) -> float:
    """Return used over limit: 1 for a limit of 0, and never infinite for one next to nothing."""
    if not limit:
        return 1.0
    money = isinstance(limit, Decimal)
    ratio = EXACT.divide(used, limit) if money else used / limit  # type: ignore[arg-type, operator]
    return min(float(ratio), _LARGEST_RATIO)


def named(resources: Mapping[str, ResourceState], status: LimitStatus) -> tuple[str, ...]:
    """Return the names of the resources with this status."""
    return tuple(name for name, state in resources.items() if state.status is status)


def uncertain_resources(resources: Mapping[str, ResourceState]) -> tuple[str, ...]:
    """Return the limited resources that are not exceeded, with a part that is unknown or estimated.

    They may be past their warning line, or their limit, without anybody knowing.
    """
    return tuple(
        name
        for name, state in resources.items()
        if (state.at_least or state.estimated)
        and state.limit is not None
        and state.status is not LimitStatus.EXCEEDED
    )


def _message(resources: Mapping[str, ResourceState], names: tuple[str, ...]) -> str:
    doubtful = tuple(name for name in uncertain_resources(resources) if name not in names)
    numbers = ", ".join(describe(name, resources[name]) for name in (*names, *doubtful))
    if names:
        return numbers
    if doubtful:
        return f"all resources within their limits, as far as is known: {numbers}"
    return "all resources within their limits"
