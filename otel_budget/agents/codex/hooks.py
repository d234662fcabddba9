"""The hooks of Codex CLI, as 0.171.0 takes their answers. Its schemas are strict: an answer with a
field too many is dropped whole.

- No hook ends a turn: ``continue: false`` is invalid before a tool, and after one only replaces its
  output. What can be done is to deny every tool. What started it may end it by a signal.
- Nothing says that all tools of one call have run: each is taken for the last.
- A prompt can be blocked; it costs no call.
- At ``Stop`` any text for the model makes one more call: there is none.
"""

from __future__ import annotations

from typing import Final

from otel_budget.agents.base import (
    AgentHooks,
    EventKind,
    EventRow,
    Step,
    blocked,
    context,
    denied,
)

#: The events at which the sidecar is to be called.
EVENTS: Final = (
    "SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "Stop", "SessionEnd",
)  # fmt: skip
HOOKS: Final = AgentHooks(
    name="codex",
    title="Codex CLI",
    preset="codex",
    events=EVENTS,
    rows={
        "SessionStart": EventRow(EventKind.SESSION_START, {}),
        "UserPromptSubmit": EventRow(
            EventKind.PROMPT, {Step.BRIEF: context, Step.END: blocked}
        ),
        "PreToolUse": EventRow(
            EventKind.BEFORE_TOOL, {Step.BRIEF: context, Step.DENY: denied}
        ),
        "PostToolUse": EventRow(EventKind.AFTER_TOOLS, {Step.BRIEF: context}),
        "Stop": EventRow(EventKind.TURN_END, {}),
        "SessionEnd": EventRow(EventKind.SESSION_END, {}, shows_notices=False),
    },
)  # fmt: skip
