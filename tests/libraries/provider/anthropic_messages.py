"""Anthropic's Messages: its input tokens leave out what came from the cache or went into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.libraries.provider.script import Event, event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.libraries.provider.script import Call, Spent


def message(call: Call) -> dict[str, Any]:
    """Return a whole answer."""
    return {
        "id": f"msg_fake_{call.unique}", "type": "message", "role": "assistant",
        "model": call.model, "content": _blocks(call), "stop_reason": _stop(call),
        "stop_sequence": None, "usage": _usage(call.spent),
    }  # fmt: skip


def message_events(call: Call) -> Iterator[Event]:
    """Yield the events of a stream; the first has the input and one output token, as in life."""
    whole = message(call)
    first = whole["usage"] | {"output_tokens": 1}
    first.pop("output_tokens_details", None)
    begun = whole | {"content": [], "stop_reason": None, "usage": first}
    yield _event("message_start", {"message": begun})
    for at, block in enumerate(whole["content"]):
        yield from _block_events(call, at, block)
    last = {k: v for k, v in whole["usage"].items() if k not in ("cache_creation", "service_tier")}
    if not call.answer.tells_input_at_the_end:
        last = {k: v for k, v in last.items() if k.startswith("output")}
    stopped = {"stop_reason": _stop(call), "stop_sequence": None}
    yield _event("message_delta", {"delta": stopped, "usage": last}, usage=True)
    yield _event("message_stop", {})


def count(call: Call) -> dict[str, Any]:
    """Return the answer to a question for the size of a prompt, which is no model call."""
    return {"input_tokens": call.spent.input}


def _block_events(call: Call, at: int, block: dict[str, Any]) -> Iterator[Event]:
    if block["type"] == "text":
        yield _event("content_block_start", {"index": at, "content_block": block | {"text": ""}})
        yield _event("ping", {})
        for piece in call.pieces():
            delta = {"type": "text_delta", "text": piece}
            yield _event("content_block_delta", {"index": at, "delta": delta}, text=True)
    else:
        yield _event("content_block_start", {"index": at, "content_block": block | {"input": {}}})
        json = call.answer.tools[at].json()
        delta = {"type": "input_json_delta", "partial_json": json}
        yield _event("content_block_delta", {"index": at, "delta": delta})
    yield _event("content_block_stop", {"index": at})


def _event(kind: str, data: dict[str, Any], *, text: bool = False, usage: bool = False) -> Event:
    return event(kind, data | {"type": kind}, text=text, usage=usage)


def _blocks(call: Call) -> list[dict[str, Any]]:
    tools = [
        {"type": "tool_use", "id": f"toolu_{call.unique}_{at}", "name": tool.name,
         "input": dict(tool.arguments)}
        for at, tool in enumerate(call.answer.tools)
    ]  # fmt: skip
    return tools or [{"type": "text", "text": call.text}]


def _stop(call: Call) -> str:
    return "tool_use" if call.answer.tools else "end_turn"


def _usage(spent: Spent) -> dict[str, Any]:
    written = spent.cache_write
    thought = {"output_tokens_details": {"thinking_tokens": spent.reasoning}}
    return {
        "input_tokens": spent.input - spent.cached - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": spent.cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0,
        },
        "output_tokens": spent.output,
        "service_tier": "standard",
    } | (thought if spent.reasoning else {})  # fmt: skip
