"""What a step did is in the audit log: in the same commit, each change once, whatever fails."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from otel_budget.core.audit import AuditKind, AuditQuery
from otel_budget.core.budget import Window, WindowKind
from otel_budget.core.override import Override, OverrideKind
from otel_budget.core.top_up import TopUpRequest
from otel_budget.core.verdict import Verdict
from otel_budget.policy.verdicts import Rules
from otel_budget.sidecar.audit_trail import AuditTrail
from otel_budget.sidecar.storage.base import Changes, Restored, StorageError
from otel_budget.sidecar.tick_result import TickResult
from tests.support.budgets import budget
from tests.support.sidecar_fixtures import Sidecar, ceilings, reading, session, sidecar

RULES = dataclasses.replace(ceilings(tokens=1000), text='{"resource_limits": "…"}')


def stepped(parts: Sidecar, *runs: tuple[str, int], rules: Rules = RULES) -> TickResult:
    """Take in a reading with these runs and their tokens."""
    parts.clock.advance(1)
    now = parts.clock.now
    sessions = [session(run, tokens, at=now) for run, tokens in runs]
    return parts.evaluator.tick(reading(*sessions, at=now), rules, 3600.0, now)


def logged(parts: Sidecar, kind: AuditKind | None = None) -> list[dict[str, Any]]:
    """Return the log."""
    page = parts.evaluator.audit_log(AuditQuery(kind=kind))
    return [json.loads(line) for line in page.lines]


def verdicts(parts: Sidecar) -> list[tuple[str, str, int]]:
    """Return the logged verdicts: run, reason and sequence."""
    bodies = [entry["body"]["verdict"] for entry in logged(parts, AuditKind.VERDICT)]
    return [(v["session_id"], v["reason"], v["sequence"]) for v in bodies]


def changed(*results: TickResult) -> list[tuple[str, str, int | None]]:
    """Return the verdicts that these steps published as new."""
    found: list[Verdict] = [change.verdict for result in results for change in result.changes]
    return [(v.session_id, str(v.reason), v.sequence) for v in found]


def test_every_change_of_a_verdict_is_logged_and_nothing_else(tmp_path: Path) -> None:
    """One that is renewed says nothing new."""
    parts = sidecar(tmp_path)
    results = [stepped(parts, ("run-1", n), ("run-2", 1)) for n in (1, 2, 900, 901, 1000)]
    assert verdicts(parts) == changed(*results)
    assert [reason for run, reason, _ in verdicts(parts) if run == "run-1"] == [
        "within_limits", "approaching_limit_progress_unknown", "limit_exceeded",
    ]  # fmt: skip
    parts.storage.close()


def test_an_entry_has_what_explains_the_verdict(tmp_path: Path) -> None:
    """Numbers, limits and whose they are, the rules, the age of the data, and what was before."""
    parts = sidecar(tmp_path)
    stepped(parts, ("run-1", 1))
    result = stepped(parts, ("run-1", 900))
    entry = logged(parts)[-1]
    (change,) = result.changes
    assert entry["session_id"] == "run-1"
    assert entry["run_started_at"] == change.verdict.started_at
    said, before = entry["body"]["verdict"], entry["body"]["before"]
    assert said["resources"]["tokens"]["used"] == 900
    assert said["resources"]["tokens"]["limit_from"] == said["limit_from"] == "sidecar"
    assert said["decision_id"] == change.verdict.decision_id
    assert said["policy_revision"] == RULES.revision
    assert (before["reason"], before["status"], before["limit_from"]) == (
        "within_limits", "ok", None,
    )  # fmt: skip
    assert entry["body"]["run"]["targets"]
    parts.storage.close()


def test_start_and_configuration_come_before_what_follows_from_them(tmp_path: Path) -> None:
    """A configuration that is taken again, as by a reload, is one more entry."""
    parts = sidecar(tmp_path)
    stepped(parts, ("run-1", 1))
    stepped(parts, ("run-1", 2))
    other = dataclasses.replace(RULES, revision="r2", text="{}")
    stepped(parts, ("run-1", 3), rules=other)
    entries = logged(parts)
    assert [(e["kind"], e["body"].get("event")) for e in entries] == [
        ("sidecar", "started"), ("configuration", "taken"), ("verdict", None),
        ("configuration", "taken"),
    ]  # fmt: skip
    assert entries[1]["body"]["policy"] == RULES.text
    assert [e["number"] for e in entries] == [1, 2, 3, 4]
    parts.storage.close()
    again = sidecar(tmp_path)
    stepped(again, ("run-1", 3), rules=other)
    assert [e["number"] for e in logged(again)][-2:] == [5, 6]
    assert logged(again)[4]["body"]["runs"] == 1
    again.storage.close()


def test_an_order_is_logged_before_the_verdict_that_follows(tmp_path: Path) -> None:
    """With who gave it, and why."""
    parts = sidecar(tmp_path)
    stepped(parts, ("run-1", 1))
    stop = Override(OverrideKind.STOP, "runs in\ncircles", "ann", at=parts.clock.now)
    parts.evaluator.apply_override("run-1", stop, RULES, 3600.0, parts.clock.now)
    order, verdict = logged(parts)[-2:]
    assert (order["kind"], order["session_id"]) == ("order", "run-1")
    assert order["body"] == {
        "event": "stop", "reason": "runs in\ncircles", "by": "ann", "until": None, "limits": {},
    }  # fmt: skip
    assert verdict["body"]["verdict"]["reason"] == "operator_stop"
    parts.storage.close()


def test_what_could_not_be_stored_is_logged_once_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As nothing of it was published, nothing of it is lost."""
    parts = sidecar(tmp_path)
    first = stepped(parts, ("run-1", 1))

    def full(changes: Changes) -> None:
        raise StorageError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(parts.storage, "commit", full)
        for tokens in (900, 1000):
            with pytest.raises(StorageError):
                stepped(parts, ("run-1", tokens), rules=dataclasses.replace(RULES, revision="r2"))
    after = stepped(parts, ("run-1", 1000))
    assert verdicts(parts) == changed(first, after)
    taken = [e["body"]["revision"] for e in logged(parts, AuditKind.CONFIGURATION)]
    assert taken == ["r1", "r2", "r2", "r1"], "each that a step went by"
    numbers = [e["number"] for e in logged(parts)]
    assert numbers == list(range(1, len(numbers) + 1))
    parts.storage.close()


