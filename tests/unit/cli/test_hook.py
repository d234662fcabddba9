"""``otel-budget hook``: the sidecar's answer passes through; what comes without one."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from otel_budget.agents.known import hooks_of
from otel_budget.cli.commands import hook
from otel_budget.cli.main import main
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.raw_server import respond
from tests.unit.project.test_lazy_import import HEAVY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_budget.agents.base import AgentHooks

INPUT = {"session_id": "s-1", "hook_event_name": "PreToolUse", "tool_name": "Bash"}


class Asked:
    """A server that answers once, and keeps what it was asked."""

    def __init__(self, answer: Callable[[socket.socket, threading.Event], None]) -> None:
        self.request = b""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._answer = answer
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._server.accept()
        with connection:
            connection.settimeout(10)
            while b"\r\n\r\n" not in self.request or len(self.body) < self._length():
                self.request += connection.recv(65_536)
            self._answer(connection, threading.Event())

    def _length(self) -> int:
        head = self.request.partition(b"\r\n\r\n")[0].lower()
        return int(head.partition(b"content-length:")[2].split(b"\r\n")[0])

    @property
    def body(self) -> bytes:
        return self.request.partition(b"\r\n\r\n")[2]

    def close(self) -> None:
        self._thread.join(10)
        self._server.close()


@pytest.fixture
def asked(request: pytest.FixtureRequest) -> Iterator[Asked]:
    server = Asked(respond(*request.param))
    yield server
    server.close()


def give(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    """Let this be what stands on stdin."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sent)))


def nowhere() -> str:
    """Return a URL at which nothing listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize("asked", [(b'{"continue": false}', "application/json")], indirect=True)
@pytest.mark.parametrize("run", [None, "run:1"])
def test_input_and_answer_pass_through(
    asked: Asked, run: str | None, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """As they are; the run is named where it was."""
    sent = json.dumps(INPUT).encode()
    give(monkeypatch, sent)
    more = [] if run is None else ["--run", run]
    assert main(["hook", "claude-code", "--url", asked.url, *more]) == 0
    assert capsys.readouterr() == ('{"continue": false}', "")
    query = b"" if run is None else b"?run=run%3A1"
    assert asked.request.startswith(b"POST /v1/hooks/claude-code" + query + b" HTTP/1.1\r\n")
    assert b"\r\nContent-Type: application/json\r\n" in asked.request
    assert asked.body == sent


@pytest.mark.parametrize("asked", [(b"{}", "application/json")], indirect=True)
def test_the_run_and_the_sidecar_may_stand_in_the_environment(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the second names, where OTEL_* is taken away."""
    monkeypatch.delenv("OTEL_BUDGET_SIDECAR_URL", raising=False)
    monkeypatch.setenv("BUDGET_SIDECAR_URL", asked.url)
    monkeypatch.setenv("BUDGET_RUN", "run-7")
    give(monkeypatch, b"{}")
    assert main(["hook", "codex"]) == 0
    assert asked.request.startswith(b"POST /v1/hooks/codex?run=run-7 HTTP/1.1\r\n")


@pytest.mark.parametrize("asked", [(b"{}", "application/json")], indirect=True)
def test_an_endless_input_is_read_to_its_end_and_sent_in_part(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool's output may be megabytes; what names the event comes first."""
    whole = json.dumps(INPUT | {"tool_response": "x" * 5_000_000}).encode()
    give(monkeypatch, whole)
    assert main(["hook", "codex", "--url", asked.url]) == 0
    assert len(asked.body) == 1_048_577
    assert whole.startswith(asked.body)
    assert not sys.stdin.buffer.read()


def table_of(agent: str) -> AgentHooks:
    """Return what is known of an agent's hooks."""
    found = hooks_of(agent)
    assert found is not None
    return found


WRONG = [
    (b'{"detail": "no agent"}', "application/problem+json", "404 Not Found"),
    (b"<html>It works!</html>", "text/html", "200 OK"),
    (b'{"detail": "older than its lease"}', "application/problem+json", "503 No"),
]


@pytest.mark.parametrize("asked", WRONG, indirect=True)
def test_what_is_no_answer_of_a_sidecar_is_not_handed_on(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An agent would take the text for the user's."""
    give(monkeypatch, json.dumps(INPUT).encode())
    assert main(["hook", "claude-code", "--url", asked.url]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("otel-budget: not held to any budget: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("url", [None, "nonsense"])
def test_without_a_sidecar_the_agent_goes_on_and_it_is_said(
    url: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr, in one line; the answer is none."""
    give(monkeypatch, json.dumps(INPUT).encode())
    assert main(["hook", "claude-code", "--url", url or nowhere()]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("otel-budget: not held to any budget: ")
    assert err.count("\n") == 1


EVENTS = [(agent, event) for agent in hook.AGENTS for event in table_of(agent).events]


@pytest.mark.parametrize(("agent", "event"), EVENTS)
def test_fail_closed_blocks_each_step_as_its_agent_can_be_blocked(
    agent: str, event: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the agent's own JSON; nothing where it cannot: at a turn's end exit 2 would go on."""
    give(monkeypatch, json.dumps(INPUT | {"hook_event_name": event}).encode())
    assert main(["hook", agent, "--url", nowhere(), "--fail-closed"]) == 0
    out, err = capsys.readouterr()
    assert "stopped, as the sidecar gives no answer" in err
    blocking = {"end", "deny"} & {str(step) for step in table_of(agent).rows[event].writers}
    answer: dict[str, Any] = json.loads(out) if out else {}
    assert bool(answer) is bool(blocking)
    if event in {"UserPromptSubmit", "PreToolUse", "BeforeAgent", "BeforeModel", "BeforeTool"}:
        assert "the sidecar gives no answer" in json.dumps(answer)


@pytest.mark.parametrize("sent", [b"", b"[1]", b"{", b'{"session_id": 1}'])
def test_fail_closed_refuses_an_input_that_is_none(
    sent: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By exit status 2, which all three take for a refusal."""
    give(monkeypatch, sent)
    assert main(["hook", "codex", "--url", nowhere(), "--fail-closed"]) == 2
    assert capsys.readouterr().out == ""


def test_an_unknown_agent_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["hook", "cline"])
    assert "invalid choice: 'cline'" in capsys.readouterr().err


def test_it_loads_nothing_that_one_request_does_not_need() -> None:
    """An agent waits for it at every step."""
    code = (
        "import sys; from otel_budget.cli.main import main; main(sys.argv[1:]);"
        "print(sorted(sys.modules), file=sys.stdout)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "hook", "claude-code", "--url", nowhere()],
        capture_output=True, text=True, check=True, cwd=ROOT, input="{}",
        env={**os.environ, "OTEL_BUDGET_SIDECAR_TOKEN_FILE": ""},
    )  # fmt: skip
    loaded = set(done.stdout.strip("[]\n").replace("'", "").split(", "))
    heavy = HEAVY | {
        "argparse", "dataclasses", "datetime", "decimal", "email", "http.client", "json", "logging",
        "pathlib", "ssl", "otel_budget.agents.base", "otel_budget.core",
    }  # fmt: skip
    assert "otel_budget.cli.commands.hook" in loaded
    assert not loaded & heavy
