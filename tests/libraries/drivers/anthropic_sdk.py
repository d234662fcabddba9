"""Applications that call Anthropic's SDK."""

import contextlib
import gc
from typing import Any

import anthropic

from tests.libraries.drivers.scenario import (
    BROKEN,
    BUSY,
    COLD,
    CUT,
    LONG,
    PARTS,
    WEATHER,
    WITH_PARTS,
    Family,
)
from tests.libraries.provider import Answer

MODEL = "claude-sonnet-4-5"
HELLO: dict[str, Any] = {
    "model": MODEL, "max_tokens": 256, "messages": [{"role": "user", "content": "Say hi"}],
}  # fmt: skip
OLDER_SHAPE = Answer(spent=PARTS, tells_input_at_the_end=False)


class Clients:
    """The SDK's two clients."""

    def __init__(self, url: str, _openai_url: str) -> None:
        """Connect to the provider."""
        to: dict[str, Any] = {"api_key": "sk-fake", "base_url": url, "max_retries": 2}
        self.sync = anthropic.Anthropic(**to)
        self.asynchronous = anthropic.AsyncAnthropic(**to)


FAMILY = Family(Clients, MODEL, calls_tools=False)


def one_call(clients: Clients, model: str) -> None:
    """Call a model once."""
    clients.sync.messages.create(**HELLO | {"model": model})


async def one_call_async(clients: Clients, model: str) -> None:
    """Call a model once."""
    await clients.asynchronous.messages.create(**HELLO | {"model": model})


FAMILY.one_call, FAMILY.one_call_async = one_call, one_call_async


@FAMILY.scenario()
def messages(clients: Clients) -> None:
    clients.sync.messages.create(**HELLO)


@FAMILY.scenario()
async def messages_async(clients: Clients) -> None:
    await clients.asynchronous.messages.create(**HELLO)


@FAMILY.scenario(WITH_PARTS)
def messages_with_parts(clients: Clients) -> None:
    clients.sync.messages.create(**HELLO)


@FAMILY.scenario(WEATHER, COLD)
def messages_with_a_tool(clients: Clients) -> None:
    tool = {"name": "get_weather", "input_schema": {"type": "object", "properties": {}}}
    said = clients.sync.messages.create(**HELLO, tools=[tool]).content
    result = {"type": "tool_result", "tool_use_id": said[0].id, "content": "3C"}
    conversation = [
        *HELLO["messages"],
        {"role": "assistant", "content": said},
        {"role": "user", "content": [result]},
    ]
    clients.sync.messages.create(**HELLO | {"messages": conversation}, tools=[tool])


@FAMILY.scenario()
def messages_raw_response(clients: Clients) -> None:
    clients.sync.messages.with_raw_response.create(**HELLO).parse()


@FAMILY.scenario(WITH_PARTS)
def beta_messages(clients: Clients) -> None:
    clients.sync.beta.messages.create(**HELLO)


@FAMILY.scenario(WITH_PARTS)
def stream(clients: Clients) -> None:
    for _ in clients.sync.messages.create(**HELLO, stream=True):
        pass


@FAMILY.scenario(WITH_PARTS)
async def stream_async(clients: Clients) -> None:
    async for _ in await clients.asynchronous.messages.create(**HELLO, stream=True):
        pass


@FAMILY.scenario(WITH_PARTS)
def stream_helper(clients: Clients) -> None:
    with clients.sync.messages.stream(**HELLO) as events:
        for _ in events.text_stream:
            pass


@FAMILY.scenario(WITH_PARTS)
async def stream_helper_async(clients: Clients) -> None:
    async with clients.asynchronous.messages.stream(**HELLO) as events:
        async for _ in events.text_stream:
            pass


@FAMILY.scenario(OLDER_SHAPE)
def stream_of_the_older_shape(clients: Clients) -> None:
    for _ in clients.sync.messages.create(**HELLO, stream=True):
        pass


@FAMILY.scenario(WITH_PARTS)
def beta_stream_helper(clients: Clients) -> None:
    with clients.sync.beta.messages.stream(**HELLO) as events:
        for _ in events:
            pass


@FAMILY.scenario(LONG)
def stream_abandoned(clients: Clients) -> None:
    events = clients.sync.messages.create(**HELLO, stream=True)
    for _ in zip(events, range(4), strict=False):
        pass
    events.close()


@FAMILY.scenario(LONG)
def stream_dropped(clients: Clients) -> None:
    events = clients.sync.messages.create(**HELLO, stream=True)
    next(iter(events))
    del events
    gc.collect()


@FAMILY.scenario(CUT, failed=1)
def stream_cut_by_the_provider(clients: Clients) -> None:
    # The SDK passes on the error of its HTTP client here, whichever it has.
    with contextlib.suppress(Exception):
        for _ in clients.sync.messages.create(**HELLO, stream=True):
            pass


@FAMILY.scenario(Answer(status=529), BUSY)
def busy_twice_then_served(clients: Clients) -> None:
    clients.sync.messages.create(**HELLO)


@FAMILY.scenario(BROKEN, BROKEN, BROKEN, failed=1)
def broken_until_the_sdk_gives_up(clients: Clients) -> None:
    with contextlib.suppress(anthropic.APIError):
        clients.sync.messages.create(**HELLO)


@FAMILY.scenario()
def tokens_counted_beforehand(clients: Clients) -> None:
    clients.sync.messages.count_tokens(model=MODEL, messages=HELLO["messages"])
