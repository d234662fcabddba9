"""What stands in a request to a model: the turns of the conversation, the tools, the task."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Role = Literal["told", "model", "tool"]

#: What a test asks of an agent: "do 3 steps of alpha", "delegate 2 steps of beta".
_TASK = re.compile(r"\b(do|delegate) (\d+) steps of ([a-z0-9]+)")
#: The tools that run a command, by agent.
_SHELLS = ("Bash", "exec_command", "shell_command", "shell", "run_shell_command")
#: Claude Code's tool that starts a sub-agent.
_SUBAGENTS = ("Agent", "Task")


@dataclass(frozen=True, slots=True)
class Turn:
    """One piece of a conversation."""

    role: Role
    """told: by the user, or put in by the agent or a hook; tool: what a tool gave back."""
    text: str


@dataclass(frozen=True, slots=True)
class Task:
    """What the model was last asked to do."""

    verb: str
    steps: int
    label: str
    """Names the run in the provider's log."""
    done: int
    """Tools that have given something back since."""
    refused: bool
    """The last of them was told to be the last."""


def turns(api: str, body: Mapping[str, Any]) -> list[Turn]:
    """Return the conversation of a request, oldest first."""
    if api == "messages":
        return list(_messages(body.get("messages") or ()))
    if api == "responses":
        given = body.get("input")
        return [Turn("told", given)] if isinstance(given, str) else list(_items(given or ()))
    return list(_contents(body.get("contents") or ()))


def tool_of(api: str, body: Mapping[str, Any], task: Task | None) -> str | None:
    """Return the tool that this request offers for the task; None without: a call of the side."""
    names: list[str] = []
    for tool in body.get("tools") or ():
        if api == "gemini":
            names += [each["name"] for each in tool.get("functionDeclarations") or ()]
        else:
            names.append(str(tool.get("name") or tool.get("type")))
    wanted = _SUBAGENTS if task is not None and task.verb == "delegate" else _SHELLS
    return next((name for name in (*wanted, *_SHELLS) if name in names), None)


def task_of(conversation: Iterable[Turn], last_words: str) -> Task | None:
    """Return the task that was asked last. last_words: what refuses a tool for good."""
    found: tuple[str, str, str] | None = None
    done, last = 0, ""
    for turn in conversation:
        asked = _TASK.findall(turn.text) if turn.role == "told" else ()
        if asked:
            found, done, last = asked[-1], 0, ""
        elif turn.role == "tool":
            done, last = done + 1, turn.text
    if found is None:
        return None
    verb, steps, label = found
    return Task(verb, int(steps), label, done, last_words in last.lower())


def arguments(tool: str, task: Task, number: int) -> dict[str, Any]:
    """Return what the model gives to its tool."""
    if tool in _SUBAGENTS:
        prompt = f"do {task.steps} steps of {task.label}"
        kind = {"subagent_type": "general-purpose", "description": "the steps"}
        return kind | {"prompt": prompt, "run_in_background": False}
    command = f"echo step {number} of {task.label}"
    if tool == "exec_command":
        return {"cmd": command}
    if tool == "shell":
        return {"command": ["bash", "-lc", command]}
    described = {"description": "a step"} if tool in ("Bash", "run_shell_command") else {}
    return {"command": command} | described


def _messages(messages: Iterable[Mapping[str, Any]]) -> Iterator[Turn]:
    """Anthropic's."""
    for message in messages:
        role: Role = "model" if message.get("role") == "assistant" else "told"
        content = message.get("content")
        for block in (
            [{"type": "text", "text": content}] if isinstance(content, str) else content or ()
        ):
            if block.get("type") == "tool_result":
                yield Turn("tool", _flat(block.get("content")))
            elif block.get("type") == "text":
                yield Turn(role, str(block.get("text")))


def _items(items: Iterable[Mapping[str, Any]]) -> Iterator[Turn]:
    """OpenAI's Responses."""
    for item in items:
        if item.get("type") == "function_call_output":
            yield Turn("tool", _flat(item.get("output")))
        elif item.get("type", "message") == "message":
            role: Role = "model" if item.get("role") == "assistant" else "told"
            yield Turn(role, _flat(item.get("content")))


def _contents(contents: Iterable[Mapping[str, Any]]) -> Iterator[Turn]:
    """Gemini's."""
    for content in contents:
        role: Role = "model" if content.get("role") == "model" else "told"
        for part in content.get("parts") or ():
            if "functionResponse" in part:
                yield Turn("tool", json.dumps(part["functionResponse"].get("response")))
            elif "text" in part:
                yield Turn(role, str(part["text"]))


def _flat(content: Any) -> str:
    """Return the text of a content that may be a string or a list of blocks."""
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content)
    return content if isinstance(content, str) else json.dumps(content)
