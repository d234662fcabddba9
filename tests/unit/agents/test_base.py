"""The agents that are known, and what is read of what their hooks really sent."""

import json
from pathlib import Path
from typing import Any

import pytest

from otel_budget.agents.base import Answer, EventKind, HookEvent, Step
from otel_budget.agents.known import hooks_of, names
from otel_budget.errors import InvalidValueError
from tests.support.paths import ROOT

RECORDED = ROOT / "tests/agents/fixtures"
INPUTS = sorted(RECORDED.glob("*/hook_inputs/*.json"))


def _agent_of(path: Path) -> Any:
    found = hooks_of(path.parts[-3].replace("_", "-"))
    assert found is not None
    return found


def test_agents_are_found_by_the_names_that_commands_have() -> None:
    """A folder is an agent."""
    assert names() == ("claude-code", "codex", "gemini-cli")
    for name in names():
        found = hooks_of(name)
        assert found is not None
        assert (found.name, found.preset) == (name, name.replace("-", "_"))
    assert hooks_of("claude_code") is None
    assert hooks_of("base") is None
    assert hooks_of("../codex") is None


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_a_recorded_input_is_an_event(path: Path) -> None:
    """With the session's id, and of all else nothing but a sub-agent's and a count."""
    sent = json.loads(path.read_text(encoding="utf-8"))
    agent = _agent_of(path)
    event = agent.read(sent)
    assert (event.name, event.session_id) == (path.stem, sent["session_id"])
    assert event.agent_id == sent.get("agent_id", "")
    if path.stem in agent.events:
        assert event.kind is not EventKind.OTHER
    elif path.stem != "PostToolUse":
        assert event.kind is EventKind.OTHER
    assert event.tokens == (14133 if path.stem == "AfterModel" else None)


def test_every_event_that_is_needed_was_recorded() -> None:
    """None is asked for that does not come."""
    for name in names():
        found = hooks_of(name)
        assert found is not None
        recorded = {path.stem for path in INPUTS if path.parts[-3] == found.preset}
        assert set(found.events) <= recorded


@pytest.mark.parametrize(
    "wrong",
    [
        [], "text", None, {}, {"hook_event_name": 5, "session_id": "a"},
        {"hook_event_name": "Stop"}, {"hook_event_name": "Stop", "session_id": "../a"},
        {"hook_event_name": "S" * 200, "session_id": "a"},
    ],
)  # fmt: skip
def test_what_no_hook_sends_is_refused(wrong: object) -> None:
    """By one kind of error, which the API answers."""
    agent = hooks_of("codex")
    assert agent is not None
    with pytest.raises(InvalidValueError):
        agent.read(wrong)


def test_an_event_that_is_not_known_is_answered_with_nothing() -> None:
    """A newer agent has more of them."""
    agent = hooks_of("claude-code")
    assert agent is not None
    event = agent.read({"hook_event_name": "Elicitation", "session_id": "a"})
    assert event.kind is EventKind.OTHER
    assert agent.write(event, Answer(Step.END, "no", "no")) == {}
    assert agent.can(event).steps == frozenset()


@pytest.mark.parametrize("total", [True, "12", -1, 2**60, None, 1.5, [1]])
def test_a_count_that_cannot_be_is_none(total: object) -> None:
    """It would be taken for usage."""
    agent = hooks_of("gemini-cli")
    assert agent is not None
    sent = {
        "hook_event_name": "AfterModel",
        "session_id": "a",
        "llm_response": {"usageMetadata": {"totalTokenCount": total}},
    }
    assert agent.read(sent) == HookEvent(EventKind.AFTER_CALL, "AfterModel", "a")
    assert agent.read({**sent, "llm_response": 5}).tokens is None
