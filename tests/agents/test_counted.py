"""What the agents spend at the provider is what the sidecar counts, to the token."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tests.agents.governed import run_of, session_of
from tests.agents.home import headless
from tests.agents.programs import COMMANDS
from tests.agents.results import note

if TYPE_CHECKING:
    from tests.agents.governed import Judge
    from tests.agents.home import Home
    from tests.agents.provider import Provider

pytestmark = pytest.mark.agents

PLENTY = ("--max-tokens", "100000000")


def _same(judge: Judge, run: str, provider: Provider, label: str | None = None) -> None:
    """Tokens and calls of a run are those that were served."""
    served = provider.served(label)
    counted = judge.settled(run, served.tokens, served.calls)
    assert (counted.tokens, counted.calls) == (served.tokens, served.calls)


@pytest.mark.parametrize("agent", COMMANDS)
def test_a_run_counts_what_was_served(
    agent: str, home: Home, provider: Provider, judge: Judge
) -> None:
    """Reasoning and what comes from the cache are inside; calls beside the task count as well."""
    provider.think = 40
    run = run_of(
        home, *PLENTY, "--run", "one", program=headless(agent, "do 5 steps of alpha"),
        env=judge.env,
    )  # fmt: skip
    assert run.code == 0, run
    assert "All done for alpha." in run.done.out
    _same(judge, "one", provider)
    money: dict[str, str] = {}
    if agent == "claude-code":
        told = Decimal(str(json.loads(run.done.out)["total_cost_usd"]))
        counted = judge.counted("one").cost
        assert counted == round(told, 9)
        money = {"cost_usd": str(counted)}
    found = provider.served()
    note(agent, "counted", {"tokens": found.tokens, "calls": found.calls, **money})


@pytest.mark.parametrize("agent", COMMANDS)
def test_two_sessions_at_once_are_two_runs(
    agent: str, home: Home, provider: Provider, judge: Judge
) -> None:
    """In one home, at one sidecar: each run has its own calls and no others."""
    provider.delay = 0.1

    def go(label: str, steps: int) -> int:
        program = headless(agent, f"do {steps} steps of {label}")
        return run_of(home, *PLENTY, "--run", label, program=program, env=judge.env).code

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(go, ("alpha", "beta"), (3, 6))) == [0, 0]
    for label in ("alpha", "beta"):
        _same(judge, label, provider, label)
    assert judge.runs() == {"alpha", "beta"}
    note(agent, "at_once", {})


@pytest.mark.parametrize("agent", COMMANDS)
def test_a_resumed_session_counts_both_its_processes(
    agent: str, home: Home, provider: Provider, judge: Judge
) -> None:
    """Its counters begin at 0 again, and nothing is lost or counted twice."""
    first = run_of(
        home, *PLENTY, "--run", "one", program=headless(agent, "do 2 steps of alpha"),
        env=judge.env,
    )  # fmt: skip
    session = session_of(agent, first.done)
    program = headless(agent, "do 3 steps of beta", resume=session)
    second = run_of(home, *PLENTY, "--run", "one", program=program, env=judge.env)
    assert (first.code, second.code) == (0, 0), second
    assert "All done for beta." in second.done.out
    _same(judge, "one", provider)
    assert judge.runs() == {"one"}


def test_a_sub_agent_of_claude_code_is_part_of_its_run(
    home: Home, provider: Provider, judge: Judge
) -> None:
    """Claude's tool that starts one."""
    program = (*headless("claude-code", "delegate 2 steps of alpha"), "Agent", "Task")
    assert run_of(home, *PLENTY, "--run", "one", program=program, env=judge.env).code == 0
    assert sum(entry.main for entry in provider.log()) == 5
    _same(judge, "one", provider)
    assert judge.runs() == {"one"}
    note("claude-code", "sub_agent", {})


@pytest.mark.parametrize("agent", ["claude-code", "gemini-cli"])
def test_telemetry_that_the_user_switched_off_is_on_for_this_run(
    agent: str, home: Home, provider: Provider, judge: Judge
) -> None:
    """Whether the environment says so, or the settings, which are not written."""
    files = {
        name: home.folder / name for name in (".claude/settings.json", ".gemini/settings.json")
    }
    off = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    files[".claude/settings.json"].write_text(json.dumps({"env": off}))
    gemini = json.loads(files[".gemini/settings.json"].read_text())
    files[".gemini/settings.json"].write_text(
        json.dumps(gemini | {"telemetry": {"enabled": False}})
    )
    before = {name: file.read_bytes() for name, file in files.items()}
    env = judge.env | off | {"CLAUDE_CODE_ENABLE_TELEMETRY": "0", "GEMINI_TELEMETRY_ENABLED": "0"}
    program = headless(agent, "do 2 steps of alpha")
    assert run_of(home, *PLENTY, "--run", "one", program=program, env=env).code == 0
    _same(judge, "one", provider)
    assert {name: file.read_bytes() for name, file in files.items()} == before
    note(agent, "switched_off", {"found": "on for the run"})


def test_telemetry_of_codex_that_the_user_switched_off_is_said_loudly(
    home: Home, provider: Provider, judge: Judge
) -> None:
    """A setting on its command line is the last word; --strict then ends it."""
    provider.delay = 0.3
    program = (*headless("codex", "do 2 steps of alpha"), "-c", 'otel.exporter="none"')
    loose = run_of(home, *PLENTY, program=program, env=judge.env)
    assert loose.code == 0, loose
    assert "NOTHING WAS COUNTED" in loose.done.err
    assert provider.served().calls
    strict = run_of(home, *PLENTY, "--strict", program=program, env=judge.env)
    assert strict.code == 2, strict
    note("codex", "switched_off", {"found": "said, refused with --strict"})
