"""``/v1/hooks/{agent}``: every recorded input, with verdicts of each kind, to the exact JSON."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from otel_budget.agents.hook_input import WHOLE
from otel_budget.core.wrap_up import WrapUp
from otel_budget.sidecar.api import hooks as api_hooks
from tests.support.api import assert_problem
from tests.support.paths import ROOT
from tests.support.sidecar_fixtures import LEASE, START
from tests.unit.agents.hooked import verdict

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from otel_budget.core.verdict import Verdict
    from otel_budget.sidecar.api.broadcaster import VerdictBroadcaster
    from tests.support.api import Host
    from tests.support.sidecar_fixtures import SteadyClock

INPUTS: Final = sorted((ROOT / "tests/agents/fixtures").glob("*/hook_inputs/*.json"))
ANSWERS: Final = ROOT / "tests/golden/hook_answers.json"
UPDATE: Final = os.environ.get("OTEL_BUDGET_UPDATE_GOLDEN") == "1"
#: What is known of the run that asks.
VERDICTS: Final[dict[str, Verdict | None]] = {
    "unknown": None,
    "fine": verdict(100, at=START),
    "near": verdict(910, at=START),
    "over": verdict(1086, at=START),
    "over its own limit": verdict(1086, at=START, limit_from="session"),
    "near and not nearly done": verdict(910, at=START, reason="approaching_limit"),
    "stopped by an operator": verdict(at=START, reason="operator_stop"),
    "stopped by an operator, and may wrap up": verdict(
        at=START, reason="operator_stop", wrap_up=WrapUp(1)
    ),
    "what is left is for its last calls": verdict(
        910, at=START, reason="wrap_up", wrap_up=WrapUp(1)
    ),
    "silent": verdict(at=START, reason="stale_data"),
}


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_hooks, "PUSH_TIME", 0.0)


def _ask(client: TestClient, agent: str, sent: Any, query: str = "?run=run-1") -> Any:
    return client.post(f"/v1/hooks/{agent}{query}", content=json.dumps(sent))


def _claude(name: str = "PreToolUse", **more: Any) -> dict[str, Any]:
    return {"hook_event_name": name, "session_id": "own-id", **more}


@pytest.mark.parametrize("known", VERDICTS)
def test_recorded_inputs_are_answered_to_the_letter(
    known: str, client: TestClient, broadcaster: VerdictBroadcaster
) -> None:
    """Each for a run of its own that was not heard of before."""
    judged = VERDICTS[known]
    found: dict[str, Any] = {}
    for path in INPUTS:
        agent = path.parts[-3].replace("_", "-")
        run = f"{agent}-{path.stem}"
        if judged is not None:
            broadcaster.publish([replace(judged, session_id=run, sequence=9)])
        sent = json.loads(path.read_text(encoding="utf-8"))
        answer = _ask(client, agent, sent, f"?run={run}")
        assert answer.status_code == 200
        found[f"{agent} {path.stem}"] = answer.json()
    golden = json.loads(ANSWERS.read_text(encoding="utf-8")) if ANSWERS.exists() else {}
    if UPDATE:
        golden[known] = {name: each for name, each in found.items() if each}
        text = json.dumps(golden, indent=1, sort_keys=True)
        ANSWERS.write_text(f"{text}\n", encoding="utf-8")
    assert {name: each for name, each in found.items() if each} == golden[known]


def test_a_run_is_the_sessions_own_unless_it_is_named(
    client: TestClient, broadcaster: VerdictBroadcaster, host: Host
) -> None:
    """With a name, what follows on ``/clear`` is the same run."""
    broadcaster.publish([replace(verdict(1086), session_id="own-id", sequence=9)])
    assert _ask(client, "claude-code", _claude()).json() == {}
    assert "deny" in _ask(client, "claude-code", _claude(), "").text
    assert host.nudged == ["run-1", "own-id"]


def test_what_begins_and_ends_is_told(
    client: TestClient, broadcaster: VerdictBroadcaster, host: Host
) -> None:
    """A run that was ended for its budget is stopped; another has done what it had to."""
    _ask(client, "claude-code", _claude("SessionStart", source="startup"))
    _ask(client, "claude-code", _claude("SessionEnd", reason="other"))
    broadcaster.publish([replace(verdict(1086), sequence=9)])
    _ask(client, "claude-code", _claude())
    _ask(client, "claude-code", _claude("SessionEnd", reason="other"))
    states = [state for _, state, *_ in host.told]
    assert states == ["running", "completed", "stopped"]
    assert {(run, preset, peer) for run, _, _, preset, peer in host.told} == {
        ("run-1", "claude_code", "testclient")
    }


def test_a_session_that_is_cleared_ends_no_run_that_was_named(
    client: TestClient, host: Host
) -> None:
    """Its program goes on with it under another id."""
    for reason in ("clear", "resume"):
        _ask(client, "claude-code", _claude("SessionEnd", reason=reason))
    assert host.told == []
    _ask(client, "claude-code", _claude("SessionEnd", reason="clear"), "")
    assert [(run, state) for run, state, *_ in host.told] == [("own-id", "completed")]


@pytest.mark.parametrize(
    ("known", "told"),
    [
        (verdict(10), []),
        (verdict(10, run_state="vanished"), ["running"]),
        (verdict(10, run_state="stopped"), ["running"]),
        (verdict(reason="stale_data"), ["running"]),
        (None, []),
    ],
)
def test_a_prompt_makes_known_that_a_run_goes_on_that_seemed_to_be_gone(
    known: Verdict | None, told: list[str],
    client: TestClient, broadcaster: VerdictBroadcaster, host: Host,
) -> None:  # fmt: skip
    """Somebody talks to it."""
    if known is not None:
        broadcaster.publish([replace(known, sequence=9)])
    _ask(client, "claude-code", _claude("UserPromptSubmit"))
    assert [state for _, state, *_ in host.told] == told


def test_what_a_call_used_is_told_and_a_chunk_without_it_is_answered_at_once(
    client: TestClient, host: Host
) -> None:
    """There is one for every few words."""
    chunk = {"hook_event_name": "AfterModel", "session_id": "own-id", "llm_response": {}}
    for _ in range(3):
        assert _ask(client, "gemini-cli", chunk).json() == {}
    assert (host.nudged, host.told) == ([], [])
    last = {**chunk, "llm_response": {"usageMetadata": {"totalTokenCount": 14133}}}
    assert _ask(client, "gemini-cli", last).json() == {}
    assert host.told == [("run-1", None, 14133, "gemini_cli", "testclient")]
    assert host.nudged == []  # it is judged with what was told


def test_an_agent_that_is_not_known_is_named_and_those_that_are(client: TestClient) -> None:
    """The name is spelled with hyphens."""
    problem = assert_problem(_ask(client, "claude_code", _claude()), 404)
    assert problem["detail"] == (
        "no agent 'claude_code' is known here: claude-code, codex, gemini-cli"
    )


@pytest.mark.parametrize("wrong", [b"", b"{", b"[]", b"[" * 5000, b'"text"', b"\xff{}", b"{}"])
def test_what_is_no_input_of_a_hook_is_refused(wrong: bytes, client: TestClient) -> None:
    """With what is wrong, and nothing of it."""
    answer = client.post("/v1/hooks/codex", content=wrong)
    assert_problem(answer, 400)


def test_a_run_that_is_named_wrongly_is_refused(client: TestClient) -> None:
    """A budget for nobody would be held by nobody."""
    assert_problem(_ask(client, "codex", _claude(), "?run=../a"), 400)


def test_a_page_in_a_browser_may_not_speak_for_a_hook(client: TestClient, host: Host) -> None:
    """It could end runs, or add to them, without reading a word."""
    headers = {"Origin": "https://example.com"}
    answer = client.post("/v1/hooks/codex", content=json.dumps(_claude()), headers=headers)
    assert_problem(answer, 403)
    assert host.nudged == []


def test_of_a_large_input_the_beginning_is_read(
    client: TestClient, broadcaster: VerdictBroadcaster
) -> None:
    """What tools gave back may be a picture; the run is stopped all the same."""
    broadcaster.publish([replace(verdict(1086), sequence=9)])
    large = _claude("PostToolBatch", tool_calls="x" * (2 * WHOLE))
    assert "at its limit" in _ask(client, "claude-code", large).text
    backwards = json.dumps({"tool_calls": "x" * (2 * WHOLE), **_claude()})
    assert_problem(client.post("/v1/hooks/claude-code", content=backwards), 400)


def test_of_a_large_input_of_gemini_cli_the_usage_at_its_end_is_read(
    client: TestClient, host: Host
) -> None:
    """The whole conversation stands before it."""
    usage = {"candidates": [], "usageMetadata": {"totalTokenCount": 900_000}}
    large = {
        "hook_event_name": "AfterModel",
        "session_id": "own-id",
        "llm_request": {"messages": 'x "usageMetadata": {"totalTokenCount": 1}' * 50_000},
    }
    chunk = {**large, "llm_response": {"candidates": [{"text": '"usageMetadata": {}'}]}}
    assert _ask(client, "gemini-cli", chunk).json() == {}
    assert host.told == []
    assert _ask(client, "gemini-cli", {**large, "llm_response": usage}).json() == {}
    assert [tokens for _, _, tokens, _, _ in host.told] == [900_000]


def test_an_input_past_all_bounds_is_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not read to its end."""
    monkeypatch.setattr(api_hooks, "MAX_INPUT", 1000)
    assert_problem(_ask(client, "codex", _claude(tool_input="x" * 1000)), 413)


