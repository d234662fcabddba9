"""``otel-budget install``, then the plain program; ``--remove`` leaves the files as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.agents.governed import judging, session_of
from tests.agents.home import headless
from tests.agents.programs import COMMANDS
from tests.agents.results import note
from tests.agents.test_stopped import LIMIT, TAKES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.agents.home import Home
    from tests.agents.provider import Provider

pytestmark = pytest.mark.agents

#: Files that a user has, and that are written.
FOLDERS = {"claude-code": ".claude", "codex": ".codex", "gemini-cli": ".gemini"}
#: Codex asks once whether hooks are trusted; without a terminal it is told so.
TRUST = {"codex": ("--dangerously-bypass-hook-trust",)}


def _files(home: Home, agent: str) -> dict[str, bytes]:
    """Return the settings of an agent: what stands in them, by name."""
    folder = home.folder / FOLDERS[agent]
    known = (folder / name for name in ("settings.json", "config.toml", "hooks.json"))
    return {file.name: file.read_bytes() for file in known if file.exists()}


@pytest.mark.parametrize("agent", COMMANDS)
def test_an_installed_agent_is_held_without_a_launcher(
    agent: str, home: Home, provider: Provider, tmp_path: Path
) -> None:
    """By a sidecar that is there, with a ceiling for each run."""
    # Codex has no hook that ends a turn: there a model that obeys is needed. Without a launcher it
    # pushes once in a second; what was pushed is to be judged before the next hook asks.
    provider.delay = 3.0 if agent == "codex" else TAKES
    provider.obeys = agent == "codex"
    if agent == "claude-code":
        (home.folder / ".claude/settings.json").write_text('{\n\t"model" : "opus"\n}')
    before = _files(home, agent)
    with judging(tmp_path, resource_limits={"max_tokens": LIMIT}) as judge:
        done = home.run("otel-budget", "install", agent, "--yes", "--sidecar", judge.url)
        assert done.code == 0, done
        assert _files(home, agent) != before
        program = (*headless(agent, "do 12 steps of alpha"), *TRUST.get(agent, ()))
        ended = home.run(*program)
        crossing = provider.crossing(LIMIT)
        after = provider.after(crossing)
        with_tools = [entry for entry in after if entry.tool is not None]
        assert len(with_tools) <= 1, ended
        assert len(after) <= len(with_tools) + 1, "after its answer it goes on"
        run, served = session_of(agent, ended), provider.served()
        counted = judge.settled(run, served.tokens, served.calls)
        assert (counted.tokens, counted.calls) == (served.tokens, served.calls)
        done = home.run("otel-budget", "install", agent, "--remove", "--yes")
        assert done.code == 0, done
    assert _files(home, agent) == before
    note(agent, "installed", {})
