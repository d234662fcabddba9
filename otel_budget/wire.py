"""Verdict to JSON and back, and Server-Sent Events frames. Pure text in, text out.

The format is the contract with everyone else (docs/design.md, section 5): a reader accepts keys,
reasons and resources it does not know; it refuses another version and a missing field.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from otel_budget import semconv
from otel_budget.errors import InvalidValueError
from otel_budget.model.verdict import Action, LimitStatus, ResourceState, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_budget.model.usage import Number

VERSION = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# --- JSON -----------------------------------------------------------------------------------------
def to_dict(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict as JSON types; money is a string, times are RFC 3339 in UTC."""
    lease = verdict.lease_seconds
    return {
        "version": VERSION,
        "session_id": verdict.session_id,
        "run_started_at": verdict.started_at,
        "action": str(verdict.action),
        "status": str(verdict.status),
        "reason": str(verdict.reason),
        "message": verdict.message,
        "resources": {name: _resource(state) for name, state in verdict.resources.items()},
        "headroom": {name: _number(value) for name, value in verdict.headroom.items()},
        "budgets": [dict(budget) for budget in verdict.budgets],
        "progress": verdict.progress,
        "data_at": None if verdict.data_at is None else timestamp(verdict.data_at),
        "evaluated_at": timestamp(verdict.evaluated_at),
        "lease_seconds": lease,
        "valid_until": None if lease is None else timestamp(verdict.evaluated_at + lease),
        "sequence": verdict.sequence,
        "decision_id": verdict.decision_id,
        "policy_revision": verdict.policy_revision,
    }


def to_json(verdict: Verdict) -> str:
    """Return the verdict as one line of JSON."""
    return json.dumps(to_dict(verdict), separators=(",", ":"), allow_nan=False)


def from_json(text: str | bytes) -> Verdict:
    """Return the verdict in one line of JSON. Raises InvalidValueError for anything else."""
    try:
        data = json.loads(text)
    except ValueError as exc:
        raise InvalidValueError("verdict", text, "JSON") from exc
    return from_dict(data)


def from_dict(data: object) -> Verdict:
    """Return the verdict in a decoded JSON object. Raises InvalidValueError naming the field."""
    if not isinstance(data, dict):
        raise InvalidValueError("verdict", data, "a JSON object")
    version = _field(data, "version", int)
    if version != VERSION:
        raise InvalidValueError("version", version, f"{VERSION}")
    try:
        action = Action(_field(data, "action", str))
        status = LimitStatus(_field(data, "status", str))
    except ValueError as exc:
        raise InvalidValueError("verdict", data, "a known action and status") from exc
    lease, progress = data.get("lease_seconds"), data.get("progress")
    started_at = data.get("run_started_at")
    sequence = data.get("sequence")
    return Verdict(
        session_id=_field(data, "session_id", str),
        action=action,
        status=status,
        reason=_field(data, "reason", str),
        message=_field(data, "message", str),
        resources={
            str(name): _state(str(name), value)
            for name, value in _field(data, "resources", dict).items()
        },
        evaluated_at=_time(data, "evaluated_at"),
        started_at=(
            None if started_at is None else float(_field(data, "run_started_at", int, float))
        ),
        data_at=None if data.get("data_at") is None else _time(data, "data_at"),
        progress=None if progress is None else float(_field(data, "progress", int, float)),
        headroom={
            str(name): _read(str(name), value) for name, value in data.get("headroom", {}).items()
        },
        lease_seconds=None if lease is None else float(_field(data, "lease_seconds", int, float)),
        sequence=None if sequence is None else _field(data, "sequence", int),
        decision_id=str(data.get("decision_id", "")),
        policy_revision=str(data.get("policy_revision", "")),
        budgets=tuple(data.get("budgets", ())),
    )


def timestamp(seconds: float) -> str:
    """Return Unix seconds as RFC 3339 in UTC with milliseconds."""
    moment = _EPOCH + timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _resource(state: ResourceState) -> dict[str, Any]:
    return {
        "used": _number(state.used),
        "limit": None if state.limit is None else _number(state.limit),
        "remaining": None if state.remaining is None else _number(state.remaining),
        "ratio": state.ratio,
        "status": str(state.status),
        "limit_from": state.limit_from,
        "exhaustion_seconds": state.exhaustion_seconds,
    }


def _state(name: str, data: object) -> ResourceState:
    if not isinstance(data, dict):
        raise InvalidValueError(f"resources.{name}", data, "a JSON object")
    limit, remaining, ratio = (data.get(key) for key in ("limit", "remaining", "ratio"))
    seconds = data.get("exhaustion_seconds")
    return ResourceState(
        used=_read(name, data.get("used")),
        limit=None if limit is None else _read(name, limit),
        remaining=None if remaining is None else _read(name, remaining),
        ratio=None if ratio is None else float(ratio),
        status=LimitStatus(_field(data, "status", str)),
        limit_from=data.get("limit_from"),
        exhaustion_seconds=None if seconds is None else float(seconds),
    )


def _number(value: Number) -> int | float | str:
    return str(value) if isinstance(value, Decimal) else value


def _read(resource: str, value: object) -> Number:
    """Return a number of a resource; money travels as a string."""
    if isinstance(value, str) and resource == semconv.COST:
        try:
            return Decimal(value)
        except InvalidOperation as exc:
            raise InvalidValueError(resource, value, "a decimal string") from exc
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidValueError(resource, value, "a number")
    return value


def _field(data: Mapping[str, Any], key: str, *kinds: type) -> Any:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise InvalidValueError(key, value, " or ".join(kind.__name__ for kind in kinds))
    return value


def _time(data: Mapping[str, Any], key: str) -> float:
    text = _field(data, key, str)
    try:
        return (datetime.fromisoformat(text) - _EPOCH).total_seconds()
    except (ValueError, TypeError) as exc:
        raise InvalidValueError(key, text, "a time as in 2026-01-01T12:00:00.120Z") from exc


# --- Server-Sent Events ---------------------------------------------------------------------------
EVENT_VERDICT = "verdict"
#: A comment: keeps a quiet stream open and tells the reader that the sidecar is there.
KEEP_ALIVE = ": keep-alive\n\n"


def frame(event: str, data: str, event_id: int | None = None) -> str:
    """Return one Server-Sent Events frame. data must be a single line."""
    head = "" if event_id is None else f"id: {event_id}\n"
    return f"{head}event: {event}\ndata: {data}\n\n"


def verdict_frame(verdict: Verdict) -> str:
    """Return the verdict as a frame whose id is its sequence."""
    return frame(EVENT_VERDICT, to_json(verdict), verdict.sequence)


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event of a stream. data: its lines joined; id: the last id seen, empty before any."""

    event: str
    data: str
    id: str


class EventDecoder:
    """Turn the lines of a stream into events, as the HTML standard says (section 9.2.6)."""

    def __init__(self) -> None:
        """Begin before the first line."""
        self._event = self._id = ""
        self._data: list[str] = []

    def feed(self, line: str) -> Iterator[ServerEvent]:
        """Take one line without its end; yield an event when the line completes one."""
        if not line:
            if self._data:
                yield ServerEvent(self._event or "message", "\n".join(self._data), self._id)
            self._event, self._data = "", []
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
