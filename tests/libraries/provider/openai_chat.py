"""OpenAI's Chat Completions and Embeddings."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Any

from tests.libraries.provider.script import Event, event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.libraries.provider.script import Call, Spent

_VECTOR = (0.25, -0.5, 0.125, 0.75)


def tells_usage(call: Call) -> bool:
    """Tell whether the answer has a usage block: a stream only if it was asked for."""
    options = call.body.get("stream_options") or {}
    asked = not call.body.get("stream") or bool(options.get("include_usage"))
    return asked and call.answer.tells_usage


def chat(call: Call) -> dict[str, Any]:
    """Return a whole answer."""
    tools = _tool_calls(call)
    message: dict[str, Any] = {
        "role": "assistant", "content": None if tools else call.text,
        "refusal": None, "annotations": [],
    }  # fmt: skip
    if tools:
        message["tool_calls"] = tools
    choices = [
        {"index": at, "message": message, "logprobs": None, "finish_reason": _finish(call)}
        for at in range(call.body.get("n") or 1)
    ]
    usage = {"usage": _usage(call.spent)} if tells_usage(call) else {}
    return _head(call, "chat.completion") | {"choices": choices} | usage


def chat_events(call: Call) -> Iterator[Event]:
    """Yield the events of a stream."""
    tools = _tool_calls(call)
    yield _chunk(call, {"role": "assistant", "content": None if tools else ""})
    for at, tool in enumerate(tools):
        begun = {"name": tool["function"]["name"], "arguments": ""}
        yield _chunk(call, {"tool_calls": [tool | {"index": at, "function": begun}]})
        arguments = {"arguments": tool["function"]["arguments"]}
        yield _chunk(call, {"tool_calls": [{"index": at, "function": arguments}]})
    if not tools:
        for piece in call.pieces():
            yield _chunk(call, {"content": piece}, text=True)
    yield _chunk(call, {}, finish=_finish(call))
    if tells_usage(call):
        last = _head(call, "chat.completion.chunk") | {"choices": [], "usage": _usage(call.spent)}
        yield event(None, last, usage=True)
    yield Event("[DONE]")


def embeddings(call: Call) -> dict[str, Any]:
    """Return one vector for each input."""
    given = call.body.get("input")
    is_list = isinstance(given, list) and bool(given) and not isinstance(given[0], int)
    packed = base64.b64encode(struct.pack("<4f", *_VECTOR)).decode()
    vector = packed if call.body.get("encoding_format") == "base64" else list(_VECTOR)
    data = [
        {"object": "embedding", "index": at, "embedding": vector}
        for at in range(len(given) if is_list and given else 1)
    ]
    tokens = call.spent.input
    usage = {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    return {"object": "list", "model": call.model, "data": data} | (
        usage if call.answer.tells_usage else {}
    )


def _chunk(
    call: Call, delta: dict[str, Any], *, finish: str | None = None, text: bool = False
) -> Event:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    usage = {"usage": None} if tells_usage(call) else {}
    whole = _head(call, "chat.completion.chunk") | {"choices": [choice]} | usage
    return event(None, whole, text=text)


def _head(call: Call, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-fake-{call.unique}", "object": kind, "created": 1_760_000_000,
        "model": call.model, "service_tier": "default", "system_fingerprint": "fp_fake",
    }  # fmt: skip


def _finish(call: Call) -> str:
    return "tool_calls" if call.answer.tools else "stop"


def _tool_calls(call: Call) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{call.unique}_{at}",
            "type": "function",
            "function": {"name": tool.name, "arguments": tool.json()},
        }
        for at, tool in enumerate(call.answer.tools)
    ]


def _usage(spent: Spent) -> dict[str, Any]:
    written = {"cache_write_tokens": spent.cache_write} if spent.cache_write else {}
    return {
        "prompt_tokens": spent.input,
        "completion_tokens": spent.output,
        "total_tokens": spent.input + spent.output,
        "prompt_tokens_details": {"cached_tokens": spent.cached, "audio_tokens": 0} | written,
        "completion_tokens_details": {
            "reasoning_tokens": spent.reasoning, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    }  # fmt: skip
