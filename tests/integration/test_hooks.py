"""Hooks of coding agents ask a real sidecar, which the agents push to, or which reads them."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_many_sessions import resident
from tests.integration.test_receiver import Receiving, points
from tests.support.api import token_of
from tests.support.exposition import serve
from tests.support.figures import length, note
from tests.support.paths import TESTS
from tests.support.ports import free_port
from tests.support.processes import sidecar, until

FIXTURES = TESTS / "agents" / "fixtures"
LIMIT = 100_000


class Session:
    """One session of an agent: it pushes, and its hooks ask."""

    def __init__(self, at: Receiving, session_id: str, agent: str = "claude-code") -> None:
        """Begin it with nothing used."""
        self.at, self.session_id, self.agent = at, session_id, agent
        self.used, self.start = 0, 10**18
        folder = FIXTURES / agent.replace("-", "_") / "hook_inputs"
        self._inputs = {each.stem: json.loads(each.read_text()) for each in folder.glob("*.json")}

    def call(self, tokens: int, *, pushed_after: float = 0.0) -> None:
        """Call the model; what it used is pushed so many seconds later."""
        self.used += tokens
        body = points(self.session_id, self.used, start=self.start)
        if pushed_after:
            threading.Timer(pushed_after, self.at.push, ("metrics", body)).start()
        else:
            assert self.at.push("metrics", body)[0] == 200

    def hook(self, event: str, **more: Any) -> dict[str, Any]:
        """Call a hook; return its answer."""
        sent = {**self._inputs[event], "session_id": self.session_id, **more}
        host = self.at.process.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request("POST", f"/v1/hooks/{self.agent}", json.dumps(sent))
        with connection.getresponse() as answer:
            body: dict[str, Any] = json.load(answer)
            assert answer.status == 200, body
        connection.close()
        return body

    def tools(self, *, pushed_after: float = 0.0, tokens: int) -> list[dict[str, Any]]:
        """Call the model, which wants a tool; return what its hooks are answered."""
        self.call(tokens, pushed_after=pushed_after)
        return [self.hook("PreToolUse"), self.hook("PostToolBatch")]

    def starts_again(self) -> None:
        """Go on in another process, whose counters begin at 0."""
        self.used, self.start = 0, self.start + 10**12


@contextmanager
def governing(folder: Path) -> Iterator[Receiving]:
    """Run a sidecar with a receiver and a limit, where an operator may act."""
    listen, push = free_port(), free_port()
    (folder / "admin").write_text(token_of("admin"))
    (folder / "sidecar.yaml").write_text(
        f"""
source: {{otlp: {{address: "127.0.0.1:{push}"}}}}
resource_limits: {{max_tokens: {LIMIT}}}
listen: {{address: "127.0.0.1:{listen}", admin_token_file: admin}}
storage: {{path: sidecar.db}}
"""
    )
    with sidecar(folder, config=folder / "sidecar.yaml") as process:
        until(lambda: "receiving OTLP on" in process.said(), process.process)
        yield Receiving(process, push)


def _raise(at: Receiving, session_id: str, tokens: int) -> None:
    _order(at, session_id, "limits", for_seconds=3600, max_tokens=tokens)


def _order(at: Receiving, session_id: str, kind: str, **order: Any) -> None:
    connection = http.client.HTTPConnection(at.process.url.removeprefix("http://"), timeout=60)
    body = {"reason": "worth it", **order}
    headers = {
        "Authorization": f"Bearer {token_of('admin')}",
        "Content-Type": "application/json",
    }
    path = f"/v1/sessions/{session_id}/{kind}"
    connection.request("POST", path, json.dumps(body), headers)
    assert connection.getresponse().status == 200
    connection.close()


def test_of_two_sessions_the_one_past_its_limit_is_ended_and_can_go_on_after_a_raise(
    tmp_path: Path,
) -> None:
    """Briefed, denied, ended; resumed it is refused, then talked to: both processes count."""
    with governing(tmp_path) as at:
        one, other = Session(at, "one"), Session(at, "other")
        for each in (one, other):
            assert each.hook("SessionStart") == {}
            assert each.hook("UserPromptSubmit") == {}
            assert each.tools(tokens=30_000) == [{}, {}]
        briefed, after = one.tools(tokens=55_000)
        assert "15,000 left" in briefed["hookSpecificOutput"]["additionalContext"]
        assert after == {}
        denied, last = one.tools(tokens=20_000)
        assert denied["hookSpecificOutput"]["permissionDecision"] == "deny"
        assert last == {}
        assert other.tools(tokens=20_000) == [{}, {}]
        ended, again = one.tools(tokens=20_000)
        assert (ended["continue"], again["continue"]) == (False, False)
        assert "otel-budget session limits one --max-tokens N" in one.hook("Stop")["systemMessage"]
        one.hook("SessionEnd")
        until(lambda: at.process.verdict("one")["run_state"] == "stopped")  # type: ignore[index]
        one.starts_again()
        assert one.hook("SessionStart", source="resume") == {}
        assert one.hook("UserPromptSubmit")["decision"] == "block"
        _raise(at, "one", 500_000)
        assert one.hook("UserPromptSubmit") == {}
        assert one.tools(tokens=10_000) == [{}, {}]
        assert at.used("one")["tokens"] == 135_000
        assert at.used("other")["tokens"] == 50_000


def test_an_operators_stop_lets_a_session_answer_unless_it_says_now(tmp_path: Path) -> None:
    """The one's tools are denied, and it may be called once more; the other ends at once."""
    with governing(tmp_path) as at:
        one, other = Session(at, "one"), Session(at, "other")
        for each in (one, other):
            each.hook("SessionStart")
            each.hook("UserPromptSubmit")
            assert each.tools(tokens=10_000) == [{}, {}]
        _order(at, "one", "stop")
        _order(at, "other", "stop", now=True)
        denied, last = one.tools(tokens=10_000)
        assert denied["hookSpecificOutput"]["permissionDecision"] == "deny"
        assert last == {}
        assert [each["continue"] for each in one.tools(tokens=10_000)] == [False, False]
        assert [each["continue"] for each in other.tools(tokens=10_000)] == [False, False]
        _order(at, "one", "release")
        assert one.hook("UserPromptSubmit") == {}


