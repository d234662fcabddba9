"""The hooks of Claude Code, as 2.1.332 takes their answers, and 2.1.197 but for ``onFailure``.

- ``continue: false`` before a tool ends the turn, and the tool runs all the same: so it is denied,
  too. At a session's start it is ignored.
- A blocked prompt is repeated to the user with the reason; it costs no call.
- ``PostToolBatch`` comes once for each call that wants tools, before the next call.
- At ``Stop`` any text for the model makes one more call: there is none.
"""

from __future__ import annotations

from typing import Any, Final

from otel_budget.agents.base import (
    AgentHooks,
    EventKind,
    EventRow,
    Step,
    blocked,
    context,
    denied,
    ended,
)


def _ended(name: str, text: str) -> dict[str, Any]:
    """Write the end: its reason is shown in the terminal, the message in the output as a stream."""
    return {**ended(name, text), "systemMessage": text}


def _denied_and_ended(name: str, text: str) -> dict[str, Any]:
    return {**_ended(name, text), **denied(name, text)}


_AFTER_TOOLS: Final = {Step.BRIEF: context, Step.END: _ended}

#: Hooks of the type ``http`` are not called there, only commands. It can be left out: the first
#: prompt is taken for a start.
COMMANDS_ONLY: Final = ("SessionStart",)
#: The events at which the sidecar is to be called.
EVENTS: Final = (
    "SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolBatch", "Stop", "SessionEnd",
)  # fmt: skip
HOOKS: Final = AgentHooks(
    name="claude-code",
    title="Claude Code",
    preset="claude_code",
    events=EVENTS,
    rows={
        "SessionStart": EventRow(EventKind.SESSION_START, {}),
        "UserPromptSubmit": EventRow(
            EventKind.PROMPT, {Step.BRIEF: context, Step.END: blocked}
        ),
        "PreToolUse": EventRow(
            EventKind.BEFORE_TOOL,
            {Step.BRIEF: context, Step.DENY: denied, Step.END: _denied_and_ended},
        ),
        "PostToolUse": EventRow(EventKind.AFTER_TOOL, _AFTER_TOOLS),
        "PostToolBatch": EventRow(EventKind.AFTER_TOOLS, _AFTER_TOOLS),
        "Stop": EventRow(EventKind.TURN_END, {}),
        "SessionEnd": EventRow(EventKind.SESSION_END, {}, shows_notices=False),
    },
)  # fmt: skip
