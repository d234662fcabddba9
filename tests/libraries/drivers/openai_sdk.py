"""Applications that call OpenAI's SDK."""

import asyncio
import contextlib
import gc
import json
from typing import Any

import openai
from pydantic import BaseModel

from tests.libraries.drivers.scenario import (
    BROKEN,
    BUSY,
    COLD,
    CUT,
    LATE,
    LONG,
    REFUSED,
    WEATHER,
    WITH_PARTS,
    Family,
)
from tests.libraries.provider import Answer

MODEL = "gpt-4o-mini"
THINKING = "gpt-5-mini"
HELLO: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Say hi"}]}
THINK = HELLO | {"model": THINKING}
STREAM = {"stream": True, "stream_options": {"include_usage": True}}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}


class Number(BaseModel):
    """A structured answer."""

    x: int


class Clients:
    """The SDK's two clients."""

    def __init__(self, _url: str, openai_url: str) -> None:
        """Connect to the provider."""
        to: dict[str, Any] = {"api_key": "sk-fake", "base_url": openai_url, "max_retries": 2}
        self.sync = openai.OpenAI(**to)
        self.asynchronous = openai.AsyncOpenAI(**to)


FAMILY = Family(Clients, MODEL, calls_tools=False)


def one_call(clients: Clients, model: str) -> None:
    """Call a model once."""
    clients.sync.chat.completions.create(**HELLO | {"model": model})


async def one_call_async(clients: Clients, model: str) -> None:
    """Call a model once."""
    await clients.asynchronous.chat.completions.create(**HELLO | {"model": model})


FAMILY.one_call, FAMILY.one_call_async = one_call, one_call_async


@FAMILY.scenario()
def chat(clients: Clients) -> None:
    clients.sync.chat.completions.create(**HELLO)


@FAMILY.scenario()
async def chat_async(clients: Clients) -> None:
    await clients.asynchronous.chat.completions.create(**HELLO)


@FAMILY.scenario(WITH_PARTS)
def chat_with_parts(clients: Clients) -> None:
    clients.sync.chat.completions.create(**THINK)


@FAMILY.scenario(Answer(tells_usage=False))
def chat_without_a_usage_block(clients: Clients) -> None:
    clients.sync.chat.completions.create(**HELLO)


@FAMILY.scenario(WEATHER, COLD)
def chat_with_a_tool(clients: Clients) -> None:
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
    said = clients.sync.chat.completions.create(**HELLO, tools=[tool]).choices[0].message
    result = {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "3C"}
    messages = [*HELLO["messages"], said.to_dict(), result]
    clients.sync.chat.completions.create(model=MODEL, messages=messages, tools=[tool])


@FAMILY.scenario()
def chat_raw_response(clients: Clients) -> None:
    clients.sync.chat.completions.with_raw_response.create(**HELLO).parse()


@FAMILY.scenario(Answer(text=json.dumps({"x": 1})))
def chat_parse(clients: Clients) -> None:
    clients.sync.chat.completions.parse(**HELLO, response_format=Number)


@FAMILY.scenario()
def stream(clients: Clients) -> None:
    for _ in clients.sync.chat.completions.create(**HELLO, **STREAM):
        pass


@FAMILY.scenario()
async def stream_async(clients: Clients) -> None:
    async for _ in await clients.asynchronous.chat.completions.create(**HELLO, **STREAM):
        pass


@FAMILY.scenario(WITH_PARTS)
def stream_with_parts(clients: Clients) -> None:
    for _ in clients.sync.chat.completions.create(**THINK, **STREAM):
        pass


@FAMILY.scenario()
def stream_helper(clients: Clients) -> None:
    options = STREAM["stream_options"]
    with clients.sync.chat.completions.stream(**HELLO, stream_options=options) as events:
        for _ in events:
            pass


@FAMILY.scenario()
def stream_not_asked_for_usage(clients: Clients) -> None:
    for _ in clients.sync.chat.completions.create(**HELLO, stream=True):
        pass


@FAMILY.scenario(LONG)
def stream_abandoned(clients: Clients) -> None:
    chunks = clients.sync.chat.completions.create(**HELLO, **STREAM)
    for _ in zip(chunks, range(3), strict=False):
        pass
    chunks.close()


@FAMILY.scenario(LONG)
def stream_dropped(clients: Clients) -> None:
    chunks = clients.sync.chat.completions.create(**HELLO, **STREAM)
    next(iter(chunks))
    del chunks
    gc.collect()


@FAMILY.scenario(CUT, failed=1)
def stream_cut_by_the_provider(clients: Clients) -> None:
    # Older versions pass on the error of their HTTP client here.
    with contextlib.suppress(Exception):
        for _ in clients.sync.chat.completions.create(**HELLO, **STREAM):
            pass


@FAMILY.scenario(BUSY, BUSY)
def busy_twice_then_served(clients: Clients) -> None:
    clients.sync.chat.completions.create(**HELLO)


@FAMILY.scenario(BROKEN, BROKEN, BROKEN, failed=1)
def broken_until_the_sdk_gives_up(clients: Clients) -> None:
    with contextlib.suppress(openai.APIError):
        clients.sync.chat.completions.create(**HELLO)


@FAMILY.scenario(REFUSED, failed=1)
def refused(clients: Clients) -> None:
    with contextlib.suppress(openai.APIError):
        clients.sync.chat.completions.create(**HELLO)


@FAMILY.scenario(LATE, Answer())
def timed_out_then_served(clients: Clients) -> None:
    hasty = clients.sync.with_options(timeout=0.7, max_retries=1)
    hasty.chat.completions.create(**HELLO)


@FAMILY.scenario(LATE, failed=1)
async def cancelled(clients: Clients) -> None:
    call = asyncio.create_task(clients.asynchronous.chat.completions.create(**HELLO))
    await asyncio.sleep(0.5)  # the provider has the request by then
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call


@FAMILY.scenario(WITH_PARTS)
def responses(clients: Clients) -> None:
    clients.sync.responses.create(model=THINKING, input="Say hi")


@FAMILY.scenario(WITH_PARTS)
async def responses_async(clients: Clients) -> None:
    await clients.asynchronous.responses.create(model=THINKING, input="Say hi")


@FAMILY.scenario(WITH_PARTS)
def responses_stream(clients: Clients) -> None:
    for _ in clients.sync.responses.create(model=THINKING, input="Say hi", stream=True):
        pass


@FAMILY.scenario()
def responses_fetched_again(clients: Clients) -> None:
    made = clients.sync.responses.create(model=MODEL, input="Say hi")
    clients.sync.responses.retrieve(made.id)
    clients.sync.responses.retrieve(made.id)


@FAMILY.scenario(WEATHER, COLD)
def responses_with_a_tool(clients: Clients) -> None:
    tool = {"type": "function", "name": "get_weather", "parameters": PARAMETERS}
    made = clients.sync.responses.create(model=MODEL, input="weather?", tools=[tool])
    asked = next(item for item in made.output if item.type == "function_call")
    result = {"type": "function_call_output", "call_id": asked.call_id, "output": "3C"}
    clients.sync.responses.create(
        model=MODEL, input=[result], previous_response_id=made.id, tools=[tool]
    )


@FAMILY.scenario()
def embeddings(clients: Clients) -> None:
    clients.sync.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
