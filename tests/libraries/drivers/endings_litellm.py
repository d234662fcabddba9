"""Endings with LiteLLM's functions, in a loop of the application's own."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import litellm

from otel_budget import ResourceLimits, ResourceMonitor
from otel_budget.adapters import litellm as adapter
from tests.libraries.drivers import documented
from tests.libraries.drivers.endings import Ended
from tests.libraries.provider import Conversation
from tests.libraries.provider.conversation import FINAL

if TYPE_CHECKING:
    from tests.libraries.drivers.endings import Task
    from tests.libraries.provider import Provider

KINDS: Final = ("plain", "stream", "structured")
PACKAGES: Final = ("litellm", "openai")
ASK: Final = {"role": "user", "content": "What is known of x?"}
TOOL: Final = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {
            "type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"],
        },
    },
}  # fmt: skip
REPORT: Final = {"type": "object", "properties": {"answer": {"type": "string"}}}
FORMAT: Final = {"type": "json_schema", "json_schema": {"name": "Report", "schema": REPORT}}

litellm.suppress_debug_info = True


def play(task: Task) -> Ended:
    """Play a task."""
    adapter.install(on_stop=task.on_stop)
    messages: list[Any] = [ASK]
    more: dict[str, Any] = {"response_format": FORMAT} if task.kind == "structured" else {}
    while True:
        answer = litellm.completion(
            f"openai/{task.model}", messages, tools=[TOOL], stream=task.kind == "stream",
            stream_options={"include_usage": True} if task.kind == "stream" else None,
            **_to(task.provider), **more,
        )  # fmt: skip
        found = adapter.cut_short(answer)
        if task.kind == "stream":
            chunks = list(answer)
            found = adapter.cut_short(chunks[-1])
            answer = litellm.stream_chunk_builder(chunks, messages=messages)
        message = answer.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls or ():
            said = task.look_up(json.loads(call.function.arguments)["what"])
            messages.append({"role": "tool", "tool_call_id": call.id, "content": said})
        if not message.tool_calls:
            text = message.content
            return Ended(json.loads(text)["answer"] if more else text, found, len(messages))


def _to(provider: Provider) -> dict[str, Any]:
    return {"api_key": "sk-fake", "api_base": provider.openai_url, "max_retries": 0}


def _run(provider: Provider, name: str) -> ResourceMonitor:
    provider.decide(Conversation())
    return ResourceMonitor(ResourceLimits.only(max_api_calls=4, wrap_up_calls=1), f"own-{name}")


def a_router_in_a_coroutine(provider: Provider) -> None:
    """Its last answer is marked; and what comes after it is final for the router."""
    adapter.install(on_stop="wrap_up", brief=True)
    given = {"model": "openai/gpt-4o-mini", **_to(provider)}
    router = litellm.Router(
        model_list=[{"model_name": name, "litellm_params": given} for name in ("m", "n")],
        num_retries=3, fallbacks=[{"m": ["n"]}],
    )  # fmt: skip

    async def loop() -> None:
        async with _run(provider, "router"):
            for number in range(4):
                answer = await router.acompletion(model="m", messages=[ASK], tools=[TOOL])
                assert (adapter.cut_short(answer) is not None) == (number == 3), number
            assert answer.choices[0].message.content == FINAL
            finished = None
            try:
                await router.acompletion(model="m", messages=[ASK], tools=[TOOL])
            except adapter.StoppedByBudget as stop:
                finished = stop.finished
            assert finished == [ASK]

    asyncio.run(loop())


def responses(provider: Provider) -> None:
    """The Responses API ends the same way."""
    adapter.install(on_stop="wrap_up")
    tool = {"type": "function", **TOOL["function"]}  # type: ignore[dict-item] # of one shape
    with _run(provider, "responses"):
        for _ in range(4):
            answer = litellm.responses(
                "hi", "openai/gpt-4o-mini", tools=[tool], **_to(provider)
            )  # fmt: skip
        assert answer.output[0].content[0].text == FINAL
        assert adapter.cut_short(answer) is not None


def as_documented(provider: Provider) -> None:
    """What the page says to write ends with the last answer, and says that it is one."""
    provider.decide(Conversation())
    os.environ |= {"OPENAI_BASE_URL": provider.openai_url, "OPENAI_API_KEY": "sk-fake"}
    said = documented.run("litellm", tools=[TOOL], look_up=lambda _: "Found x.")
    assert said.startswith(f"{FINAL} (cut short: "), said


MORE: dict[str, Callable[[Provider], None]] = {
    "as_documented": as_documented,
    "a_router_in_a_coroutine": a_router_in_a_coroutine,
    "responses": responses,
}
