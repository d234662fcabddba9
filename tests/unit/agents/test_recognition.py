"""Which agent a command line starts, and where its own arguments begin."""

import pytest

from otel_budget.agents.known import launcher_of, names
from otel_budget.agents.recognition import recognise
from otel_budget.errors import InvalidValueError


@pytest.mark.parametrize(
    ("command", "agent", "own"),
    [
        ("claude -p hello", "claude-code", ["-p", "hello"]),
        ("/opt/bin/claude", "claude-code", []),
        ("codex exec x", "codex", ["exec", "x"]),
        ("gemini -p x", "gemini-cli", ["-p", "x"]),
        ("npx @anthropic-ai/claude-code -p x", "claude-code", ["-p", "x"]),
        ("npx --yes @openai/codex@0.171.0 exec x", "codex", ["exec", "x"]),
        ("npx -p @google/gemini-cli gemini -p x", "gemini-cli", ["-p", "x"]),
        ("bunx claude -p x", "claude-code", ["-p", "x"]),
        ("pnpm dlx @google/gemini-cli -p x", "gemini-cli", ["-p", "x"]),
        ("node /usr/lib/node_modules/@google/gemini-cli/bundle/gemini.js -p x", "gemini-cli",
         ["-p", "x"]),
        ("node --no-warnings /n/@anthropic-ai/claude-code/cli.js -p", "claude-code", ["-p"]),
        ("node /usr/local/bin/claude -p", "claude-code", ["-p"]),
        ("env A=b LANG=C claude -p x", "claude-code", ["-p", "x"]),
    ],
)  # fmt: skip
def test_an_agent_is_recognised_however_it_is_started(
    command: str, agent: str, own: list[str]
) -> None:
    words = command.split()
    found = recognise(words)
    assert found is not None
    assert (found.name, words[found.at :]) == (agent, own)


@pytest.mark.parametrize(
    "command",
    ["python my_agent.py", "node server.js", "npx", "npx cowsay claude", "env", "env A=b", "pnpm",
     "./claude-wrapper -p x", "echo claude", "node", "node --version"],
)  # fmt: skip
def test_any_other_program_is_none(command: str) -> None:
    assert recognise(command.split()) is None


def test_the_user_says_what_a_wrapper_is() -> None:
    found = recognise(["./my-wrapper", "-p", "x"], "claude-code")
    assert found is not None
    assert (found.name, found.at) == ("claude-code", 1)
    found = recognise(["npx", "claude", "-p"], "claude-code")
    assert found is not None
    assert found.at == 2, "where it is seen, the arguments are added where they belong"


def test_an_agent_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="claude-code, codex, gemini-cli"):
        recognise(["x"], "cursor")


def test_every_agent_says_how_it_is_started() -> None:
    assert names() == ("claude-code", "codex", "gemini-cli")
    for launcher in map(launcher_of, names()):
        assert launcher.PROGRAMS
        assert launcher.TITLE
