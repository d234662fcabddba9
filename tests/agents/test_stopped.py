"""A run that crosses its limit is briefed, ended within one call, and can be resumed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.agents.governed import Run, run_of, session_of
from tests.agents.home import headless
from tests.agents.programs import COMMANDS
from tests.agents.results import note

if TYPE_CHECKING:
    from tests.agents.governed import Judge
    from tests.agents.home import Home
    from tests.agents.provider import Provider

pytestmark = pytest.mark.agents

#: Reached with the fifth call of the task; the warning line, 80 %, with the fourth.
LIMIT = 70_000
BY_BUDGET = 3
#: How each agent's hooks are engaged.
HOOKS = {"claude-code": (), "codex": ("--trust-hooks",), "gemini-cli": ()}
#: Seconds that a call takes: longer than a push is late, as with every real model.
TAKES = 0.6
#: The call after the one that crosses the limit. What Codex does after its last answer is ended by
#: a signal, a moment after that answer is counted: the call in hand is cut.
AFTER, TAKES_AFTER = 6, {"claude-code": TAKES, "codex": 3.0, "gemini-cli": TAKES}


def _limited(agent: str, home: Home, judge: Judge, *options: str, limit: int = LIMIT) -> Run:
    """Run twelve steps under a limit of tokens."""
    ready_for_hooks(agent, home)
    program = headless(agent, "do 12 steps of alpha")
    given = (*HOOKS[agent], "--run", "one", "--max-tokens", str(limit), *options)
    return run_of(home, *given, program=program, env=judge.env)


def ready_for_hooks(agent: str, home: Home) -> None:
    """Gemini CLI takes hooks from its settings alone, so they are installed."""
    if agent == "gemini-cli":
        done = home.run("otel-budget", "install", agent, "--yes")
        assert done.code == 0, done


@pytest.mark.parametrize("agent", COMMANDS)
def test_a_model_that_obeys_is_briefed_and_gives_its_answer(
    agent: str, home: Home, provider: Provider, judge: Judge
) -> None:
    """It is told at the warning line to finish, and at the limit that its tools are refused."""
    provider.delay = TAKES
    run = _limited(agent, home, judge)
    crossing = provider.crossing(LIMIT)
    after = provider.after(crossing)
    assert run.code == BY_BUDGET, run
    assert len(after) <= 1, [entry.turns[-1] for entry in after]
    answer = after[-1] if after else crossing
    assert answer.tool is None, "the last call is the answer"
    told = [entry for entry in provider.log() if entry.main and entry.says("otel-budget")]
    late = provider.after(provider.crossing(int(LIMIT * 0.8))).index(told[0])
    assert late <= 1, "nothing was put into a prompt at the warning line"
    words = ("in the next prompt", "one call later")
    note(agent, "briefed", {"found": words[late]})
    note(agent, "obeys", {"calls_after": len(after)})


@pytest.mark.parametrize("agent", COMMANDS)
def test_a_model_that_does_not_obey_is_ended_within_one_call(
    agent: str, home: Home, provider: Provider, judge: Judge
) -> None:
    """Gracefully: what it did is kept, and after a raise the session goes on, counted from both."""
    provider.delay, provider.obeys = TAKES, False
    provider.slow = (AFTER, TAKES_AFTER[agent])
    run = _limited(agent, home, judge)
    ended = time.time()
    provider.settle()
    crossing = provider.crossing(LIMIT)
    after = [entry for entry in provider.after(crossing) if not entry.cut]
    assert run.code == BY_BUDGET, run
    assert len(after) <= 1, [entry.turns[-1] for entry in after]
    assert crossing.ended is not None
    signals = run.summary["signals"]
    found = {
        "calls_after": len(after),
        "how": f"by {' and '.join(signals)}" if signals else "by its hooks",
        "seconds": round(ended - crossing.ended, 1),
    }
    note(agent, "stopped", found)
    _goes_on(agent, home, provider, judge, run)


def _goes_on(agent: str, home: Home, provider: Provider, judge: Judge, run: Run) -> None:
    """The session is resumed with a higher limit, and counts both of its processes."""
    program = headless(agent, "do 1 steps of beta", resume=session_of(agent, run.done))
    given = (*HOOKS[agent], "--run", "one", "--max-tokens", "10000000")
    again = run_of(home, *given, program=program, env=judge.env)
    assert again.code == 0, again
    assert "All done for beta." in again.done.out
    served = provider.served()
    counted = judge.settled("one", served.tokens, served.calls)
    assert (counted.tokens, counted.calls) == (served.tokens, served.calls)
    first = next(entry for entry in provider.log("beta") if entry.main)
    assert first.says("step 3 of alpha"), "what was done before is lost"
    note(agent, "resumed", {"tokens": counted.tokens, "calls": counted.calls})


@pytest.mark.parametrize("agent", COMMANDS)
def test_without_hooks_it_is_ended_by_a_signal(
    agent: str, home: Home, provider: Provider, judge: Judge
) -> None:
    """The call in hand may be cut; nothing begins after that."""
    provider.delay, provider.obeys = 0.5, False
    program = headless(agent, "do 30 steps of alpha")
    given = ("--no-hooks", "--grace", "0", "--run", "one", "--max-tokens", str(LIMIT))
    run = run_of(home, *given, program=program, env=judge.env)
    assert run.code == BY_BUDGET, run
    after = provider.after(provider.crossing(LIMIT))
    found = {"found": "as many as it makes in 5 s"} if agent == "gemini-cli" else None
    note(agent, "signalled", found or {"calls_after": len(after)})
    assert len(after) <= {"gemini-cli": 24}.get(agent, 2)
