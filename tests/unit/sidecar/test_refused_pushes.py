"""Whom the ledger refuses is known from one step to the next, and not for longer."""

from __future__ import annotations

from otel_budget.sidecar import refused_pushes
from otel_budget.sidecar.refused_pushes import RefusedPushes

OURS, THEIRS = ("job", "otlp://ours"), ("job", "otlp://theirs")


def test_who_is_refused_is_so_until_a_step_lets_it_in() -> None:
    """A step that says nothing of it changes nothing."""
    known = RefusedPushes()
    assert not known.of("theirs", ["job"])
    known.note([OURS, THEIRS], {THEIRS: "carried_elsewhere"})
    known.note([("other", "otlp://ours")], {})
    assert known.of("theirs", ["job", "other"]) == {"carried_elsewhere": 1}
    assert not known.of("ours", ["job"])
    known.note([THEIRS], {})
    assert not known.of("theirs", ["job"])


def test_no_more_are_kept_than_fit() -> None:
    """Whoever pushes under ever new ids fills nothing."""
    known = RefusedPushes()
    many = [(f"job-{number}", "otlp://theirs") for number in range(refused_pushes._MOST + 5)]
    known.note(many, dict.fromkeys(many, "session_limit"))
    found = known.of("theirs", [session_id for session_id, _ in many])
    assert found == {"session_limit": refused_pushes._MOST}