def test_a_storage_that_was_replaced_says_that_the_log_begins_anew(tmp_path: Path) -> None:
    """Numbers go on, and the configuration in force is there again."""
    parts = sidecar(tmp_path)
    stepped(parts, ("run-1", 1))
    for end in ("", "-wal", "-shm"):
        (tmp_path / f"otel-budget.db{end}").unlink()
    (tmp_path / "otel-budget.db").write_bytes(b"")
    parts.storage._file.damage = "it is damaged"
    stepped(parts, ("run-1", 900))
    entries = logged(parts)
    assert [e["number"] for e in entries] == [4, 5, 6]
    assert entries[0]["body"]["event"] == "log_begun_anew"
    assert entries[1]["body"]["revision"] == "r1"
    parts.storage.close()


def test_entries_of_a_clock_that_was_set_and_of_a_refused_reload(tmp_path: Path) -> None:
    """Both change what verdicts mean, or might have."""
    parts = sidecar(tmp_path)
    trail = AuditTrail(Restored(audit_number=7), parts.clock.now)
    trail.note_refused("sidecar.yaml:3: source: is missing", parts.clock.now)
    started, refused = trail.offer((), {}, None)
    assert (started.number, refused.number) == (8, 9)
    assert refused.body["problem"] == "sidecar.yaml:3: source: is missing"
    parts.evaluator._wall = lambda: parts.clock.now + 500
    stepped(parts, ("run-1", 1))
    assert {"event": "clock_set", "seconds": 500} in [e["body"] for e in logged(parts)]
    parts.storage.close()


def test_a_budget_without_an_end_that_is_taken_out_ends_at_no_moment(tmp_path: Path) -> None:
    """And not in the year 9999."""
    parts = sidecar(tmp_path)
    total = budget("research", window=Window(WindowKind.TOTAL))
    stepped(parts, ("run-1", 1), rules=dataclasses.replace(RULES, budgets=(total,)))
    stepped(parts, ("run-1", 1), rules=dataclasses.replace(RULES, budgets=()))
    (closed,) = [
        e["body"] for e in logged(parts, AuditKind.BUDGET) if e["body"]["event"] == "window_closed"
    ]
    assert closed["start"] is not None
    assert closed["end"] is None
    parts.storage.close()


def test_a_log_that_was_shortened_says_so_once_for_each_time(tmp_path: Path) -> None:
    """Not with every piece that goes."""
    parts = sidecar(tmp_path)
    parts.storage._audit._size = 2_000_000
    for n in range(1, 60):
        stepped(parts, *((f"run-{n}-{i}", 1) for i in range(40)))
    stepped(parts)
    said = [e["body"] for e in logged(parts, AuditKind.SIDECAR)]
    shortened = [body["entries"] for body in said if body["event"] == "log_shortened"]
    assert shortened
    assert sum(shortened) <= parts.storage.stats().audit_dropped
    assert len(shortened) < 12
    parts.storage.close()


def test_what_happens_to_budgets_is_logged_with_its_verdicts(tmp_path: Path) -> None:
    """Top-ups, windows that are over, edits; a verdict is found by the budget that decided it."""
    parts = sidecar(tmp_path)
    by_day = dataclasses.replace(RULES, ceilings={}, budgets=(budget("research"),))
    stepped(parts, ("run-1", 10), rules=by_day)
    stepped(parts, ("run-1", 1200), rules=by_day)
    asked = TopUpRequest("key-1", "research", (), {"tokens": 500}, "a demo", "ann", None, "{}")
    for _ in range(2):
        parts.evaluator.top_up(asked, by_day, 3600.0, parts.clock.now)
    parts.clock.advance(86_400)
    stepped(parts, ("run-1", 1300), rules=by_day)
    wider = dataclasses.replace(by_day, budgets=(budget("research", tokens=2000),))
    stepped(parts, ("run-1", 1300), rules=wider)
    stepped(parts, ("run-1", 1300), rules=dataclasses.replace(RULES, budgets=()))
    page = parts.evaluator.audit_log(AuditQuery(budget="research"))
    entries = [json.loads(line) for line in page.lines]
    found = [(e["kind"], e["body"].get("event")) for e in entries]
    assert found.count(("top_up", "given")) == 1
    assert ("budget", "edited") in found
    assert found[-2:] == [("budget", "ended"), ("budget", "window_closed")]
    verdict = next(e for e in entries if e["kind"] == "verdict")
    assert verdict["body"]["verdict"]["limit_from"] == "budget:research"
    given = next(e for e in entries if e["kind"] == "top_up")["body"]
    assert (given["amounts"], given["reason"], given["by"]) == ({"tokens": 500}, "a demo", "ann")
    closed = next(e for e in entries if e["body"].get("event") == "window_closed")["body"]
    assert closed["used"]["tokens"] == 1200
    parts.storage.close()
