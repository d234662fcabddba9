"""Endings with OpenAI's plain SDK, in a loop of the application's own."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import openai

from otel_budget import BudgetExceeded, ResourceLimits, ResourceMonitor, guard_client
from otel_budget.adapters.openai_sdk import cut_short
from tests.libraries.drivers import documented
from tests.libraries.drivers.endings import Ended
from tests.libraries.provider import Conversation
from tests.libraries.provider.conversation import FINAL

if TYPE_CHECKING:
    from tests.libraries.drivers.endings import Task
    from tests.libraries.provider import Provider

KINDS: Final = ("plain", "stream", "structured")
PACKAGES: Final = ("openai",)
ASK: Final = {"role": "user", "content": "What is known of x?"}
PARAMETERS: Final = {
    "type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"],
}  # fmt: skip
CHAT_TOOL: Final = {
    "type": "function", "function": {"name": "look_up", "parameters": PARAMETERS},
}  # fmt: skip
TOOL: Final = {"type": "function", "name": "look_up", "parameters": PARAMETERS}
REPORT: Final = {"type": "object", "properties": {"answer": {"type": "string"}}}
FORMAT: Final = {"type": "json_schema", "json_schema": {"name": "Report", "schema": REPORT}}
LOOKED_UP: Final = "Found x."


def client(provider: Provider, **how: Any) -> Any:
    """Return a guarded client of the provider."""
    made = openai.OpenAI(api_key="sk-fake", base_url=provider.openai_url, max_retries=0)
    return guard_client(made, **how)


def async_client(provider: Provider, **how: Any) -> Any:
    """Return a guarded client of the provider."""
    made = openai.AsyncOpenAI(api_key="sk-fake", base_url=provider.openai_url, max_retries=0)
    return guard_client(made, **how)


def play(task: Task) -> Ended:
    """Play a task."""
    guarded = client(task.provider, on_stop=task.on_stop)
    messages: list[Any] = [ASK]
    wanted = {"response_format": FORMAT} if task.kind == "structured" else {}
    while True:
        request = {"model": task.model, "messages": messages, "tools": [CHAT_TOOL], **wanted}
        if task.kind == "stream":
            with guarded.chat.completions.stream(
                **request, stream_options={"include_usage": True}
            ) as stream:
                for _ in stream:
                    pass
                completion = stream.get_final_completion()
        else:
            completion = guarded.chat.completions.create(**request)
        message = completion.choices[0].message
        messages.append(message.to_dict())
        for call in message.tool_calls or ():
            found = task.look_up(json.loads(call.function.arguments)["what"])
            messages.append({"role": "tool", "tool_call_id": call.id, "content": found})
        if not message.tool_calls:
            text = message.content
            answer = json.loads(text)["answer"] if wanted else text
            return Ended(answer, cut_short(completion), len(messages))


def _run(provider: Provider, name: str, at_once: int = 1) -> ResourceMonitor:
    provider.decide(Conversation(at_once))
    return ResourceMonitor(ResourceLimits.only(max_api_calls=6, wrap_up_calls=1), f"own-{name}")


def responses(provider: Provider) -> None:
    """The Responses API ends the same way, whole and streamed."""
    for streams in (False, True):
        guarded = client(provider, on_stop="wrap_up")
        items: list[Any] = [ASK]
        with _run(provider, f"responses-{streams}") as monitor:
            for _ in range(6):
                request = {"model": "gpt-4o-mini", "input": items, "tools": [TOOL]}
                if streams:
                    with guarded.responses.stream(**request) as stream:
                        response = stream.get_final_response()
                else:
                    response = guarded.responses.create(**request)
                calls = [each for each in response.output if each.type == "function_call"]
                items = [*items, *(_item(each) for each in response.output)]
                items += [
                    {"type": "function_call_output", "call_id": call.call_id, "output": LOOKED_UP}
                    for call in calls
                ]
            assert response.output_text == FINAL
            assert cut_short(response) is not None
            _is_refused(partial(guarded.responses.create, **request))
        assert monitor.get_usage_report().api_calls == 6


def _item(item: Any) -> dict[str, Any]:
    return {name: value for name, value in item.to_dict().items() if value is not None}


def _is_refused(call: Callable[[], Any]) -> None:
    try:
        call()
    except BudgetExceeded:
        return
    raise AssertionError("it was not refused")


def asynchronously(provider: Provider) -> None:
    """A coroutine's loop, streamed, with each call in a task of its own; and copies of a client."""

    async def loop() -> None:
        guarded = async_client(provider, on_stop="wrap_up", brief=True)
        messages: list[Any] = [ASK]
        async with _run(provider, "async") as monitor:
            for _ in range(6):
                asked = guarded.with_options(timeout=30).chat.completions.create(
                    model="gpt-4o-mini", messages=messages, tools=[CHAT_TOOL], stream=True,
                    stream_options={"include_usage": True},
                )  # fmt: skip
                stream = await asyncio.wait_for(asked, 30)
                text = [
                    chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices
                ]
            assert "".join(text) == FINAL
            assert cut_short(stream) is not None
        assert monitor.get_usage_report().api_calls == 6

    asyncio.run(loop())


def an_ordinary_answer_is_not_marked(provider: Provider) -> None:
    """Only the last one is; a raw one, too, once it is parsed."""
    guarded = client(provider, on_stop="wrap_up")
    with _run(provider, "marks"):
        request = {"model": "gpt-4o-mini", "messages": [ASK], "tools": [CHAT_TOOL]}
        for number in range(6):
            raw = guarded.chat.completions.with_raw_response.create(**request)
            assert (cut_short(raw.parse()) is not None) == (number == 5), number
            assert (cut_short(raw) is not None) == (number == 5), number


def as_documented(provider: Provider) -> None:
    """What the page says to write ends with the last answer, and says that it is one."""
    provider.decide(Conversation())
    os.environ |= {"OPENAI_BASE_URL": provider.openai_url, "OPENAI_API_KEY": "sk-fake"}
    said = documented.run("openai_sdk", tools=[CHAT_TOOL], look_up=lambda _: "Found x.")
    assert said.startswith(f"{FINAL} (cut short: "), said


MORE: dict[str, Callable[[Provider], None]] = {
    "as_documented": as_documented,
    "responses": responses,
    "asynchronously": asynchronously,
    "an_ordinary_answer_is_not_marked": an_ordinary_answer_is_not_marked,
}
