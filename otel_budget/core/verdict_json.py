"""Verdict to JSON and back. Pure text in, text out.

The format is the contract with everyone else (docs/design.md, section 5): a reader accepts keys,
reasons and resources it does not know; it refuses another version and a missing field.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

from otel_budget.core import budget_json, forecast_json, validation, wrap_up
from otel_budget.core.json_fields import Fields
from otel_budget.core.quantities import as_json
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import PARENT, LimitStatus, ResourceState, Verdict, WouldBe
from otel_budget.errors import InvalidValueError

VERSION = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: The first and the last moment that can be written, in Unix seconds: years 1 and 9999.
_MOMENTS = (-62_135_596_800.0, 253_402_300_799.999)


def to_dict(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict as JSON types; money is a string, times are RFC 3339 in UTC."""
    lease, also = verdict.lease_seconds, verdict.also_started_at
    return {
        "version": VERSION,
        "session_id": verdict.session_id,
        "run_started_at": verdict.started_at,
        **({"also_started_at": list(also)} if also else {}),
        "run_state": verdict.run_state,
        **_times_said(verdict),
        "action": str(verdict.action),
        "status": str(verdict.status),
        "reason": str(verdict.reason),
        "limit_from": verdict.limit_from,
        "message": verdict.message,
        "resources": {name: _resource(state) for name, state in verdict.resources.items()},
        "headroom": {name: as_json(value) for name, value in verdict.headroom.items()},
        "budgets": [budget_json.to_dict(budget) for budget in verdict.budgets],
        "progress": verdict.progress,
        "completion_threshold": verdict.completion_threshold,
        "data_at": None if verdict.data_at is None else timestamp(verdict.data_at),
        "evaluated_at": timestamp(verdict.evaluated_at),
        "lease_seconds": lease,
        "valid_until": None if lease is None else timestamp(verdict.evaluated_at + lease),
        "sequence": verdict.sequence,
        "decision_id": verdict.decision_id,
        "policy_revision": verdict.policy_revision,
        "unjudged": list(verdict.unjudged),
        **_replaced(verdict),
        "ends_first": verdict.ends_first,
        "would": None if verdict.would is None else _would(verdict.would),
        "wrap_up": None if verdict.wrap_up is None else wrap_up.to_dict(verdict.wrap_up),
    }


def to_json(verdict: Verdict) -> str:
    """Return the verdict as one line of JSON."""
    return json.dumps(to_dict(verdict), separators=(",", ":"), allow_nan=False)


def around_lease(verdict: Verdict) -> tuple[str, str]:
    """Return the same line in two pieces, between which the value of ``lease_seconds`` belongs.

    The lease runs from receipt: what goes out later than it was judged has only the rest of it.
    """
    head, key, rest = to_json(verdict).rpartition('"lease_seconds":')
    return head + key, rest[rest.index(",") :]


