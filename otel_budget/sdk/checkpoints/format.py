"""A checkpoint as text, whole or refused: a digest inside tells a file that was altered."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_budget import semconv
from otel_budget.core import validation
from otel_budget.core.limits import ResourceLimits
from otel_budget.core.usage import ResourceUsage
from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Version of the file format. A reader refuses another one.
SCHEMA = 1
_KEYS = ("schema", "written_at", "usage", "limits", "labels", "progress", "state", "sha256")
#: Only in the last checkpoint of a run that ended, and in those of a process that took a run up. A
#: version before each refuses such a file.
_OUTCOME, _TAKEN_UP = "outcome", "taken_up"


class TakenUp(NamedTuple):
    """Which process wrote a checkpoint of a run that it had taken up."""

    at: float
    """When that process began, in Unix time: it has no other name."""
    carried: ResourceUsage
    """What the run had used by then, as that process knew."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint as it is on disk."""

    usage: ResourceUsage
    """All the run used when it was written."""
    limits: ResourceLimits
    labels: Mapping[str, str]
    """Workflow and scope of the run."""
    written_at: float
    """Unix time in seconds."""
    progress: float | None = None
    state: Any = None
    """The caller's own, JSON types; None if there was none."""
    outcome: str | None = None
    """How the run ended, one of ``semconv.ENDED_STATES``; None if it had not, or did not say."""
    taken_up: TakenUp | None = None
    """Who wrote it; None for the process that began the run, and in what earlier versions wrote."""

    @property
    def started_at(self) -> float:
        """When its run began, in Unix time: half of the run's identity."""
        return self.usage.started_at


def encode(checkpoint: Checkpoint) -> str:
    """Return a checkpoint as text. Raises TypeError or ValueError if the state is not JSON."""
    body = {
        "schema": SCHEMA,
        "written_at": checkpoint.written_at,
        "usage": checkpoint.usage.to_dict(),
        "limits": checkpoint.limits.to_dict(),
        "labels": dict(checkpoint.labels),
        "progress": checkpoint.progress,
        "state": checkpoint.state,
    }
    if checkpoint.outcome is not None:
        body[_OUTCOME] = checkpoint.outcome
    if checkpoint.taken_up is not None:
        at, carried = checkpoint.taken_up
        body[_TAKEN_UP] = {"at": at, "carried": carried.to_dict()}
    # Through JSON once, so that the digest is over what a reader will see (1 and "1" as keys, …).
    body = json.loads(json.dumps(body, allow_nan=False))
    return json.dumps({**body, "sha256": _digest(body)}, indent=1) + "\n"


def decode(text: str) -> Checkpoint:
    """Return the checkpoint that ``encode`` wrote. Raises InvalidValueError for any other text."""
    try:
        data = json.loads(text)
    except ValueError as exc:
        raise InvalidValueError("file", text[:80], "a whole JSON document") from exc
    if not isinstance(data, dict):
        raise InvalidValueError("file", data, "a JSON object")
    schema = data.get("schema")
    if schema != SCHEMA:
        raise InvalidValueError("schema", schema, f"{SCHEMA}, the one this version reads")
    if set(data) - {_OUTCOME, _TAKEN_UP} != set(_KEYS):
        raise InvalidValueError("keys", sorted(data), "exactly " + ", ".join(_KEYS))
    digest = data.pop("sha256")
    if digest != _digest(data):
        raise InvalidValueError("sha256", digest, "the digest of the content: it was altered")
    return Checkpoint(
        usage=ResourceUsage.from_dict(_mapping(data, "usage")),
        limits=ResourceLimits.from_dict(_mapping(data, "limits")),
        labels={str(k): str(v) for k, v in _mapping(data, "labels").items()},
        written_at=validation.seconds("written_at", data["written_at"]),
        progress=validation.progress(data["progress"]),
        state=data["state"],
        outcome=validation.choice(_OUTCOME, data[_OUTCOME], semconv.ENDED_STATES)
        if _OUTCOME in data
        else None,
        taken_up=_taken_up(_mapping(data, _TAKEN_UP)) if _TAKEN_UP in data else None,
    )


def _taken_up(data: Mapping[str, Any]) -> TakenUp:
    if set(data) != {"at", "carried"}:
        raise InvalidValueError(_TAKEN_UP, sorted(data), "exactly at, carried")
    at = validation.seconds(f"{_TAKEN_UP}.at", data["at"])
    return TakenUp(at, ResourceUsage.from_dict(_mapping(data, "carried")))


def _mapping(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    if not isinstance(data[key], dict):
        raise InvalidValueError(key, data[key], "a JSON object")
    return data[key]  # type: ignore[no-any-return]


def _digest(body: Mapping[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
