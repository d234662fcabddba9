"""How a budget stands, to JSON types and back: an item of ``budgets`` in a verdict."""

from __future__ import annotations

import math
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any

from otel_budget.core.budget import Mode, WindowSpan
from otel_budget.core.json_fields import Fields
from otel_budget.core.quantities import as_json
from otel_budget.core.verdict import BudgetResource, BudgetState, LimitStatus

if TYPE_CHECKING:
    from otel_budget.core.quantities import Number


def to_dict(state: BudgetState) -> dict[str, Any]:
    """Return a budget as JSON types; times are RFC 3339 with the offset of its zone."""
    span = state.window
    return {
        "name": state.name,
        "group": dict(state.group),
        "mode": str(state.mode),
        "window": {
            "start": local_time(span.start, state.tz),
            "end": local_time(span.end, state.tz),
        },
        "resets_at": local_time(span.resets_at, state.tz),
        "resources": {name: _resource(one) for name, one in state.resources.items()},
        "limit_from": state.origin,
        "binds": state.binds,
    }


def local_time(at: float | None, tz: tzinfo) -> str | None:
    """Return Unix time in a zone, to the millisecond, with its offset; None of none or infinity."""
    if at is None or not math.isfinite(at):
        return None
    return datetime.fromtimestamp(at, tz).isoformat(timespec="milliseconds")


def from_dict(data: object) -> BudgetState:
    """Return a budget from decoded JSON. Raises InvalidValueError naming the field."""
    fields = Fields("budgets", data, "budgets.")
    window = fields.within("window", _span)
    return BudgetState(
        name=fields.text("name"),
        group={label: str(value) for label, value in fields.mapping("group")},
        mode=fields.one_of(Mode, "mode"),
        window=window._replace(resets_at=fields.maybe(fields.time, "resets_at")),
        resources={name: _state(name, one) for name, one in fields.mapping("resources")},
        origin=fields.text("limit_from"),
        binds=fields.flag("binds"),
        tz=_zone_of(data),
    )


def _zone_of(data: object) -> tzinfo:
    """Return the offset in which the times of a budget are told; where none is, UTC."""
    told = data.get("resets_at") if isinstance(data, dict) else None
    return UTC if told is None else datetime.fromisoformat(told).tzinfo or UTC


def _span(fields: Fields) -> WindowSpan:
    end = fields.maybe(fields.time, "end")
    start = fields.maybe(fields.time, "start")
    return WindowSpan(-math.inf if start is None else start, math.inf if end is None else end)


def _resource(one: BudgetResource) -> dict[str, Any]:
    amounts: dict[str, Number] = {
        "used": one.used, "limit": one.limit, "remaining": one.remaining, "base": one.base,
        "top_up": one.top_up, "carried": one.carried, "warning_at": one.warning_at,
    }  # fmt: skip
    return {
        **{key: as_json(value) for key, value in amounts.items()},
        "ratio": one.ratio,
        "status": str(one.status),
        **({"at_least": True} if one.at_least else {}),
    }


def _state(resource: str, data: object) -> BudgetResource:
    path = f"budgets.resources.{resource}"
    fields = Fields(path, data, f"{path}.")
    return BudgetResource(
        used=fields.amount("used", resource),
        limit=fields.amount("limit", resource),
        remaining=fields.amount("remaining", resource),
        ratio=fields.real("ratio"),
        status=fields.one_of(LimitStatus, "status"),
        base=fields.amount("base", resource),
        top_up=fields.amount("top_up", resource),
        carried=fields.amount("carried", resource),
        warning_at=fields.amount("warning_at", resource),
        at_least=fields.maybe(fields.flag, "at_least") or False,
    )
