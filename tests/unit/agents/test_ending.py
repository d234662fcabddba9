"""What hooks are answered: briefed, denied, ended, and never too early or too late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from otel_budget.agents.base import Step
from otel_budget.agents.call_sizes import MAX_AGENTS
from otel_budget.agents.ending import COUNTED_WITHIN, HookedRuns
from otel_budget.core.reasons import Action
from otel_budget.core.wrap_up import WrapUp
from tests.unit.agents.hooked import NOW, Hooked, verdict

if TYPE_CHECKING:
    from otel_budget.core.verdict import Verdict

OVER, NEAR, FINE = verdict(1086), verdict(910), verdict(100)
WHY = "tokens at 108.6% (1,086 of 1,000)"
FINAL = (
    f"otel-budget: this run is at its limit: {WHY}. No more tools are run. Give your final answer "
    "now, with what you have."
)
END = (
    f"otel-budget: stopped: {WHY}. To go on: otel-budget session limits run-1 --max-tokens N "
    '--for 1h --reason "..."'
)
BRIEF = (
    "otel-budget: tokens at 91.0% (910 of 1,000): 90 left. Wrap up: finish what you have begun, "
    "and begin nothing new."
)


def denied(name: str, text: str) -> dict[str, Any]:
    """Return the denial of a tool as Claude Code and Codex take it."""
    return {
        "hookSpecificOutput": {
            "hookEventName": name,
            "permissionDecision": "deny",
            "permissionDecisionReason": text,
        }
    }


def context(name: str, text: str) -> dict[str, Any]:
    """Return a text for the model."""
    return {"hookSpecificOutput": {"hookEventName": name, "additionalContext": text}}


STOPPED = {"continue": False, "stopReason": END, "systemMessage": END}


def test_claude_code_is_denied_its_tools_then_ended_at_the_next() -> None:
    """One more call after the crossing, for the final answer."""
    run = Hooked()
    assert run.ask("UserPromptSubmit", FINE) == {}
    assert run.ask("PreToolUse", OVER) == denied("PreToolUse", FINAL)
    assert run.ask("PreToolUse", OVER) == denied("PreToolUse", FINAL)  # another of the same call
    assert run.ask("PostToolBatch", OVER) == {}
    assert run.ask("PreToolUse", OVER) == {**STOPPED, **denied("PreToolUse", END)}
    assert run.ask("PostToolBatch", OVER) == STOPPED


def test_claude_code_that_is_over_after_its_tools_is_told_so() -> None:
    """What it wants after that is not done."""
    run = Hooked()
    assert run.ask("PreToolUse", FINE) == {}
    assert run.ask("PostToolBatch", OVER) == context("PostToolBatch", FINAL)
    assert run.ask("PreToolUse", OVER) == {**STOPPED, **denied("PreToolUse", END)}


def test_gemini_cli_is_denied_its_tools_then_ended_with_our_words() -> None:
    """Where the model would have answered."""
    run = Hooked("gemini-cli")
    usage = {"llm_response": {"usageMetadata": {"totalTokenCount": 500}}}
    assert run.ask("BeforeModel", FINE) == {}
    assert run.ask("AfterModel", OVER, **usage) == {}
    assert run.ask("BeforeTool", OVER) == {"decision": "deny", "reason": FINAL}
    assert run.ask("BeforeModel", OVER) == {}
    assert run.ask("AfterModel", OVER, **usage) == {}
    assert run.ask("BeforeTool", OVER) == {"continue": False, "stopReason": END}
    ended = run.ask("BeforeModel", OVER)
    assert ended["decision"] == "block"
    (candidate,) = ended["hookSpecificOutput"]["llm_response"]["candidates"]
    assert candidate["content"] == {"role": "model", "parts": [END]}


def test_gemini_cli_that_could_not_be_told_is_ended_before_the_call() -> None:
    """A call without a word of the limit would be spent in vain."""
    run = Hooked("gemini-cli")
    assert run.ask("AfterTool", FINE) == {}
    assert run.ask("BeforeModel", OVER)["decision"] == "block"


def test_codex_is_denied_every_tool_as_no_hook_ends_its_turn() -> None:
    """It is told once more after a tool, and not again."""
    run = Hooked("codex")
    assert run.ask("PostToolUse", OVER) == context("PostToolUse", FINAL)
    for _ in range(3):
        assert run.ask("PreToolUse", OVER) == denied("PreToolUse", FINAL)
        assert run.ask("PostToolUse", OVER) == {}


@pytest.mark.parametrize(
    ("agent", "prompt", "refused"),
    [
        ("claude-code", "UserPromptSubmit", {"decision": "block", "reason": END}),
        ("codex", "UserPromptSubmit", {"decision": "block", "reason": END}),
        ("gemini-cli", "BeforeAgent", {"continue": False, "stopReason": END}),
    ],
)
def test_a_prompt_to_a_run_over_its_limit_is_not_taken(
    agent: str, prompt: str, refused: dict[str, Any]
) -> None:
    """With the numbers, and how to go on; until the limit is raised: then it is talked to again."""
    run = Hooked(agent)
    for _ in range(2):
        assert run.ask("SessionStart", OVER) == {}
        assert run.ask(prompt, OVER) == refused
    assert run.ask(prompt, verdict(1086, 5000)) == {}
    assert run.step(run.agent.events[2], verdict(1086, 5000)).step is Step.GO_ON
    assert run.ask(prompt, verdict(5001, 5000)) != {}


def test_who_set_the_limit_decides_how_to_go_on() -> None:
    """No operator raises a run's own."""
    asked = Hooked().ask("UserPromptSubmit", verdict(1086, limit_from="session"))
    assert asked["reason"].endswith(
        "To go on: start it again with a higher limit of its own (--max-tokens N)"
    )


