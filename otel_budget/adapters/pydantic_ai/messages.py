"""What requests say to the model beside what the agent has, and what is read from messages.

An agent's history is never changed: a request gets a list of its own.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final

from pydantic_ai.messages import ModelRequest, ToolReturnPart, UserPromptPart

from otel_budget.adapters.asked import Arguments
from otel_budget.adapters.ending import MARK, CutShort

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: What a request's parameters have of tools, in either version; those of the output stay.
_WITHHELD: Final[Mapping[str, Any]] = {
    "function_tools": [], "native_tools": [], "tool_visibility": None,
    "revealed_tool_names": set(), "introduced_tool_names": set(),
}  # fmt: skip
_NOT_FINISHED: Final = "Not finished: the run was stopped, because its budget is used up."
#: Of what a sub-agent had found when it was stopped its caller is told so many characters, the
#: last ones: what the last call may use was worked out without them.
_MOST_TOLD: Final = 2000


class Asked(Arguments):
    """The arguments of a request."""

    NAMES = ("messages", "model_settings", "model_request_parameters")

    @property
    def messages(self) -> list[Any]:
        """The messages, in a list of its own."""
        return list(self["messages"] or ())

    def says_last(self, text: str) -> Asked:
        """Return the request with a text from the user at its end; empty: as it is."""
        if not text:
            return self
        asked, messages = Asked(self.args, self.about), self.messages
        said = UserPromptPart(text)
        if messages and isinstance(messages[-1], ModelRequest):
            messages[-1] = replace(messages[-1], parts=[*messages[-1].parts, said])
        else:
            messages.append(ModelRequest(parts=[said]))
        asked["messages"] = messages
        return asked

    def without_tools(self, instruction: str) -> Asked:
        """Return it as the last request: told to answer, and with tools for nothing else."""
        parameters, settings = self["model_request_parameters"], self["model_settings"]
        output = [each.name for each in getattr(parameters, "output_tools", ())]
        if output:
            instruction += f" (To answer, call {' or '.join(output)}: that is none.)"
        asked = self.says_last(instruction)
        if parameters is not None:
            known = {each.name for each in fields(parameters)}
            withheld = {name: value for name, value in _WITHHELD.items() if name in known}
            asked["model_request_parameters"] = replace(parameters, **withheld)
        if settings and "tool_choice" in settings:  # it may ask for one that is withheld
            asked["model_settings"] = {k: v for k, v in settings.items() if k != "tool_choice"}
        return asked


def mark(response: Any, cut: CutShort | None) -> Any:
    """Return a response, marked as cut short in its metadata; None: it is not."""
    if cut is not None and response is not None:
        response.metadata = {**(response.metadata or {}), MARK: cut.to_dict()}
    return response


def cut_short(result: Any) -> CutShort | None:
    """Tell whether a result's answer is not a finished one, and why; None: it is finished.

    result: of an agent's run, of a stream of one, a list of messages, or one response.
    """
    if hasattr(result, "all_messages"):
        result = result.all_messages()
    messages = result if isinstance(result, list) else [result]
    answers = (each for each in reversed(messages) if getattr(each, "kind", None) == "response")
    return CutShort.in_metadata(getattr(next(answers, None), "metadata", None))


def settled(messages: Sequence[Any]) -> list[Any]:
    """Return messages with every call of a tool answered, as a further run of the agent needs it.

    Those that were not finished say so.
    """
    last = messages[-1] if messages else None
    if getattr(last, "kind", None) != "response":
        return list(messages)
    calls = [each for each in getattr(last, "parts", ()) if each.part_kind == "tool-call"]
    answers = [
        ToolReturnPart(
            tool_name=each.tool_name, content=_NOT_FINISHED, tool_call_id=each.tool_call_id
        )
        for each in calls
    ]
    return [*messages, ModelRequest(parts=answers)] if answers else list(messages)


def unfinished(message: str, messages: object) -> str:
    """Return what a tool says whose agent was stopped. messages: what that agent had by then."""
    found = "\n".join(_found_in(messages if isinstance(messages, list) else []))[-_MOST_TOLD:]
    return f"Not finished: {message}" + (f" What there was by then:\n{found}" if found else "")


def _found_in(messages: Sequence[Any]) -> Iterator[str]:
    parts = (part for each in messages for part in getattr(each, "parts", ()))
    for part in parts:
        if part.part_kind in ("text", "tool-return") and part.content:
            yield str(part.content)
