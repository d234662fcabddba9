"""What is told of a verdict from the log alone: the top-ups that held then."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qs, urlsplit

from otel_budget.cli.explanation import explained
from otel_budget.core.audit import AuditKind, AuditQuery
from otel_budget.core.top_up import TopUpRequest
from tests.support.budgets import budget
from tests.support.sidecar_fixtures import sidecar
from tests.unit.sidecar.test_audit_trail import RULES, stepped

if TYPE_CHECKING:
    from pathlib import Path

    from otel_budget.sdk.sidecar_client.request import Asker
    from otel_budget.sidecar.evaluator import Evaluator


class _Log:
    """Answers from the log of an evaluator, as a sidecar does."""

    url = "http://sidecar"

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator

    def get(self, path: str) -> str:
        asked = {key: values[0] for key, values in parse_qs(urlsplit(path).query).items()}
        query = AuditQuery(
            session_id=asked.get("session", ""),
            budget=asked.get("budget", ""),
            kind=AuditKind(asked["kind"]),
            since=float(asked["since"]) if "since" in asked else None,
            until=float(asked["until"]) if "until" in asked else None,
            newest=asked.get("order") == "newest",
        )
        found = self._evaluator.audit_log(query)
        return json.dumps({"entries": [json.loads(x) for x in found.lines], "next_after": None})


def test_top_ups_that_held_are_told_also_those_given_windows_before(tmp_path: Path) -> None:
    """One until a reset is over with its window, one for three days is not."""
    parts = sidecar(tmp_path)
    by_day = dataclasses.replace(RULES, ceilings={}, budgets=(budget("research"),))
    stepped(parts, ("run-1", 10), rules=by_day)
    days = parts.clock.now + 3 * 86_400
    for key, until in (("for-days", days), ("reset", None), ("short", parts.clock.now + 60)):
        asked = TopUpRequest(key, "research", (), {"tokens": 500}, "a demo", "ann", until, key)
        parts.evaluator.top_up(asked, by_day, 3600.0, parts.clock.now)
    parts.clock.advance(86_400)
    stepped(parts, ("run-1", 2100), rules=by_day)
    found = explained(cast("Asker", _Log(parts.evaluator)), "run-1", None)
    assert found is not None
    assert found.verdict.limit_from == "budget:research"
    assert [one["body"]["key"] for one in found.top_ups] == ["for-days"]
    assert found.top_ups[0]["body"]["group"] == {}
    parts.storage.close()
