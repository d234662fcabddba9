"""What happened and why, as entries of a log: values, their JSON, and what is asked of the log.

An entry has what it takes to explain a verdict, or to judge again what it was made from. The log is
append-only; entries are numbered, and no number is given twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from otel_budget.core import verdict_json

#: Entries that one answer has at most.
MOST_ENTRIES: Final = 1000


class AuditKind(StrEnum):
    """What an entry tells of."""

    VERDICT = "verdict"
    """A verdict that is another one than before, whole, and what it was before."""
    ORDER = "order"
    """What an operator ordered for a run."""
    TOP_UP = "top_up"
    CONFIGURATION = "configuration"
    """A configuration that was taken, with its policy, or one that was refused."""
    BUDGET = "budget"
    """A window that closed, a budget that was edited or ended, groups that are too many."""
    SIDECAR = "sidecar"
    """The process, its clock and the log itself: started, clock_set, log_shortened and such."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry."""

    kind: AuditKind
    at: float
    """Unix time, by the clock of the verdicts."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """What happened, as JSON types; ``event`` names it where its kind has more than one."""
    session_id: str = ""
    """The run it is about; empty for none."""
    started_at: float | None = None
    """When that run began, in Unix time; None: not known."""
    budget: str = ""
    """Name of the budget it is about, or that bound a verdict; empty for none."""
    number: int = 0
    """Its place in the log, from 1; 0: it has none yet."""


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which entries are asked for; all that is given has to hold."""

    since: float | None = None
    """Unix time, inclusive."""
    until: float | None = None
    """Unix time, exclusive."""
    session_id: str = ""
    budget: str = ""
    kind: AuditKind | None = None
    after: int | None = None
    """Only entries behind this number in the order asked for."""
    newest: bool = False
    """True for the newest first."""
    limit: int = MOST_ENTRIES


@dataclass(frozen=True, slots=True)
class AuditPage:
    """What the log has of what was asked for."""

    lines: tuple[str, ...] = ()
    """Entries, each a line of JSON."""
    next_after: int | None = None
    """``after`` of the next page; None if this is the last one."""
    begins: int | None = None
    """Number of the oldest entry that there is, whatever was asked for; None: there is none."""
    unreadable: int = 0
    """Entries that are damaged and left out."""


def to_dict(entry: AuditEntry) -> dict[str, Any]:
    """Return an entry as JSON types; its time is RFC 3339 in UTC."""
    return {
        "number": entry.number,
        "at": verdict_json.timestamp(entry.at),
        "kind": str(entry.kind),
        "session_id": entry.session_id or None,
        "run_started_at": entry.started_at,
        "budget": entry.budget or None,
        "body": entry.body,
    }


def to_json(entry: AuditEntry) -> str:
    """Return an entry as one line of ASCII: control characters in it are escaped.

    One whose body is no JSON says so in its place: it must not keep others from the log.
    """
    try:
        return _text(to_dict(entry))
    except (ValueError, TypeError, RecursionError) as exc:
        return _text({**to_dict(entry), "body": {"event": "unwritable", "problem": repr(exc)}})


def _text(data: Mapping[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":"), allow_nan=False)
