"""The messages of a last call, and its answer, marked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from langchain_core.messages import HumanMessage, ToolMessage

from otel_budget.adapters.ending import MARK
from otel_budget.adapters.langchain.finished import unanswered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from otel_budget.adapters.ending import CutShort

#: What a call is bound to that makes no sense, or is refused, without tools.
_OF_TOOLS: Final = ("tool_choice", "parallel_tool_calls", "tools", "functions", "function_call")
#: Parts of a message's content that ask for a tool.
_ASKING: Final = ("tool_use", "tool_call", "function_call", "server_tool_call")
_NOT_DONE: Final = "Not carried out: the run was stopped before."


def answered(messages: Sequence[Any]) -> Iterator[Any]:
    """Yield messages with an answer to each tool call that has none, as providers want it."""
    left = dict(unanswered(messages))
    for at, message in enumerate(messages):
        yield message
        for call in left.get(at, ()):
            yield ToolMessage(_NOT_DONE, tool_call_id=call["id"], name=call["name"], status="error")


def last_messages(messages: Sequence[Any], instruction: str) -> list[Any]:
    """Return what a model is sent in its last call."""
    return [*answered(messages), HumanMessage(instruction)]


def without_tools(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a call is bound to without its tools, and what goes with them."""
    return {name: value for name, value in settings.items() if name not in _OF_TOOLS}


def marked(message: Any, mark: CutShort, *, keep_calls: bool) -> Any:
    """Return an answer, marked as cut short; by default without tools that it asks for."""
    about = {**message.response_metadata, MARK: mark.to_dict()}
    changes: dict[str, Any] = {"response_metadata": about}
    if not keep_calls and message.tool_calls:
        changes |= {"tool_calls": [], "invalid_tool_calls": []}
        if isinstance(message.content, list):
            changes["content"] = [part for part in message.content if not _asks(part)]
        more = without_tools(message.additional_kwargs)
        more.pop("tool_calls", None)
        changes["additional_kwargs"] = more
    return message.model_copy(update=changes)


def _asks(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") in _ASKING
