"""The agents without otel-budget: they talk to the provider, and to nobody else."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.agents.governed import session_of
from tests.agents.home import headless
from tests.agents.programs import COMMANDS, pinned

if TYPE_CHECKING:
    from tests.agents.home import Home
    from tests.agents.provider import Provider

pytestmark = pytest.mark.agents


@pytest.mark.parametrize("agent", COMMANDS)
def test_the_programs_are_those_that_are_pinned(agent: str, home: Home) -> None:
    """Whatever else the machine has."""
    assert pinned()[agent]["version"] in home.run(COMMANDS[agent], "--version").out


@pytest.mark.parametrize("agent", COMMANDS)
def test_an_agent_does_its_steps_and_the_provider_knows_what_it_served(
    agent: str, home: Home, provider: Provider
) -> None:
    """Three tool calls, then a text: what the program prints is that text."""
    provider.think = 20
    done = home.run(*headless(agent, "do 3 steps of alpha"))
    assert done.code == 0, done
    assert "All done for alpha." in done.out
    main = [entry for entry in provider.log("alpha") if entry.main]
    assert [entry.tool is not None for entry in main] == [True, True, True, False]
    assert main[-1].says("step 3 of alpha")
    assert provider.served().calls == len(provider.log())
    assert provider.served("alpha").tokens > 4 * 14_000
    _told_the_same(agent, done.out, provider)


@pytest.mark.parametrize("agent", COMMANDS)
def test_a_resumed_session_knows_what_was_said(agent: str, home: Home, provider: Provider) -> None:
    """So it can be seen whether a run that was stopped goes on."""
    session = session_of(agent, home.run(*headless(agent, "do 1 steps of alpha")))
    done = home.run(*headless(agent, "do 1 steps of beta", resume=session))
    assert done.code == 0, done
    assert next(entry for entry in provider.log("beta") if entry.main).says("step 1 of alpha")


def _told_the_same(agent: str, out: str, provider: Provider) -> None:
    """What the agent itself says of its usage is what was served."""
    served = provider.served()
    if agent == "claude-code":
        models = json.loads(out)["modelUsage"].values()
        parts = ("inputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
        told = [sum(each[part] for each in models) for part in (*parts, "outputTokens")]
        fresh = served.input - served.cached - served.cache_write
        assert told == [fresh, served.cached, served.cache_write, served.output]
    elif agent == "codex":
        told = json.loads(out.splitlines()[-1])["usage"]
        assert (told["input_tokens"], told["output_tokens"]) == (served.input, served.output)
    else:
        models = json.loads(re.sub(r"^[^{]*", "", out))["stats"]["models"].values()
        assert sum(each["tokens"]["total"] for each in models) == served.tokens
