"""What a replay gives as it goes: a verdict that changed, and a forecast that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otel_budget.core.forecast import NO_FORECAST
from otel_budget.core.verdict import LimitStatus
from otel_budget.policy.bounds import bound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_budget.core.forecast import Forecast
    from otel_budget.core.verdict import Verdict


class VerdictChange(NamedTuple):
    """A verdict that says something else than the one before it on its run, or the first one."""

    at: float
    """Unix time of the tick, in seconds."""
    verdict: Verdict


class ForecastAt(NamedTuple):
    """What was forecast once a run had used a share of a limit."""

    at: float
    """Unix time of the line that reached it, in seconds."""
    session_id: str
    resource: str
    share: float
    """The one that was asked for."""
    forecast: Forecast


Found = VerdictChange | ForecastAt


def forecasts(
    verdict: Verdict, shares: Sequence[float], given: set[tuple[str, float]], now: float
) -> list[Found]:
    """Return what is forecast of the limits of which a share is reached, once for each.

    given: resources and shares of which it was given; added to.
    """
    found: list[Found] = []
    for resource, state in verdict.resources.items():
        if state.limit is None:
            continue
        for share in shares:
            key = resource, share
            if key not in given and (
                state.used >= bound(resource, state.limit, share, "").warning_at
            ):
                given.add(key)
                forecast = state.forecast or NO_FORECAST
                found.append(ForecastAt(now, verdict.session_id, resource, share, forecast))
    return found


def deciding(verdict: Verdict) -> tuple[str, ...]:
    """Return the resources that the status of a verdict comes from, its budgets' among them."""
    status = verdict.status
    if status is LimitStatus.OK:
        return ()
    states = verdict.resources
    own = [name for name in states if states[name].status is status]
    binding = (budget.resources for budget in verdict.budgets if budget.binds)
    shared = [name for each in binding for name in each if each[name].status is status]
    return tuple(dict.fromkeys([*own, *shared]))


def said(verdict: Verdict) -> tuple[object, ...]:
    """Return what makes a verdict another one to who reads what a replay gives: all but numbers."""
    would = verdict.would
    return (
        verdict.action,
        verdict.status,
        str(verdict.reason),
        verdict.limit_from,
        None if would is None else (would.action, would.status, would.reason, would.limit_from),
        [
            (each.origin, each.binds, [(name, r.status) for name, r in each.resources.items()])
            for each in verdict.budgets
        ],
    )