def test_a_session_that_ended_in_order_and_is_resumed_counts_on(tmp_path: Path) -> None:
    """Its first process had done what it had to; the budget is the session's."""
    with governing(tmp_path) as at:
        run = Session(at, "run")
        assert run.tools(tokens=60_000) == [{}, {}]
        run.hook("SessionEnd")
        until(lambda: at.process.verdict("run")["run_state"] == "completed")  # type: ignore[index]
        run.starts_again()
        assert run.hook("UserPromptSubmit") == {}
        assert at.process.verdict("run")["run_state"] == "running"  # type: ignore[index]
        assert "additionalContext" in str(run.tools(tokens=30_000))
        assert "deny" in str(run.tools(tokens=15_000))


def test_near_a_limit_what_was_just_used_is_waited_for(tmp_path: Path) -> None:
    """A program pushes a moment after its hooks ask; elsewhere they are answered at once."""
    with governing(tmp_path) as at:
        run = Session(at, "run")
        run.hook("UserPromptSubmit")
        for _ in range(3):
            assert run.tools(tokens=15_000) == [{}, {}]
        assert run.hook("PreToolUse") == {}  # another call would cross no line
        run.call(15_000)
        assert at.used("run")["tokens"] == 60_000
        run.hook("PostToolBatch")
        assert run.tools(tokens=15_000) == [{}, {}]
        run.call(10_000, pushed_after=0.05)
        assert "15,000 left" in str(run.hook("PreToolUse"))
        run.hook("PostToolBatch")
        run.call(16_000, pushed_after=0.05)
        assert "deny" in str(run.hook("PreToolUse"))


def test_an_agent_that_is_read_every_half_minute_is_judged_by_its_last_call(tmp_path: Path) -> None:
    """Its hook has its page read: nothing is waited for."""

    def show(tokens: int) -> None:
        series = 'claude_code_token_usage_tokens_total{session_id="run",type="input",model="m"}'
        shown.show(f"# TYPE claude_code_token_usage_tokens_total counter\n{series} {tokens}\n")

    with serve() as shown:
        show(1000)
        flags = ("--target", shown.url, "--interval", "30s", "--max-tokens", str(LIMIT))
        with sidecar(tmp_path, *flags) as process:
            until(lambda: process.verdict("run"), process.process)
            run = Session(Receiving(process, 0), "run")
            for tokens, answer in (
                (60_000, "{}"),
                (90_000, "additionalContext"),
                (105_000, "deny"),
            ):
                show(tokens)
                assert answer in json.dumps(run.hook("PreToolUse"))
                assert "continue" not in run.hook("PostToolBatch")
            assert run.hook("PreToolUse")["continue"] is False