def test_without_a_verdict_in_its_lease_there_is_no_answer(
    client: TestClient, broadcaster: VerdictBroadcaster, clock: SteadyClock
) -> None:
    """The agent's own way to fail holds then; what no lack of data changes is answered."""
    broadcaster.publish([replace(verdict(10, at=START), sequence=9)])
    clock.advance(LEASE + 1)
    assert_problem(_ask(client, "codex", _claude()), 503)
    broadcaster.publish([replace(verdict(1086, at=START), sequence=10)])
    assert "deny" in _ask(client, "codex", _claude()).text


def test_a_run_that_is_read_slowly_is_answered_by_what_is_known(
    client: TestClient, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent waits for its hook."""
    monkeypatch.setattr(api_hooks, "NUDGE_TIME", 0.01)
    host.on_nudge = asyncio.Event().wait  # it never ends
    assert _ask(client, "codex", _claude()).json() == {}


def test_near_a_limit_the_count_of_the_last_call_is_waited_for(
    client: TestClient, broadcaster: VerdictBroadcaster, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it takes to be pushed, and no longer."""
    monkeypatch.setattr(api_hooks, "PUSH_TIME", 5.0)

    for sequence, used in enumerate((100, 400, 700), start=9):
        broadcaster.publish([replace(verdict(used), data_at=1.0, sequence=sequence)])
        assert _ask(client, "codex", _claude("PostToolUse")).json() == {}

    async def push_soon() -> None:
        over = replace(verdict(1050), data_at=999.0, sequence=12)
        asyncio.get_running_loop().call_later(0.02, broadcaster.publish, [over])

    host.on_nudge = push_soon
    assert "deny" in _ask(client, "codex", _claude()).text


def test_a_count_that_does_not_come_is_not_waited_for_for_long(
    client: TestClient, broadcaster: VerdictBroadcaster
) -> None:
    """The tool goes on; the next look may see it."""
    for sequence, used in enumerate((100, 400, 700), start=9):
        broadcaster.publish([replace(verdict(used), data_at=1.0, sequence=sequence)])
        _ask(client, "codex", _claude("PostToolUse"))
    assert _ask(client, "codex", _claude()).json() == {}
