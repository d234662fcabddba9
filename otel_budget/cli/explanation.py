"""A verdict of the past explained from the audit log alone: what was decided, by what, and why."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from otel_budget.cli.audit_log import entries
from otel_budget.core import verdict_json
from otel_budget.errors import InvalidValueError
from otel_budget.policy.explanation import otherwise, row_of
from otel_budget.sdk.sidecar_client.request import AskError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_budget.core.verdict import BudgetState, Verdict
    from otel_budget.policy.explanation import Row
    from otel_budget.sdk.sidecar_client.request import Asker

_NEWEST: Final = {"order": "newest"}
#: Seconds: what is asked for is before a moment, and entries are dated to the millisecond.
_JUST_AFTER: Final = 0.002


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the log says about one verdict."""

    entry: dict[str, Any]
    """The verdict's own."""
    verdict: Verdict
    row: Row | None
    """Of the decision table; None for a reason of a newer sidecar."""
    otherwise: tuple[str, ...]
    configuration: dict[str, Any] | None
    """The entry of the configuration it was decided by; None: not in the log any more."""
    orders: list[dict[str, Any]] = field(default_factory=list)
    """Entries of what operators had ordered for the run by then, the newest first."""
    top_ups: list[dict[str, Any]] = field(default_factory=list)
    """Entries of the top-ups of its budgets that held then, the newest first."""
    since: dict[str, Any] | None = None
    """The verdict that came after it; None: there is none, or none was asked for."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "session_id": self.verdict.session_id,
            "verdict": self.entry,
            "rule": None if self.row is None else self.row._asdict(),
            "otherwise": list(self.otherwise),
            "configuration": self.configuration,
            "orders": self.orders,
            "top_ups": self.top_ups,
            "next": self.since,
        }


def explained(asker: Asker, session_id: str, at: float | None) -> Explanation | None:
    """Return why a run had the verdict that it had at a moment; None if the log has none.

    at: Unix time; None: the newest. Raises AskError.
    """
    until = None if at is None else at + _JUST_AFTER / 2
    entry = next(_of_run(asker, session_id, "verdict", until), None)
    if entry is None:
        return None
    verdict = _verdict(asker, entry)
    made = verdict.evaluated_at + _JUST_AFTER
    return Explanation(
        entry=entry,
        verdict=verdict,
        row=row_of(verdict),
        otherwise=otherwise(verdict),
        configuration=_configuration(asker, verdict.policy_revision, entry),
        orders=list(_of_run(asker, session_id, "order", made)),
        top_ups=list(_top_ups(asker, verdict, made)),
        since=None if at is None else _next(asker, session_id, entry),
    )


def _of_run(
    asker: Asker, session_id: str, kind: str, until: float | None
) -> Iterator[dict[str, Any]]:
    return entries(asker, {**_NEWEST, "session": session_id, "kind": kind, "until": until})


def _verdict(asker: Asker, entry: dict[str, Any]) -> Verdict:
    try:
        said = entry["body"]["verdict"]
        return verdict_json.from_json(json.dumps({"version": verdict_json.VERSION, **said}))
    except (InvalidValueError, KeyError, TypeError) as exc:
        raise AskError(f"{asker.url} has an entry that is no verdict: {exc}") from exc


def _configuration(asker: Asker, revision: str, entry: dict[str, Any]) -> dict[str, Any] | None:
    """Return the newest taking of a policy before a verdict: the same may be taken often."""
    query = {**_NEWEST, "kind": "configuration", "after": entry.get("number")}
    for found in entries(asker, query):
        if found["body"].get("event") == "taken" and found["body"].get("revision") == revision:
            return found
    return None


def _top_ups(asker: Asker, verdict: Verdict, until: float) -> Iterator[dict[str, Any]]:
    for budget in verdict.budgets:
        query = {**_NEWEST, "kind": "top_up", "budget": budget.name, "until": until}
        for found in entries(asker, query):
            if found["body"].get("group") == budget.group and _held(found, budget, until):
                yield found


def _held(top_up: dict[str, Any], budget: BudgetState, at: float) -> bool:
    """Tell whether a top-up held at a time, which may have been given windows before."""
    ends = top_up["body"].get("until")
    if ends is None:
        return datetime.fromisoformat(top_up["at"]).timestamp() >= budget.window.start
    return at < datetime.fromisoformat(ends).timestamp()


def _next(asker: Asker, session_id: str, entry: dict[str, Any]) -> dict[str, Any] | None:
    query = {"session": session_id, "kind": "verdict", "after": entry.get("number")}
    return next(entries(asker, query), None)
