"""What several policies give, as JSON: one object a line (docs/replay.md)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from otel_budget.replay.json_numbers import number, numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_budget.replay.comparison import Pair
    from otel_budget.replay.frontier import Curve, Outcome, Point
    from otel_budget.replay.limit_range import LimitRange


def frontier_lines(curves: Sequence[Curve], swept: LimitRange) -> list[str]:
    """Return a line of JSON for each limit of each policy."""
    return [
        _line({"frontier": {
            "config": curve.name, "limit_key": swept.limit_key, "limit": number(limit),
            **_point(point),
        }})
        for curve in curves for limit, point in curve.points
    ]  # fmt: skip


def sweep_line(curves: Sequence[Curve], swept: LimitRange, still_open: int) -> str:
    """Return the summary of a sweep as a line of JSON."""
    return _line({"summary": {
        "limit_key": swept.limit_key,
        "limits": [number(limit) for limit in swept.limits],
        "configs": [curve.name for curve in curves],
        "runs": curves[0].points[0][1].runs,
        "open": still_open,
    }})  # fmt: skip


def comparison_line(pair: Pair, names: Sequence[str]) -> str:
    """Return a line of JSON on one run under two policies."""
    outcomes = zip(names, pair, strict=True)
    return _line({"comparison": {
        "session_id": pair.first.session_id,
        "resolved": pair.first.resolved,
        "differs": pair.distance > 0,
        "verdicts": [{"config": name, **_outcome(outcome)} for name, outcome in outcomes],
    }})  # fmt: skip


def _point(point: Point) -> dict[str, Any]:
    return {
        "runs": point.runs,
        "cut": point.cut,
        "cut_by": dict(point.cut_by),
        "resolved": {
            "resolved": point.resolved,
            "kept": point.resolved_kept,
            "cut": point.resolved - point.resolved_kept,
            "kept_share": _share(point.kept_share),
        },
        "used": numbers(point.used),
        "recorded": numbers(point.recorded),
        "spent_share": {name: _share(share) for name, share in point.spent_shares.items()},
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    stop = outcome.stop
    verdict = (
        {"action": "continue", "t": None, "reason": None, "limit_from": None}
        if stop is None
        else {"action": "stop", "t": stop.at, "reason": stop.reason, "limit_from": stop.limit_from}
    )
    return {**verdict, "used": numbers(outcome.used)}


def _share(share: float | None) -> float | None:
    return None if share is None else round(share, 6)


def _line(data: dict[str, Any]) -> str:
    return json.dumps(data, allow_nan=False)
