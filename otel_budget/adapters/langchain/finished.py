"""What was finished before a stop, as messages; and what of them a last answer is made from.

Loads nothing of LangChain.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from otel_budget.core.exceeded import BudgetExceeded

if TYPE_CHECKING:
    from otel_budget.genai.call import UsageSink

#: Types of what a model says, whole and in pieces.
AI: Final = ("ai", "AIMessageChunk")
#: Characters of what a sub-agent had that its root's last call is given: it is to stay small.
_GIVEN: Final = 2000


def refusal(stop: BudgetExceeded, messages: Iterable[Any], sink: UsageSink | None) -> Any:
    """Return a stop as LangGraph lets it through, with what was finished before.

    messages: what the refused call would have been sent. sink: of the run that was stopped.
    """
    found: Any = stop
    if "langgraph" in sys.modules:
        from otel_budget.adapters.langchain.graph_stop import StoppedByBudget

        found = StoppedByBudget(stop.verdict)
    found.finished = list(messages)
    found.sink = sink
    return found


def messages_in(state: object) -> list[Any]:
    """Return the messages of a graph's state; none where it has none."""
    found = (
        state.get("messages") if isinstance(state, Mapping) else getattr(state, "messages", None)
    )
    if isinstance(state, list):
        found = state
    return list(found) if isinstance(found, Sequence) and not isinstance(found, str) else []


def as_text(messages: Iterable[Any]) -> str:
    """Return the end of what agents and their tools said, bounded."""
    said = [
        text
        for message in messages
        if getattr(message, "type", None) in (*AI, "tool")
        and (text := _text_of(getattr(message, "content", None)))
    ]
    return "\n".join(said)[-_GIVEN:]


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") if isinstance(part, dict) else part for part in parts)
    return "".join(text for text in texts if isinstance(text, str))


def unanswered(messages: Sequence[Any]) -> list[tuple[int, list[Any]]]:
    """Return where tool calls stand that no message answers: the message's index, and the calls."""
    answered = {getattr(message, "tool_call_id", None) for message in messages}
    found = []
    for at, message in enumerate(messages):
        calls = getattr(message, "tool_calls", None) or ()
        left = [call for call in calls if call.get("id") not in answered]
        if left:
            found.append((at, left))
    return found
