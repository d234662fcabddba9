"""What a hook of a coding agent sends, and what it may be answered: the same for all agents.

An agent's table has a row for each of its events: what kind of moment it is, and how each answer is
written there. An answer without an entry would be ignored, or refused as invalid, by that agent: it
is never sent. What to answer is decided in ``ending``; nothing here does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_budget.core import validation
from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Characters of an event's name or a sub-agent's id; a longer one is nobody's.
LONGEST: Final = 128
#: Why a session may end that its program goes on with under another id.
_GOING_ON: Final = ("clear", "resume")


class EventKind(StrEnum):
    """What kind of moment a hook is called at."""

    SESSION_START = "session_start"
    """A process begins a session, or goes on with one."""
    SESSION_END = "session_end"
    PROMPT = "prompt"
    """The user, or what plays one, wants something: calls of the model follow."""
    BEFORE_CALL = "before_call"
    AFTER_CALL = "after_call"
    """A call of the model gave something, perhaps all it gives."""
    BEFORE_TOOL = "before_tool"
    """The model wants a tool: a call of it has ended."""
    AFTER_TOOL = "after_tool"
    """A tool has run. Others that the same call wanted may not have."""
    AFTER_TOOLS = "after_tools"
    """All that one call wanted was done, or denied: the next call follows."""
    TURN_END = "turn_end"
    """The model has answered, and the user has the word."""
    OTHER = "other"
    """Nothing depends on it."""


class Step(StrEnum):
    """What an answer does."""

    GO_ON = "go_on"
    BRIEF = "brief"
    """Go on, and the model is told something."""
    DENY = "deny"
    """The tool does not run, and the model is told why."""
    END = "end"
    """Nothing more is done: the turn ends, or the prompt is not taken."""


class HookEvent(NamedTuple):
    """One call of a hook: what matters of its input; all else is dropped unread."""

    kind: EventKind
    name: str
    """As the agent spells it."""
    session_id: str
    """The agent's own."""
    agent_id: str = ""
    """Which of its sub-agents; empty for the agent itself."""
    tokens: int | None = None
    """What the call used that has just ended, where the hook says it."""
    goes_on: bool = False
    """Of a session's end: its program goes on, with another session."""


class Answer(NamedTuple):
    """What to answer, before it is written for an agent."""

    step: Step = Step.GO_ON
    text: str = ""
    """One line: for the model where it goes on, for the user where it ends."""
    notice: str = ""
    """One line for the user, where the agent shows one; empty: nothing to say."""


GO_ON: Final = Answer()


class Effects(NamedTuple):
    """What has an effect at an event."""

    steps: frozenset[Step]
    """Besides to go on."""
    shows_notices: bool


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event of an agent."""

    kind: EventKind
    writers: Mapping[Step, Callable[[str, str], dict[str, Any]]]
    """What has an effect there, and how it is written: from the event's name and the text."""
    shows_notices: bool = True
    """True if the user is shown a ``systemMessage``."""


def no_tokens(_hook_input: Mapping[str, Any]) -> int | None:
    """Return what a call used, of an agent whose hooks do not say it."""
    return None


def no_end(_tail: bytes) -> Mapping[str, Any]:
    """Return what matters at the end of an input, of an agent that writes nothing of it there."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentHooks:
    """The hooks of one agent."""

    name: str
    """As commands and URLs spell it: ``claude-code``."""
    title: str
    """For people."""
    preset: str
    """The preset that counts what it pushes or shows."""
    events: tuple[str, ...]
    """Those to call the sidecar at, in the order in which they come."""
    rows: Mapping[str, EventRow]
    """All that are known, by the agent's name for them; at others there is nothing to say."""
    tokens_of: Callable[[Mapping[str, Any]], int | None] = no_tokens
    """Returns what the call used that has just ended, from a hook's input."""
    end_of: Callable[[bytes], Mapping[str, Any]] = no_end
    """Returns members that matter from the end of an input that is too large to be read."""

    def read(self, hook_input: object) -> HookEvent:
        """Return what matters of a hook's input, JSON as it was sent.

        Raises InvalidValueError for what no hook sends.
        """
        if not isinstance(hook_input, dict):
            raise InvalidValueError("body", type(hook_input).__name__, "one JSON object")
        name = _text(hook_input, "hook_event_name")
        if not name:
            found = type(hook_input.get("hook_event_name")).__name__
            raise InvalidValueError("hook_event_name", found, "the event's name")
        row = self.rows.get(name)
        return HookEvent(
            EventKind.OTHER if row is None else row.kind,
            name,
            validation.session_id(hook_input.get("session_id")),
            _text(hook_input, "agent_id"),
            self.tokens_of(hook_input),
            _text(hook_input, "reason") in _GOING_ON,
        )

    def can(self, event: HookEvent) -> Effects:
        """Return what has an effect at an event."""
        row = self.rows.get(event.name)
        if row is None:
            return Effects(frozenset(), shows_notices=False)
        return Effects(frozenset(row.writers), row.shows_notices)

    def write(self, event: HookEvent, answer: Answer) -> dict[str, Any]:
        """Return an answer as the agent's JSON; nothing of what it would ignore is in it."""
        row = self.rows.get(event.name)
        if row is None:
            return {}
        writer = row.writers.get(answer.step)
        written = {} if writer is None else writer(event.name, answer.text)
        if answer.notice and row.shows_notices:
            written["systemMessage"] = answer.notice
        return written


def _text(hook_input: Mapping[str, Any], key: str) -> str:
    """Return a short text of the input; empty for anything else."""
    value = hook_input.get(key)
    return value if isinstance(value, str) and len(value) <= LONGEST else ""


def specific(name: str, **fields: str) -> dict[str, Any]:
    """Return an answer of fields that belong to an event: ``hookSpecificOutput``."""
    return {"hookSpecificOutput": {"hookEventName": name, **fields}}


def context(name: str, text: str) -> dict[str, Any]:
    """Write a briefing as all three agents take it."""
    return specific(name, additionalContext=text)


def denied(name: str, text: str) -> dict[str, Any]:
    """Write that a tool does not run, as Claude Code and Codex take it."""
    return specific(name, permissionDecision="deny", permissionDecisionReason=text)


def ended(_name: str, text: str) -> dict[str, Any]:
    """Write that nothing more is done, as Claude Code and Gemini CLI take it."""
    return {"continue": False, "stopReason": text}


def blocked(_name: str, text: str) -> dict[str, Any]:
    """Write that a prompt is not taken, as Claude Code and Codex take it."""
    return {"decision": "block", "reason": text}
