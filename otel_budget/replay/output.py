"""What a replay gives, as JSON: one object a line (docs/replay.md)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from otel_budget.core import budget_json, forecast_json
from otel_budget.replay.changes import VerdictChange
from otel_budget.replay.json_numbers import number
from otel_budget.replay.summary import as_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.verdict import WouldBe
    from otel_budget.replay.changes import ForecastAt, Found
    from otel_budget.replay.json_numbers import number
from otel_budget.replay.summary import Summary


def found_line(found: Found, **more: str) -> str:
    """Return a change of a verdict, or a forecast, as one line of JSON.

    more: keys before the others, where several policies are tried.
    """
    data = _change(found) if isinstance(found, VerdictChange) else _forecast(found)
    return json.dumps({**more, **data}, allow_nan=False)


def summary_line(
    summary: Summary, *, keep_going: bool, history: Mapping[str, Any] | None = None, **more: str
) -> str:
    """Return the summary as one line of JSON.

    history: what of one was read, if it is of one. more: as above, in the summary.
    """
    data = {**more, **as_json(summary, keep_going=keep_going)}
    if history is not None:
        data["history"] = dict(history)
    return json.dumps({"summary": data}, allow_nan=False)


def _change(change: VerdictChange) -> dict[str, Any]:
    verdict = change.verdict
    would = {} if verdict.would is None else {"would": _would(verdict.would)}
    return {
        "t": change.at,
        "session_id": verdict.session_id,
        "action": str(verdict.action),
        "status": str(verdict.status),
        "reason": str(verdict.reason),
        "limit_from": verdict.limit_from,
        "used": {name: number(state.used) for name, state in verdict.resources.items()},
        "budgets": [budget_json.to_dict(budget) for budget in verdict.budgets],
        **would,
    }


def _would(would: WouldBe) -> dict[str, Any]:
    return {
        "action": str(would.action),
        "status": str(would.status),
        "reason": would.reason,
        "limit_from": would.limit_from,
    }


def _forecast(found: ForecastAt) -> dict[str, Any]:
    told = forecast_json.to_dict(found.forecast)
    keys = ("calls_left", "calls_left_range", "seconds_left", "seconds_left_range")
    return {
        "t": found.at,
        "session_id": found.session_id,
        "forecast": {
            "resource": found.resource,
            "share": found.share,
            **{key: told[key] for key in keys},
        },
    }
