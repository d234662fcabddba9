"""Hooks and telemetry wired by hand, at a sidecar with ceilings of its own: no launcher."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.agents.governed import Judge, judging, session_of
from tests.agents.home import headless
from tests.agents.results import note
from tests.agents.test_stopped import LIMIT, TAKES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.agents.home import Home
    from tests.agents.provider import Provider

pytestmark = pytest.mark.agents

EVENTS = {
    "claude-code": (
        "SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolBatch", "SessionEnd",
    ),
    "codex": ("SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse"),
    "gemini-cli": ("SessionStart", "BeforeAgent", "BeforeModel", "AfterModel", "BeforeTool",
                   "AfterTool", "SessionEnd"),
}  # fmt: skip
WAYS = (
    ("claude-code", "http"), ("claude-code", "curl"), ("claude-code", "hook"),
    ("codex", "curl"), ("codex", "hook"), ("gemini-cli", "curl"), ("gemini-cli", "hook"),
)  # fmt: skip


@pytest.fixture
def strict_judge(tmp_path: Path) -> Iterator[Judge]:
    """A sidecar with a ceiling of tokens for each run."""
    with judging(tmp_path, resource_limits={"max_tokens": LIMIT}) as running:
        yield running


def _command(agent: str, way: str, judge: Judge) -> str:
    """Return the command line of a hook."""
    if way == "curl":
        return f"curl -s -m 5 --data-binary @- {judge.url}/v1/hooks/{agent}"
    return f"otel-budget hook {agent} --url {judge.url}"


def _hook(agent: str, way: str, judge: Judge) -> dict[str, object]:
    """Return one hook as settings have it."""
    if way == "http":
        return {"type": "http", "url": f"{judge.url}/v1/hooks/{agent}", "timeout": 5}
    timeout = 5000 if agent == "gemini-cli" else 5
    named = {"name": "budget"} if agent == "gemini-cli" else {}
    return {"type": "command", "command": _command(agent, way, judge), "timeout": timeout} | named


def _wired(agent: str, way: str, home: Home, judge: Judge) -> tuple[dict[str, str], list[str]]:
    """Return the environment and the arguments; settings that are files are written."""
    hook = _hook(agent, way, judge)
    matcher = {"matcher": "*"} if agent == "gemini-cli" else {}
    hooks = {event: [matcher | {"hooks": [hook]}] for event in EVENTS[agent]}
    if agent == "claude-code":
        env = {
            "CLAUDE_CODE_ENABLE_TELEMETRY": "1", "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_LOGS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": judge.receiver,
            "OTEL_METRIC_EXPORT_INTERVAL": "250", "OTEL_LOGS_EXPORT_INTERVAL": "250",
        }  # fmt: skip
        return env, ["--settings", json.dumps({"hooks": hooks})]
    if agent == "codex":
        (home.folder / ".codex/hooks.json").write_text(json.dumps({"hooks": hooks}))
        logs = (
            f'otel.exporter={{otlp-http={{endpoint="{judge.receiver}/v1/logs",protocol="binary"}}}}'
        )
        trust = "--dangerously-bypass-hook-trust"
        return {"OTEL_BLRP_SCHEDULE_DELAY": "250"}, ["-c", logs, trust]
    file = home.folder / ".gemini/settings.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"hooks": hooks}))
    env = {
        "GEMINI_TELEMETRY_ENABLED": "true", "GEMINI_TELEMETRY_TARGET": "local",
        "GEMINI_TELEMETRY_OTLP_ENDPOINT": judge.receiver,
        "GEMINI_TELEMETRY_OTLP_PROTOCOL": "http", "GEMINI_TELEMETRY_LOG_PROMPTS": "false",
    }  # fmt: skip
    return env, []


@pytest.mark.parametrize(("agent", "way"), WAYS)
def test_hooks_wired_by_hand_end_a_run(
    agent: str, way: str, home: Home, provider: Provider, strict_judge: Judge
) -> None:
    """The run is the agent's own session, in hooks and in telemetry."""
    provider.delay = TAKES
    # Codex has no hook that ends a turn: there a model that obeys is needed.
    provider.obeys = agent == "codex"
    env, arguments = _wired(agent, way, home, strict_judge)
    done = home.run(*headless(agent, "do 12 steps of alpha"), *arguments, env=env)
    crossing = provider.crossing(LIMIT)
    assert len(provider.after(crossing)) <= 1, done
    run = session_of(agent, done)
    served = provider.served()
    counted = strict_judge.settled(run, served.tokens, served.calls)
    assert (counted.tokens, counted.calls) == (served.tokens, served.calls)
    assert strict_judge.runs() == {run}
    note(agent, f"by_{way}", {})
