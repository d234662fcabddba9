"""Gemini's generateContent: candidates leave out the thoughts, the prompt has its cached part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.libraries.provider.script import Event, event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.libraries.provider.script import Call, Spent


def content(call: Call) -> dict[str, Any]:
    """Return a whole answer."""
    tools = [
        {"functionCall": {"name": tool.name, "args": dict(tool.arguments)}}
        for tool in call.answer.tools
    ]
    last = {"finishReason": "STOP", "index": 0}
    return {
        "candidates": [_candidate(tools or [{"text": call.text}]) | last],
        "usageMetadata": _usage(call.spent),
        **_names(call),
    }


def content_events(call: Call) -> Iterator[Event]:
    """Yield the events of a stream: pieces of the text, the last with the usage."""
    pieces = [] if call.answer.tools else call.pieces()
    for piece in pieces[:-1]:
        part = {"candidates": [_candidate([{"text": piece}])], **_names(call)}
        yield event(None, part, text=True)
    whole = content(call)
    if pieces:
        whole["candidates"][0]["content"]["parts"] = [{"text": pieces[-1]}]
    yield event(None, whole, text=bool(pieces), usage=True)


def _candidate(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {"content": {"role": "model", "parts": parts}, "index": 0}


def _names(call: Call) -> dict[str, Any]:
    return {"modelVersion": call.model, "responseId": f"gem_fake_{call.unique}"}


def _usage(spent: Spent) -> dict[str, Any]:
    cached = {"cachedContentTokenCount": spent.cached} if spent.cached else {}
    thoughts = {"thoughtsTokenCount": spent.reasoning} if spent.reasoning else {}
    return {
        "promptTokenCount": spent.input,
        "candidatesTokenCount": spent.output - spent.reasoning,
        "totalTokenCount": spent.input + spent.output,
        **cached,
        **thoughts,
    }
