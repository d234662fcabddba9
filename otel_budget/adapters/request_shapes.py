"""Requests to models: what they may use, and how a run's last one is made. Pure.

One place for the shapes of OpenAI's two APIs and of Anthropic's: a text is put last of all, so that
a provider's cache of what comes before holds, and never between a tool's call and its result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_budget.genai.expected import Expected, text_size
from otel_budget.genai.values import as_count, field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Body = Mapping[str, Any]
    Changed = dict[str, Any]

#: Arguments that offer tools, or say how they are to be called.
_CHAT_TOOLS: Final = (
    "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call",
    "web_search_options",
)  # fmt: skip
_RESPONSES_TOOLS: Final = ("tools", "tool_choice", "parallel_tool_calls", "max_tool_calls")
_MESSAGES_TOOLS: Final = ("tools", "tool_choice", "mcp_servers")


#: What has text of a request, and what bounds its answer, in all of the APIs.
_TEXTS: Final = ("messages", "input", "prompt", "system", "instructions", "tools", "functions")
_MOST_OUTPUT: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens")


def expected_of(body: Body, *, answers: bool = True) -> Expected:
    """Return what a request is taken to use, by its text and the bound of its answer.

    Without a bound nothing is known of it: an answer may be a hundred times its question. answers:
    False of embeddings, which have no output.
    """
    most = as_count(field(body, *_MOST_OUTPUT)) if answers else 0
    if most is None:
        return Expected()
    return Expected(text_size([body[name] for name in _TEXTS if body.get(name)]), most)


class Shape(NamedTuple):
    """How the requests of one API are changed. Neither function changes what it is given."""

    said: Callable[[Body, str], Changed]
    """Returns a request that says a text last, as the user's."""
    without_tools: Callable[[Body], Changed]
    """Returns a request to which a model cannot answer with the call of a tool."""

    def last(self, body: Body, instruction: str) -> Changed:
        """Return a run's last request."""
        return self.said(self.without_tools(body), instruction)

    def briefed(self, body: Body, text: str) -> Body:
        """Return a request that says what is left; as it is where it ends in the model's words.

        Those are the beginning of an answer, which it is to go on with.
        """
        given = body.get("messages")
        last = given[-1] if isinstance(given, list) and given else None
        return body if field(last, "role") == "assistant" else self.said(body, text)


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _left_out(body: Body, names: tuple[str, ...]) -> Changed:
    return {name: value for name, value in body.items() if name not in names}


def _said_in_chat(body: Body, text: str) -> Changed:
    return {**body, "messages": [*_list(body.get("messages")), {"role": "user", "content": text}]}


def _said_in_responses(body: Body, text: str) -> Changed:
    given = body.get("input")
    before = [{"role": "user", "content": given}] if isinstance(given, str) else _list(given)
    return {**body, "input": [*before, {"role": "user", "content": text}]}


def _said_in_messages(body: Body, text: str) -> Changed:
    """Put it into the last user's turn, behind results of tools: they must come first there."""
    messages = _list(body.get("messages"))
    last = messages[-1] if messages else None
    if field(last, "role") != "user":
        return {**body, "messages": [*messages, {"role": "user", "content": text}]}
    content = field(last, "content")
    before = [_text(content)] if isinstance(content, str) else _list(content)
    turn = {"role": "user", "content": [*before, _text(text)]}
    return {**body, "messages": [*messages[:-1], turn]}


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _messages_without_tools(body: Body) -> Changed:
    """Return a request without tools; where results of tools are in it, with tools it may not call.

    Anthropic refuses a conversation with calls of tools in it that comes without tools.
    """
    if body.get("tools") and _has_tool_blocks(body):
        return {**body, "tool_choice": {"type": "none"}}
    return _left_out(body, _MESSAGES_TOOLS)


def _has_tool_blocks(body: Body) -> bool:
    contents = (_list(field(each, "content")) for each in _list(body.get("messages")))
    kinds = (field(block, "type") for content in contents for block in content)
    return any(isinstance(kind, str) and "tool_" in kind for kind in kinds)


CHAT: Final = Shape(_said_in_chat, lambda body: _left_out(body, _CHAT_TOOLS))
RESPONSES: Final = Shape(_said_in_responses, lambda body: _left_out(body, _RESPONSES_TOOLS))
MESSAGES: Final = Shape(_said_in_messages, _messages_without_tools)
