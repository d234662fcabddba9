"""What a replay gives as it goes: a verdict that changed, and a forecast that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
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


def said(verdict: Verdict) -> tuple[object, ...]:
    """Return what makes a verdict another one to who reads what a replay gives: all but numbers."""
    return (
        verdict.action,
        verdict.status,
        str(verdict.reason),
        verdict.limit_from,
        verdict.budgets,
    )