def test_the_model_is_briefed_once_for_each_line() -> None:
    """The user hears the same."""
    run = Hooked()
    told = {**context("PreToolUse", BRIEF), "systemMessage": BRIEF}
    assert run.ask("PreToolUse", NEAR) == told
    assert run.ask("PostToolBatch", verdict(930)) == {}
    assert run.ask("UserPromptSubmit", verdict(950)) == {}
    raised = run.ask("PostToolBatch", verdict(1900, 2000))
    assert "1,900 of 2,000" in raised["hookSpecificOutput"]["additionalContext"]
    assert run.ask("PostToolBatch", verdict(1900, 2000)) == {}


def test_gemini_cli_is_briefed_where_it_can_be() -> None:
    """Before a tool or a call it would not hear it."""
    run = Hooked("gemini-cli")
    assert run.ask("BeforeTool", NEAR) == {}
    assert run.ask("BeforeModel", NEAR) == {}
    assert run.ask("AfterTool", NEAR) == {**context("AfterTool", BRIEF), "systemMessage": BRIEF}


def test_a_sub_agent_is_briefed_by_itself_and_ended_at_once() -> None:
    """The last call is its parent's."""
    run = Hooked()
    assert run.ask("PreToolUse", NEAR, agent_id="sub") == context("PreToolUse", BRIEF)
    assert run.step("PreToolUse", NEAR).step is Step.BRIEF
    assert run.ask("PostToolBatch", OVER, agent_id="sub") == STOPPED
    assert run.step("PostToolBatch", OVER).step is Step.BRIEF
    assert run.step("PreToolUse", OVER).step is Step.END


def test_many_sub_agents_are_bounded() -> None:
    """At worst one is briefed again."""
    run = Hooked()
    for number in range(MAX_AGENTS + 10):
        assert run.step("PreToolUse", NEAR, agent_id=f"sub-{number}").step is Step.BRIEF
    assert len(run.run._briefed) == MAX_AGENTS


@pytest.mark.parametrize("reason", ["operator_stop", "unpriced_calls", "unknown_usage"])
def test_a_stop_that_allows_no_last_calls_ends_at_once(reason: str) -> None:
    """An operator who says now does not ask for a final answer."""
    stop = verdict(reason=reason, action=Action.STOP)
    for event in ("PreToolUse", "PostToolBatch", "UserPromptSubmit"):
        assert Hooked().step(event, stop).step is Step.END
    codex = Hooked("codex").ask("PreToolUse", stop)
    assert f"this run is stopped: because of {reason}." in str(codex)


@pytest.mark.parametrize("reason", ["operator_stop", "wrap_up", "budget_low"])
def test_a_graceful_stop_lets_the_model_answer(reason: str) -> None:
    """Its tools are denied, it is called once more, and what it wants then ends it."""
    stop = verdict(910, reason=reason, action=Action.STOP, wrap_up=WrapUp(1))
    run = Hooked()
    denied = run.step("PreToolUse", stop)
    assert denied.step is Step.DENY
    assert denied.text.endswith("No more tools are run. Give your final answer now, with what you "
                                "have.")  # fmt: skip
    assert run.step("PostToolBatch", stop).step is not Step.END
    assert run.step("PreToolUse", stop).step is Step.END
    assert Hooked().step("PreToolUse", stop, agent_id="sub-1").step is Step.END
    assert Hooked().step("UserPromptSubmit", stop).step is Step.END


def test_how_to_take_an_operators_stop_back_is_said() -> None:
    """To the user, who may not be the operator."""
    stop = verdict(reason="operator_stop")
    assert "otel-budget session release run-1" in str(Hooked().ask("PreToolUse", stop))


