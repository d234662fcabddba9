"""The interactive programs in a real terminal, under ``otel-budget run``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.agents.programs import COMMANDS
from tests.agents.results import note
from tests.agents.terminal import terminal
from tests.agents.test_stopped import BY_BUDGET, HOOKS, LIMIT, TAKES, ready_for_hooks

if TYPE_CHECKING:
    from tests.agents.governed import Judge
    from tests.agents.home import Home
    from tests.agents.provider import Provider
    from tests.agents.terminal import Terminal

pytestmark = [pytest.mark.agents, pytest.mark.real("tmux")]

#: The program on the terminal, running its tools without asking anybody.
PROGRAMS = {
    "claude-code": ("claude", "--allowedTools", "Bash"),
    "codex": ("codex", "--dangerously-bypass-approvals-and-sandbox"),
    "gemini-cli": ("gemini", "--yolo"),
}
#: What stands on the screen when a prompt may be typed.
READY = {
    "claude-code": "for agents", "codex": "Ask Codex to do anything",
    "gemini-cli": "Type your message",
}  # fmt: skip


#: What the screen says when a turn was stopped, and when a prompt was not taken.
SAID = {
    "claude-code": "otel-budget: stopped", "codex": "All done for alpha.",
    "gemini-cli": "otel-budget: stopped",
}  # fmt: skip
BLOCKED = "higher limit of its own"


def begin(open_: Terminal, agent: str, home: Home, judge: Judge, limit: int) -> None:
    """Start an agent under a limit, and wait until it can be talked to."""
    ready_for_hooks(agent, home)
    options = (*HOOKS[agent], "--run", "one", "--max-tokens", str(limit))
    for name, value in judge.env.items():
        open_.enter(f"export {name}={value}")
    open_.start("otel-budget", "run", *options, "--", *PROGRAMS[agent])
    open_.until(READY[agent], 60)
    time.sleep(2)  # it draws its prompt before it takes Enter for more than a line's end


def ask(open_: Terminal, provider: Provider, text: str) -> None:
    """Give the agent a prompt, and see that it asks its model."""
    before = len(provider.log())
    open_.enter(text)
    for _ in range(5):
        end = time.monotonic() + 6
        while time.monotonic() < end:
            if len(provider.log()) > before:
                return
            time.sleep(0.05)
        open_.press("Enter")  # the first was taken for a line's end
    raise AssertionError(f"nothing was asked of the model:\n{open_.screen()}")


def leave(open_: Terminal) -> int:
    """End a program by Ctrl-C as a user does, who presses it again, and return its exit status."""
    for patience in (0.4, 6, 0.4, 6, 0.4):
        open_.press("C-c")
        if open_.has_ended(patience):
            break
    return open_.ended()


@pytest.mark.parametrize("agent", COMMANDS)
def test_a_turn_is_stopped_and_the_next_prompt_is_blocked(
    agent: str, home: Home, provider: Provider, judge: Judge
) -> None:
    """The program lives on and says why; Ctrl-C ends it, and leaves the terminal as it was."""
    # Codex has no hook that ends a turn, and is not sent a signal at once on the terminal.
    provider.delay, provider.obeys = TAKES, agent == "codex"
    said = SAID[agent]
    with terminal(home) as opened:
        begin(opened, agent, home, judge, LIMIT)
        ask(opened, provider, "do 12 steps of alpha")
        opened.until(said, 40)
        crossing = provider.crossing(LIMIT)
        opened.enter("do 3 steps of beta")
        opened.until(BLOCKED, 20)
        assert not [entry for entry in provider.log("beta") if entry.main]
        code = leave(opened)
        assert code == BY_BUDGET
        assert opened.is_sane()
    assert len(provider.after(crossing)) <= 1
    note(agent, "interactive", {})
    note(agent, "terminal", {})


@pytest.mark.parametrize("agent", COMMANDS)
def test_a_session_below_its_limit_ends_as_it_would(
    agent: str, home: Home, provider: Provider, judge: Judge
) -> None:
    """Ctrl-C reaches the program once; its own exit status, the terminal as it was, all counted."""
    with terminal(home) as opened:
        begin(opened, agent, home, judge, 100_000_000)
        ask(opened, provider, "do 2 steps of alpha")
        opened.until("All done for alpha.")
        assert leave(opened) == 0
        assert opened.is_sane()
    served = provider.served()
    counted = judge.settled("one", served.tokens, served.calls)
    assert (counted.tokens, counted.calls) == (served.tokens, served.calls)


def test_clear_and_compact_of_claude_code_stay_in_one_run(
    home: Home, provider: Provider, judge: Judge
) -> None:
    """/clear makes another session of Claude's, and no other budget."""
    with terminal(home) as opened:
        begin(opened, "claude-code", home, judge, 100_000_000)
        ask(opened, provider, "do 2 steps of alpha")
        opened.until("All done for alpha.")
        opened.enter("/clear")
        opened.until(lambda screen: "All done for alpha." not in screen)
        ask(opened, provider, "do 2 steps of beta")
        opened.until("All done for beta.")
        opened.enter("/compact")
        opened.until("Compacted")
        ask(opened, provider, "do 1 steps of gamma")
        opened.until("All done for gamma.")
        assert leave(opened) == 0
    sessions = {entry.session for entry in provider.log() if entry.main}
    assert len(sessions) == 2
    served = provider.served()
    counted = judge.settled("one", served.tokens, served.calls)
    assert (counted.tokens, counted.calls) == (served.tokens, served.calls)
    assert judge.runs() == {"one"}
    note("claude-code", "clear_and_compact", {})
