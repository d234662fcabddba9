"""A model that works on: it calls tools while it is offered any, and answers when it is told to.

What it costs grows with what it is sent, as in life.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.libraries.provider.script import Answer, Spent, ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: What it answers when it is told to, or has no tools; nothing else says so.
FINAL = "FINAL: two of the three were found."
#: In every instruction to answer, wherever a framework puts it.
TOLD = "this is your last answer"
#: Tools by which frameworks have a model give its structured answer.
FINISHING = frozenset({"Report", "final_result"})
#: A tool by which agents keep a list of what is to be done; it does no work.
PLANNING = "write_todos"
#: Requests after which it answers by itself, so that no run is endless.
_ENOUGH = 60


def growing(messages: int) -> Spent:
    """Return what a request of so many messages costs."""
    return Spent(100 + 60 * messages, 20)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as the model saw it."""

    tools: tuple[str, ...]
    """Those to work with; without the ones for a structured answer."""
    told: bool
    """It was told to answer."""
    tokens: int
    text: str
    """All that was sent, as JSON."""


@dataclass(slots=True)
class Conversation:
    """Decides on each request; keeps what was asked, in order."""

    at_once: int = 1
    """Tools that it calls at once, of those that hand work to another agent."""
    spent: Callable[[int], Spent] = growing
    """What a request costs, by the number of its messages."""
    asked: list[Asked] = field(default_factory=list)

    def __call__(self, body: Mapping[str, Any]) -> Answer:
        """Return the answer to a request."""
        messages = body.get("messages") or body.get("input") or []
        messages = messages if isinstance(messages, list) else [messages]
        tools = dict(map(_named, body.get("tools") or ()))
        if body.get("tool_choice") in ("none", {"type": "none"}):  # Anthropic's is the latter
            tools = {}
        work = [name for name in tools if name not in FINISHING]
        spent = self.spent(len(messages))
        told = _is_told(body, messages)
        self.asked.append(
            Asked(tuple(work), told, spent.input + spent.output, json.dumps(dict(body)))
        )
        if work and not told and len(self.asked) < _ENOUGH:
            name = next((each for each in work if each != PLANNING), PLANNING)
            times = self.at_once if name.startswith("delegate") else 1
            return Answer(tools=(ToolCall(name, tools[name]),) * times, spent=spent)
        finishing = [name for name in tools if name in FINISHING]
        if finishing:
            call = ToolCall(finishing[0], {"answer": FINAL})
            return Answer(tools=(call,), spent=spent)
        text = json.dumps({"answer": FINAL}) if _wants_json(body) else FINAL
        return Answer(text=text, spent=spent)


def _named(tool: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Return the name of an offered tool, and arguments that it takes."""
    about = tool.get("function") or tool
    schema = about.get("parameters") or about.get("input_schema") or {}
    names = schema.get("required") or list(schema.get("properties") or {})
    return str(about.get("name")), dict.fromkeys(names, "x")


def _is_told(body: Mapping[str, Any], messages: list[Any]) -> bool:
    """Tell whether the last message, or what stands above all, is an instruction to answer."""
    above = [each for each in messages[:1] if _role(each) in ("system", "developer")]
    said = [*above, *messages[-1:], body.get("system"), body.get("instructions")]
    return TOLD in json.dumps(said)


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _wants_json(body: Mapping[str, Any]) -> bool:
    """Tell whether an answer by a JSON schema is wanted, by either of OpenAI's APIs."""
    text = body.get("text") or {}
    wanted = body.get("response_format") or text.get("format") or body.get("output_format")
    wanted = wanted or (body.get("output_config") or {}).get("format") or {}
    return wanted.get("type") == "json_schema"