@pytest.mark.parametrize("reason", ["stale_data", "source_error", "partial_data"])
@pytest.mark.parametrize("begins", ["SessionStart", "UserPromptSubmit"])
def test_a_process_that_has_just_begun_is_not_stopped_for_silence(reason: str, begins: str) -> None:
    """It could never break it."""
    silent = verdict(reason=reason, at=NOW - 900)
    run = Hooked()
    for event in (begins, "UserPromptSubmit", "PreToolUse", "PostToolBatch", "Stop"):
        assert run.step(event, silent).step is Step.GO_ON
    later = verdict(reason=reason, at=NOW + 1)  # something came of it, then no more
    assert run.step("PreToolUse", later).step is Step.END
    assert run.step("UserPromptSubmit", later).step is Step.END
    run.step("SessionEnd", later)
    run.now += 60
    assert run.step("UserPromptSubmit", later).step is Step.GO_ON  # another process


def test_silence_in_the_middle_of_a_run_is_what_the_verdict_makes_of_it() -> None:
    """Also of one whose beginning was not heard, as the sidecar came later."""
    assert Hooked().step("PreToolUse", verdict(reason="stale_data")).step is Step.END
    going_on = verdict(reason="stale_data", action=Action.CONTINUE)
    assert Hooked().step("PreToolUse", going_on).step is Step.GO_ON
    assert Hooked().step("PreToolUse", verdict(reason="implausible_data")).step is Step.END


def test_a_run_that_was_ended_is_not_let_on_by_silence() -> None:
    """Unless its stop was taken back: no silence hides one that holds."""
    run = Hooked()
    silent = verdict(reason="stale_data", at=NOW - 900)
    run.step("SessionStart", None)
    assert run.step("PreToolUse", verdict(reason="implausible_data")).step is Step.END
    assert run.step("PreToolUse", silent).step is Step.END
    raised = Hooked()
    raised.step("SessionStart", OVER)
    assert raised.step("UserPromptSubmit", OVER).step is Step.END
    assert raised.step("UserPromptSubmit", silent).step is Step.GO_ON


def test_a_run_of_which_nothing_is_counted_goes_on_and_the_user_is_told() -> None:
    """Once, and not before its programs had time to tell."""
    run = Hooked()
    for event in ("SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolBatch"):
        assert run.ask(event, None) == {}
    run.now += COUNTED_WITHIN
    told = run.ask("PreToolUse", None)
    assert list(told) == ["systemMessage"]
    assert "budget not engaged" in told["systemMessage"]
    assert run.ask("PostToolBatch", None) == {}
    silent = Hooked("gemini-cli")
    silent.ask("SessionStart", None)
    silent.ask("BeforeTool", None)
    silent.now += COUNTED_WITHIN
    stale = verdict(reason="stale_data", at=NOW - 900)
    usage = {"llm_response": {"usageMetadata": {"totalTokenCount": 500}}}
    assert silent.ask("AfterModel", stale, **usage) == {}  # nobody would see it there
    assert "budget not engaged" in silent.ask("AfterTool", stale)["systemMessage"]


@pytest.mark.parametrize("known", [verdict(0, at=NOW + 5), verdict(300, at=NOW - 900)])
def test_a_run_that_is_known_by_other_than_what_its_process_used_is_no_exception(
    known: Verdict,
) -> None:
    """By its limits alone, or by what an earlier process used."""
    run = Hooked()
    for event in ("UserPromptSubmit", "PreToolUse"):
        assert run.ask(event, known) == {}
    run.now += COUNTED_WITHIN
    assert "budget not engaged" in run.ask("PostToolBatch", known)["systemMessage"]
    assert run.ask("PostToolBatch", verdict(300, at=NOW + 5)) == {}


def test_a_resumed_run_near_its_limit_is_briefed_before_its_process_tells_anything() -> None:
    """What the first process used counts."""
    run = Hooked()
    assert BRIEF in str(run.ask("UserPromptSubmit", verdict(910, at=NOW - 900)))


def test_the_user_is_told_at_the_end_of_the_turn_that_it_was_the_last() -> None:
    """Once for each time."""
    run = Hooked()
    run.step("PreToolUse", OVER)
    assert run.ask("Stop", OVER) == {"systemMessage": END}
    assert run.ask("Stop", OVER) == {}
    run.step("PreToolUse", FINE)
    assert run.ask("Stop", OVER) == {"systemMessage": END}


def test_a_run_that_was_forgotten_begins_anew() -> None:
    """Nothing is known of what it used."""
    run = Hooked()
    run.step("PreToolUse", OVER)
    run.step("PostToolBatch", OVER)
    assert run.step("PreToolUse", None).step is Step.GO_ON
    assert run.step("PreToolUse", OVER).step is Step.DENY


def test_runs_are_bounded_and_the_longest_silent_one_goes() -> None:
    """Whoever asks for many costs no more."""
    runs = HookedRuns(most=2)
    first = runs.of("a")
    runs.of("b")
    assert runs.of("a") is first
    runs.of("c")
    assert len(runs) == 2
    assert runs.of("a") is first
