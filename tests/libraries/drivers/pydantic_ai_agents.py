"""Applications written with Pydantic AI."""

import contextlib
from typing import Any

import anthropic
import openai
from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from tests.libraries.drivers.scenario import (
    BROKEN,
    BUSY,
    COLD,
    LONG,
    WEATHER,
    WEATHER_WITH_PARTS,
    WITH_PARTS,
    Family,
    wrapped,
)
from tests.libraries.provider import Answer, ToolCall

MODEL = "gpt-4o-mini"
ASKS_INNER = Answer(tools=(ToolCall("ask_inner", {"q": "weather?"}),))


class Models:
    """Models of the provider; each has a client of its own, for the loop it is used in."""

    def __init__(self, url: str, openai_url: str) -> None:
        """Remember the provider."""
        self._url, self._openai_url = url, openai_url

    def openai(self, name: str = MODEL, kind: Any = OpenAIChatModel) -> Any:
        """Return a model behind OpenAI's API."""
        client = openai.AsyncOpenAI(api_key="sk-fake", base_url=self._openai_url, max_retries=2)
        return wrapped(kind(name, provider=OpenAIProvider(openai_client=client)))

    def anthropic(self) -> Any:
        """Return a model behind Anthropic's API."""
        client = anthropic.AsyncAnthropic(api_key="sk-fake", base_url=self._url)
        provider = AnthropicProvider(anthropic_client=client)
        return wrapped(AnthropicModel("claude-sonnet-4-5", provider=provider))


FAMILY = Family(Models, MODEL)


def weather_agent(model: Any, name: str = "weather") -> Any:
    """Return an agent with one tool."""

    def get_weather(city: str) -> str:
        return f"3C in {city}"

    return Agent(model, name=name, tools=[get_weather])


async def one_call_async(models: Models, model: str) -> None:
    """Run an agent of one call."""
    await Agent(models.openai(model), name="simple").run("hi")


FAMILY.one_call_async = one_call_async


@FAMILY.scenario()
async def agent(models: Models) -> None:
    await Agent(models.openai(), name="simple").run("hi")


@FAMILY.scenario()
def agent_run_sync(models: Models) -> None:
    Agent(models.openai(), name="simple").run_sync("hi")


@FAMILY.scenario(WEATHER, COLD)
async def agent_with_a_tool(models: Models) -> None:
    await weather_agent(models.openai()).run("weather?")


@FAMILY.scenario(WEATHER_WITH_PARTS, WITH_PARTS)
async def agent_with_parts(models: Models) -> None:
    await weather_agent(models.openai("gpt-5-mini")).run("weather?")


@FAMILY.scenario(WEATHER_WITH_PARTS, WITH_PARTS)
async def agent_on_responses(models: Models) -> None:
    await weather_agent(models.openai("gpt-5-mini", OpenAIResponsesModel)).run("weather?")


@FAMILY.scenario(WEATHER_WITH_PARTS, WITH_PARTS)
async def agent_on_anthropic(models: Models) -> None:
    await weather_agent(models.anthropic()).run("weather?")


@FAMILY.scenario()
async def stream(models: Models) -> None:
    async with Agent(models.openai(), name="streamer").run_stream("hi") as result:
        async for _ in result.stream_text():
            pass


@FAMILY.scenario(LONG)
async def stream_abandoned(models: Models) -> None:
    async with Agent(models.openai(), name="streamer").run_stream("hi") as result:
        async for _ in result.stream_text(debounce_by=None):
            break


@FAMILY.scenario(ASKS_INNER, WEATHER, Answer(text="3C"), COLD)
async def nested_agents(models: Models) -> None:
    inner = weather_agent(models.openai(), "inner")

    async def ask_inner(q: str) -> str:
        return str((await inner.run(q)).output)

    await Agent(models.openai(), name="outer", tools=[ask_inner]).run("weather?")


@FAMILY.scenario(ASKS_INNER, WEATHER, Answer(text="3C"), COLD)
async def nested_agents_that_share_their_usage(models: Models) -> None:
    inner = weather_agent(models.openai(), "inner")

    async def ask_inner(context: RunContext[None], q: str) -> str:
        return str((await inner.run(q, usage=context.usage)).output)

    await Agent(models.openai(), name="outer", tools=[ask_inner]).run("weather?")


@FAMILY.scenario(WEATHER, WEATHER, COLD)
async def tool_asks_for_another_try(models: Models) -> None:
    tries: list[str] = []

    def get_weather(city: str) -> str:
        tries.append(city)
        if len(tries) == 1:
            raise ModelRetry("try again")
        return "3C"

    await Agent(models.openai(), name="retrier", tools=[get_weather]).run("weather?")


@FAMILY.scenario(BUSY, Answer())
async def busy_then_served(models: Models) -> None:
    await Agent(models.openai(), name="simple").run("hi")


@FAMILY.scenario(WEATHER, BROKEN, BROKEN, BROKEN, failed=1)
async def agent_that_fails_at_its_second_call(models: Models) -> None:
    with contextlib.suppress(Exception):  # whatever the framework makes of it
        await weather_agent(models.openai()).run("weather?")
