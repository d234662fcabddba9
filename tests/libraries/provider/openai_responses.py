"""OpenAI's Responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.libraries.provider.script import Event, event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.libraries.provider.script import Call, Spent


def response(call: Call) -> dict[str, Any]:
    """Return a whole response."""
    return {
        "id": f"resp_fake_{call.unique}", "object": "response", "created_at": 1_760_000_000,
        "status": "completed", "error": None, "incomplete_details": None, "instructions": None,
        "max_output_tokens": None, "model": call.model, "output": _output(call),
        "parallel_tool_calls": True, "previous_response_id": None, "store": True,
        "reasoning": {"effort": None, "summary": None}, "temperature": 1.0, "top_p": 1.0,
        "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [],
        "truncation": "disabled", "user": None, "metadata": {}, "service_tier": "default",
        "usage": _usage(call.spent) if call.answer.tells_usage else None,
    }  # fmt: skip


def response_events(call: Call) -> Iterator[Event]:
    """Yield the events of a stream, numbered."""
    for number, (data, text, usage) in enumerate(_events(call)):
        yield event(data["type"], data | {"sequence_number": number}, text=text, usage=usage)


def _events(call: Call) -> Iterator[tuple[dict[str, Any], bool, bool]]:
    """Yield each event with whether it is a piece of text, and whether it has the usage."""
    whole = response(call)
    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": begun}, False, False
    yield {"type": "response.in_progress", "response": begun}, False, False
    for at, item in enumerate(whole["output"]):
        phase = {"output_index": at, "item_id": item["id"]}
        empty = {"message": {"status": "in_progress", "content": []},
                 "function_call": {"status": "in_progress", "arguments": ""}}  # fmt: skip
        opened = item | empty.get(item["type"], {})
        yield _item("response.output_item.added", at, opened)
        if item["type"] == "message":
            for data in _message(call, item):
                yield data | phase, data["type"] == "response.output_text.delta", False
        elif item["type"] == "function_call":
            said = {"arguments": item["arguments"], "name": item["name"]}
            kind = "response.function_call_arguments"
            yield {"type": f"{kind}.delta", "delta": item["arguments"]} | phase, False, False
            yield {"type": f"{kind}.done"} | said | phase, False, False
        yield _item("response.output_item.done", at, item)
    yield {"type": "response.completed", "response": whole}, False, call.answer.tells_usage


def _item(kind: str, at: int, item: dict[str, Any]) -> tuple[dict[str, Any], bool, bool]:
    return {"type": kind, "output_index": at, "item": item}, False, False


def _message(call: Call, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    part = item["content"][0]
    yield {"type": "response.content_part.added", "content_index": 0, "part": part | {"text": ""}}
    for piece in call.pieces():
        yield {"type": "response.output_text.delta", "content_index": 0, "delta": piece,
               "logprobs": []}  # fmt: skip
    yield {"type": "response.output_text.done", "content_index": 0, "text": call.text,
           "logprobs": []}  # fmt: skip
    yield {"type": "response.content_part.done", "content_index": 0, "part": part}


def _output(call: Call) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if call.spent.reasoning:
        items.append({"type": "reasoning", "id": f"rs_{call.unique}", "summary": []})
    for at, tool in enumerate(call.answer.tools):
        items.append(
            {"type": "function_call", "id": f"fc_{call.unique}_{at}",
             "call_id": f"call_{call.unique}_{at}", "name": tool.name, "arguments": tool.json(),
             "status": "completed"}
        )  # fmt: skip
    if not call.answer.tools:
        text = {"type": "output_text", "text": call.text, "annotations": [], "logprobs": []}
        items.append(
            {"type": "message", "id": f"msg_{call.unique}", "status": "completed",
             "role": "assistant", "content": [text]}
        )  # fmt: skip
    return items


def _usage(spent: Spent) -> dict[str, Any]:
    return {
        "input_tokens": spent.input,
        "input_tokens_details": {
            "cached_tokens": spent.cached, "cache_write_tokens": spent.cache_write,
        },
        "output_tokens": spent.output,
        "output_tokens_details": {"reasoning_tokens": spent.reasoning},
        "total_tokens": spent.input + spent.output,
    }  # fmt: skip