def from_json(text: str | bytes) -> Verdict:
    """Return the verdict in one line of JSON. Raises InvalidValueError for anything else."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InvalidValueError("verdict", text, "JSON") from exc
    return from_dict(data)


def from_dict(data: object) -> Verdict:
    """Return the verdict in a decoded JSON object. Raises InvalidValueError naming the field."""
    fields = Fields("verdict", data)
    version = fields.whole("version")
    if version != VERSION:
        raise InvalidValueError("version", version, f"{VERSION}")
    return Verdict(
        session_id=validation.session_id(fields.text("session_id")),
        action=fields.one_of(Action, "action"),
        status=fields.one_of(LimitStatus, "status"),
        reason=fields.text("reason"),
        message=fields.text("message"),
        resources={name: _state(name, value) for name, value in fields.mapping("resources")},
        evaluated_at=fields.time("evaluated_at"),
        started_at=fields.maybe(fields.real, "run_started_at"),
        data_at=fields.maybe(fields.time, "data_at"),
        progress=fields.maybe(fields.share, "progress"),
        headroom={
            name: Fields("headroom", {name: value}, "headroom.").amount(name, name)
            for name, value in fields.maybe(fields.mapping, "headroom") or ()
        },
        lease_seconds=fields.maybe(fields.real, "lease_seconds"),
        sequence=fields.maybe(fields.whole, "sequence"),
        decision_id=fields.maybe(fields.text, "decision_id") or "",
        policy_revision=fields.maybe(fields.text, "policy_revision") or "",
        budgets=tuple(map(budget_json.from_dict, fields.maybe(fields.mappings, "budgets") or ())),
        completion_threshold=fields.maybe(fields.share, "completion_threshold"),
        # Not held against the states this version knows: a newer sidecar may know more.
        run_state=fields.maybe(fields.text, "run_state"),
        unjudged=tuple(fields.maybe(fields.texts, "unjudged") or ()),
        also_started_at=tuple(fields.maybe(fields.reals, "also_started_at") or ()),
        would=fields.maybe(fields.within, "would", _would_from),
        stopped_by=_stopped_by(fields),
        waiting_since=fields.maybe(fields.time, "waiting_since"),
        ordered_at=fields.maybe(fields.time, "ordered_at"),
        own_limits_replaced=tuple(fields.maybe(fields.texts, "own_limits_replaced") or ()),
        wrap_up=fields.maybe(fields.within, "wrap_up", wrap_up.from_fields),
        knows_wrap_up=isinstance(data, dict) and "wrap_up" in data,
    )


def _times_said(verdict: Verdict) -> dict[str, str]:
    """Return what few verdicts have: since when a run waits, when an operator stopped it."""
    said = {"waiting_since": verdict.waiting_since, "ordered_at": verdict.ordered_at}
    return {key: timestamp(at) for key, at in said.items() if at is not None}


def _replaced(verdict: Verdict) -> dict[str, list[str]]:
    names = verdict.own_limits_replaced
    return {"own_limits_replaced": list(names)} if names else {}


def _stopped_by(fields: Fields) -> str | None:
    """Return the run whose stop is handed on: it is named where the limit is that decided."""
    origin = fields.maybe(fields.text, "limit_from") or ""
    if fields.text("reason") != Reason.PARENT_STOPPED or not origin.startswith(PARENT):
        return None
    return validation.session_id(origin.removeprefix(PARENT))


def timestamp(seconds: float) -> str:
    """Return Unix seconds as RFC 3339 in UTC with milliseconds, within the years 1 to 9999."""
    # Cut off, but for what a float lacks: a time read from such text is written as it stood there.
    within = min(max(seconds, _MOMENTS[0]), _MOMENTS[1])
    moment = _EPOCH + timedelta(milliseconds=math.floor(within * 1000 + 0.05))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _would(would: WouldBe) -> dict[str, Any]:
    return {
        "action": str(would.action),
        "status": str(would.status),
        "reason": would.reason,
        "limit_from": would.limit_from,
        "message": would.message,
    }


def _would_from(fields: Fields) -> WouldBe:
    return WouldBe(
        action=fields.one_of(Action, "action"),
        status=fields.one_of(LimitStatus, "status"),
        reason=fields.text("reason"),
        limit_from=fields.maybe(fields.text, "limit_from"),
        message=fields.maybe(fields.text, "message") or "",
    )


def _resource(state: ResourceState) -> dict[str, Any]:
    forecast = state.forecast
    unknown = {key: True for key in ("at_least", "estimated") if getattr(state, key)}
    return {
        "used": as_json(state.used),
        "limit": None if state.limit is None else as_json(state.limit),
        "warning_at": None if state.warning_at is None else as_json(state.warning_at),
        "remaining": None if state.remaining is None else as_json(state.remaining),
        "ratio": state.ratio,
        "status": str(state.status),
        "limit_from": state.limit_from,
        "exhaustion_seconds": state.exhaustion_seconds,
        **unknown,
        **({} if forecast is None else {"forecast": forecast_json.to_dict(forecast)}),
    }


def _state(name: str, data: object) -> ResourceState:
    path = f"resources.{name}"
    fields = Fields(path, data, f"{path}.")
    return ResourceState(
        used=fields.amount("used", name),
        limit=fields.maybe(fields.amount, "limit", name),
        remaining=fields.maybe(fields.amount, "remaining", name),
        ratio=fields.maybe(fields.real, "ratio"),
        status=fields.one_of(LimitStatus, "status"),
        # An origin this version does not know is no reason to refuse a verdict.
        limit_from=fields.maybe(fields.text, "limit_from"),
        exhaustion_seconds=fields.maybe(fields.real, "exhaustion_seconds"),
        at_least=fields.maybe(fields.flag, "at_least") or False,
        estimated=fields.maybe(fields.flag, "estimated") or False,
        warning_at=fields.maybe(fields.amount, "warning_at", name),
        forecast=fields.maybe(fields.within, "forecast", forecast_json.from_fields),
    )
