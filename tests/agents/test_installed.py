"""What ``otel-budget install`` writes: the real programs take it, are held, and are let go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.agents.governed import judging, run_of, session_of
from tests.agents.home import headless
from tests.agents.programs import COMMANDS
from tests.support.raw_server import serve_raw

if TYPE_CHECKING:
    from pathlib import Path

    from tests.agents.home import Home
    from tests.agents.provider import Provider

pytestmark = pytest.mark.agents

#: Of the provider's calls, some 14,000 tokens each, three fit.
CEILING = 45_000
#: Codex runs no hooks that nobody has told it to trust; a test cannot press the key.
_TRUSTING = {"codex": ("--dangerously-bypass-hook-trust",)}


def contents(home: Home) -> dict[str, bytes]:
    """Return the settings of all agents."""
    files = (".claude/settings.json", ".codex/config.toml", ".codex/hooks.json",
             ".gemini/settings.json")  # fmt: skip
    return {name: (home.folder / name).read_bytes() for name in files
            if (home.folder / name).exists()}  # fmt: skip


@pytest.mark.parametrize("agent", COMMANDS)
def test_an_installed_agent_is_counted_and_stopped_and_afterwards_as_it_was(
    agent: str, home: Home, provider: Provider, tmp_path: Path
) -> None:
    """Eight steps under a ceiling of three calls: its hooks end it, or leave it no tools."""
    before = contents(home)
    provider.think, provider.delay = 300, 1.0  # Codex tells what it used once a second
    with judging(tmp_path, resource_limits={"max_tokens": CEILING}) as judge:
        done = home.run("otel-budget", "install", agent, "--yes", "--sidecar", judge.url)
        assert done.code == 0, done
        words = headless(agent, "do 8 steps of alpha")
        done = home.run(*words[:2], *_TRUSTING.get(agent, ()), *words[2:])
        served = provider.served()
        run = session_of(agent, done)
        counted = judge.settled(run, served.tokens, served.calls)
        assert (counted.tokens, counted.calls) == (served.tokens, served.calls), done
        verdict = judge.process.verdict(run)
        assert verdict is not None
        assert verdict["action"] == "stop"
    main = [entry for entry in provider.log("alpha") if entry.main]
    assert len(main) <= 6, [entry.tool for entry in main]
    done = home.run("otel-budget", "install", agent, "--remove", "--yes")
    assert done.code == 0, done
    left = contents(home)
    assert "otel-budget" not in str(left)
    assert "OTEL" not in str(left)
    assert left == before or agent == "claude-code"  # which has written something of its own there


def test_installed_hooks_of_claude_code_leave_a_run_to_its_own(
    home: Home, provider: Provider
) -> None:
    """All that are configured are called; the sidecar of other sessions is asked nothing."""
    asked: list[object] = []
    with serve_raw(lambda connection, _: asked.append(connection)) as place:
        others = f"http://{place}"
        words = ("otel-budget", "install", "claude-code", "--yes", "--sidecar", others)
        assert home.run(*words, "--receiver", others).code == 0
        assert home.run(*headless("claude-code", "do 1 steps of beta")).code == 0
        assert asked  # by the hooks, and by what pushes
        asked.clear()
        provider.delay = 0.3
        program = headless("claude-code", "do 8 steps of alpha")
        run = run_of(home, "--max-tokens", str(CEILING), program=program)
        assert run.code == 3, run.done
        assert not asked
