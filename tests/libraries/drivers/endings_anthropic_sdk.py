"""Endings with Anthropic's plain SDK, in a loop of the application's own."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import anthropic

from otel_budget import ResourceLimits, ResourceMonitor, guard_client
from otel_budget.adapters.anthropic_sdk import cut_short
from tests.libraries.drivers import documented
from tests.libraries.drivers.endings import Ended
from tests.libraries.provider import Conversation
from tests.libraries.provider.conversation import FINAL

if TYPE_CHECKING:
    from tests.libraries.drivers.endings import Task
    from tests.libraries.provider import Provider

KINDS: Final = ("plain", "stream", "structured")
PACKAGES: Final = ("anthropic",)
ASK: Final = {"role": "user", "content": "What is known of x?"}
TOOL: Final = {
    "name": "look_up",
    "input_schema": {
        "type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"],
    },
}  # fmt: skip
REPORT: Final = {"type": "object", "properties": {"answer": {"type": "string"}},
                 "additionalProperties": False}  # fmt: skip
FORMAT: Final = {"format": {"type": "json_schema", "schema": REPORT}}
MODEL: Final = "claude-sonnet-4-5"


def client(provider: Provider, **how: Any) -> Any:
    """Return a guarded client of the provider."""
    made = anthropic.Anthropic(api_key="sk-fake", base_url=provider.url, max_retries=0)
    return guard_client(made, **how)


def play(task: Task) -> Ended:
    """Play a task."""
    guarded = client(task.provider, on_stop=task.on_stop)
    messages: list[Any] = [ASK]
    wanted = {"output_config": FORMAT} if task.kind == "structured" else {}
    while True:
        request = {
            "model": MODEL, "max_tokens": 256, "messages": messages, "tools": [TOOL], **wanted,
        }  # fmt: skip
        if task.kind == "stream":
            with guarded.messages.stream(**request) as stream:
                for _ in stream.text_stream:
                    pass
                message = stream.get_final_message()
        else:
            message = guarded.messages.create(**request)
        messages.append({"role": "assistant", "content": message.content})
        results = [_result(block, task.look_up) for block in message.content if _is_call(block)]
        if not results:
            text = message.content[0].text
            answer = json.loads(text)["answer"] if wanted else text
            return Ended(answer, cut_short(message), len(messages))
        messages.append({"role": "user", "content": results})


def _is_call(block: Any) -> bool:
    return bool(block.type == "tool_use")


def _result(block: Any, look_up: Callable[[str], str]) -> dict[str, Any]:
    found = look_up(block.input["what"])
    return {"type": "tool_result", "tool_use_id": block.id, "content": found}


def pairs_stay_valid(provider: Provider) -> None:
    """In the last request each result comes first after its call; its tool may not be called."""
    conversation = Conversation()
    provider.decide(conversation)
    limits = ResourceLimits.only(max_api_calls=4, wrap_up_calls=1)

    async def loop() -> None:
        made = anthropic.AsyncAnthropic(api_key="sk-fake", base_url=provider.url, max_retries=0)
        guarded = guard_client(made, on_stop="wrap_up", brief=True)
        messages: list[Any] = [ASK]
        async with ResourceMonitor(limits, "own-pairs"):
            while True:
                message = await guarded.beta.messages.create(
                    model=MODEL, max_tokens=99, messages=messages, tools=[TOOL]
                )
                results = [_result(b, lambda _: "Found.") for b in message.content if _is_call(b)]
                messages.append({"role": "assistant", "content": message.content})
                if not results:
                    break
                messages.append({"role": "user", "content": results})
        assert message.content[0].text == FINAL
        assert cut_short(message) is not None

    asyncio.run(loop())
    last = json.loads(conversation.asked[-1].text)
    assert [block["type"] for block in last["messages"][-1]["content"]] == ["tool_result", "text"]
    assert last["tools"]
    assert last["tool_choice"] == {"type": "none"}
    briefed = json.loads(conversation.asked[1].text)["messages"][-1]["content"]
    assert [block["type"] for block in briefed] == ["tool_result", "text"]


def as_documented(provider: Provider) -> None:
    """What the page says to write ends with the last answer, and says that it is one."""
    provider.decide(Conversation())
    os.environ |= {"ANTHROPIC_BASE_URL": provider.url, "ANTHROPIC_API_KEY": "sk-fake"}
    said = documented.run("anthropic_sdk", tools=[TOOL], look_up=lambda _: "Found x.")
    assert said.startswith(f"{FINAL} (cut short: "), said


MORE: dict[str, Callable[[Provider], None]] = {
    "as_documented": as_documented,
    "pairs_stay_valid": pairs_stay_valid,
}
