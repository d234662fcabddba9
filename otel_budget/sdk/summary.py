"""Usage as people and programs read it."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from otel_budget.core.resources import RESOURCES, TIMES
from otel_budget.policy.format import amounts, describe, rest_of

if TYPE_CHECKING:
    from otel_budget.core.forecast import Forecast
    from otel_budget.core.limits import ResourceLimits
    from otel_budget.core.quantities import Number
    from otel_budget.core.usage import ResourceUsage
    from otel_budget.core.verdict import LimitCheckResult, ResourceState, Verdict


def summary(result: LimitCheckResult, usage: ResourceUsage) -> dict[str, dict[str, Any]]:
    """Return per resource ``used``, ``limit``, ``percentage`` (0 to 100 and beyond), ``remaining``
    (never below 0), the last three None when unlimited, and where part of ``used`` is an estimate
    ``estimated``, True; under ``checkpoints`` ``count`` and ``last_checkpoint_at`` (Unix time or
    None). While something remains, and where it can be told, ``calls_left`` and, of what does not
    pass by itself, ``seconds_left``. All of it can go through ``json.dumps``.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, state in result.resources.items():
        rows[name] = {
            "used": _plain(state.used),
            "limit": _plain(state.limit),
            "percentage": None if state.ratio is None else state.ratio * 100,
            "remaining": _plain(state.remaining),
        }
        if state.estimated:
            rows[name]["estimated"] = True
        if state.forecast is not None and state.remaining:
            rows[name] |= _left(name, state.forecast)
    rows["checkpoints"] = {
        "count": usage.checkpoints,
        "last_checkpoint_at": usage.last_checkpoint_at,
    }
    return rows


def _left(name: str, forecast: Forecast) -> dict[str, float]:
    calls, seconds = forecast
    left = {"calls_left": calls, "seconds_left": None if name in TIMES else seconds}
    return {key: estimate.value for key, estimate in left.items() if estimate is not None}


def _plain(amount: Number | None) -> int | float | None:
    """Return an amount as JSON has it. Money is exact in ``get_usage_report()``."""
    return float(amount) if isinstance(amount, Decimal) else amount


def limited(limits: ResourceLimits) -> str:
    """Return what a run is limited to, in words."""
    said = amounts({row.name: row.limit_of(limits) for row in RESOURCES.values()})
    return said or "nothing"


def lines(result: LimitCheckResult, verdict: Verdict, unjudged: str = "") -> list[str]:
    """Return how the run stands, a line for each resource and one for the verdict.

    unjudged: why the sidecar does not judge the run; empty if it does, or there is none.
    """
    rows = [_line(name, state) for name, state in result.resources.items()]
    rows.append(f"{verdict.action} ({verdict.reason}): {verdict.message}")
    return [*rows, unjudged] if unjudged else rows


def _line(name: str, state: ResourceState) -> str:
    rest = "" if state.forecast is None or not state.remaining else rest_of(state.forecast)
    return f"{describe(name, state)}: {rest}" if rest else describe(name, state)