def test_a_sidecar_that_comes_back_knows_whom_it_had_ended(tmp_path: Path) -> None:
    """What hooks told it is gone, what was used is not."""
    with governing(tmp_path) as at:
        run = Session(at, "run")
        run.hook("UserPromptSubmit")
        run.call(LIMIT + 5000)
        assert "deny" in str(run.hook("PreToolUse"))
        at.process.kill()
    with governing(tmp_path) as at:
        run.at = at
        assert run.hook("UserPromptSubmit")["decision"] == "block"
        assert "deny" in str(run.hook("PreToolUse"))


def test_what_a_hook_of_gemini_cli_tells_is_counted_at_once(tmp_path: Path) -> None:
    """Its telemetry comes 10 s later, and is another view of the same."""
    with governing(tmp_path) as at:
        run = Session(at, "run", "gemini-cli")
        usage = run._inputs["AfterModel"]["llm_response"]
        usage["usageMetadata"]["totalTokenCount"] = 60_000
        assert run.hook("BeforeAgent") == {}
        assert run.hook("BeforeModel") == {}
        assert run.hook("AfterModel") == {}
        assert at.used("run")["tokens"] == 60_000
        assert run.hook("BeforeTool") == {}
        assert run.hook("BeforeModel") == {}
        assert run.hook("AfterModel") == {}
        assert run.hook("BeforeTool")["decision"] == "deny"
        assert run.hook("BeforeModel") == {}
        assert run.hook("AfterModel") == {}
        assert run.hook("BeforeTool")["continue"] is False
        assert run.hook("BeforeModel")["decision"] == "block"
        assert at.used("run")["tokens"] == 180_000


@pytest.mark.parametrize("agent", ["claude-code", "codex", "gemini-cli"])
def test_a_run_that_nobody_counts_goes_on_and_is_not_made_known(tmp_path: Path, agent: str) -> None:
    """Hooks alone are no usage."""
    with governing(tmp_path) as at:
        run = Session(at, "run", agent)
        for event in run._inputs:
            if event != "AfterModel":
                assert run.hook(event) == {}
        assert at.process.verdict("run") is None


def test_many_hook_calls_are_answered_and_nothing_piles_up(tmp_path: Path) -> None:
    """Of many sessions of all three agents, some of them at once."""
    calls, sessions, at_once = length(2_000, 100_000), 100, 8
    with governing(tmp_path) as at:
        for number in range(sessions):
            assert at.push("metrics", points(f"s-{number}", 1000 + number))[0] == 200
        asked = _asked(sessions)
        _ask_all(at, [next(asked) for _ in range(200)])
        before, began = resident(at.process), time.monotonic()
        bodies = [next(asked) for _ in range(calls)]
        with ThreadPoolExecutor(at_once) as pool:
            took = sorted(
                each
                for part in pool.map(
                    lambda first: _ask_all(at, bodies[first::at_once]), range(at_once)
                )
                for each in part
            )
        seconds, grown = time.monotonic() - began, resident(at.process) - before
    assert len(took) == calls
    assert grown < 30_000_000
    note(
        "One costs one",
        f"{calls:,} hook calls of {sessions} sessions, {at_once} at once, all three agents",
        f"all answered, {calls / seconds:,.0f} a second, half of them within "
        f"{took[calls // 2] * 1e3:.0f} ms, 99 % within {took[calls * 99 // 100] * 1e3:.0f} ms; "
        f"{grown / 1e6:.0f} MB more memory",
    )


def _asked(sessions: int) -> Iterator[tuple[str, str]]:
    """Yield paths and bodies: each session's hooks again and again, one call after another."""
    agents = {
        "claude-code": ("UserPromptSubmit", "PreToolUse", "PostToolBatch", "Stop"),
        "codex": ("UserPromptSubmit", "PreToolUse", "PostToolUse", "Stop"),
        "gemini-cli": ("BeforeModel", "AfterModel", "BeforeTool", "AfterTool"),
    }
    inputs = {
        agent: [(FIXTURES / agent.replace("-", "_") / "hook_inputs" / f"{each}.json").read_text()
                for each in events]
        for agent, events in agents.items()
    }  # fmt: skip
    while True:
        for number in range(sessions):
            agent = list(agents)[number % len(agents)]
            for body in inputs[agent]:
                yield f"/v1/hooks/{agent}?run=s-{number}", body


def _ask_all(at: Receiving, bodies: list[tuple[str, str]]) -> list[float]:
    """Ask one after the other over one connection; return the seconds that each took."""
    connection = http.client.HTTPConnection(at.process.url.removeprefix("http://"), timeout=60)
    took = []
    for asked in bodies:
        began = time.monotonic()
        connection.request("POST", *asked)
        with connection.getresponse() as answer:
            answer.read()
            assert answer.status == 200
        took.append(time.monotonic() - began)
    connection.close()
    return took
