"""The hooks of Gemini CLI, as 0.61.0 takes their answers.

- A blocked call of the model may have a text in place of its answer: what ends a run is then said
  where its answer would be. All else that ends it leaves the output empty, and says why on stderr.
- ``AfterModel`` comes for every chunk of a stream; only the last has the usage, thoughts included.
  It is never ended there: that would take the model's last answer away.
- Calls that the program makes for itself (routing, summaries) are in its telemetry, not here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otel_budget.agents.base import (
    AgentHooks,
    EventKind,
    EventRow,
    Step,
    context,
    ended,
    specific,
)
from otel_budget.agents.hook_input import last_member
from otel_budget.core.validation import MAX_COUNT

if TYPE_CHECKING:
    from collections.abc import Mapping


def _denied(_name: str, text: str) -> dict[str, Any]:
    return {"decision": "deny", "reason": text}


def _answered(name: str, text: str) -> dict[str, Any]:
    """Write that the model is not called, with the text in place of its answer."""
    answer = {"candidates": [{"content": {"role": "model", "parts": [text]}}]}
    written = specific(name)
    written["hookSpecificOutput"]["llm_response"] = answer
    return {"decision": "block", "reason": text, **written}


def _tokens_of(hook_input: Mapping[str, Any]) -> int | None:
    """Return all tokens of the call that has just ended; None for a chunk that is not the last."""
    response = hook_input.get("llm_response")
    usage = response.get("usageMetadata") if isinstance(response, dict) else None
    total = usage.get("totalTokenCount") if isinstance(usage, dict) else None
    if not isinstance(total, int) or isinstance(total, bool):
        return None
    return total if 0 <= total <= MAX_COUNT else None


def _end_of(tail: bytes) -> Mapping[str, Any]:
    """Return the usage: the whole conversation stands before it, in every chunk."""
    return {"llm_response": {"usageMetadata": last_member(tail, "usageMetadata")}}


#: The events at which the sidecar is to be called.
EVENTS: Final = (
    "SessionStart", "BeforeAgent", "BeforeModel", "AfterModel", "BeforeTool", "AfterTool",
    "AfterAgent", "SessionEnd",
)  # fmt: skip
HOOKS: Final = AgentHooks(
    name="gemini-cli",
    title="Gemini CLI",
    preset="gemini_cli",
    events=EVENTS,
    rows={
        "SessionStart": EventRow(EventKind.SESSION_START, {}),
        "BeforeAgent": EventRow(EventKind.PROMPT, {Step.BRIEF: context, Step.END: ended}),
        "BeforeModel": EventRow(EventKind.BEFORE_CALL, {Step.END: _answered}),
        "AfterModel": EventRow(EventKind.AFTER_CALL, {}, shows_notices=False),
        "BeforeTool": EventRow(
            EventKind.BEFORE_TOOL, {Step.DENY: _denied, Step.END: ended}
        ),
        "AfterTool": EventRow(
            EventKind.AFTER_TOOL, {Step.BRIEF: context, Step.END: ended}
        ),
        "AfterAgent": EventRow(EventKind.TURN_END, {}),
        "SessionEnd": EventRow(EventKind.SESSION_END, {}, shows_notices=False),
    },
    tokens_of=_tokens_of,
    end_of=_end_of,
)  # fmt: skip
