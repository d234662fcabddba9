"""Applications written with OpenAI's Agents SDK."""

import contextlib
from typing import Any

import openai
from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunHooks,
    Runner,
    UserError,
    function_tool,
)

from otel_budget import BudgetExceeded
from tests.libraries.drivers.scenario import (
    BROKEN,
    BUSY,
    COLD,
    WEATHER,
    WEATHER_WITH_PARTS,
    WITH_PARTS,
    Family,
    wrapped,
)
from tests.libraries.provider import Answer, ToolCall

MODEL = "gpt-4o-mini"
ASKS_INNER = Answer(tools=(ToolCall("ask_inner", {"input": "weather?"}),))
HANDS_OVER = Answer(tools=(ToolCall("transfer_to_inner", {}),))


class Models:
    """Models of the provider; each has a client of its own, for the loop it is used in."""

    def __init__(self, _url: str, openai_url: str) -> None:
        """Remember the provider."""
        self._openai_url = openai_url

    def __call__(self, name: str = MODEL, kind: Any = OpenAIResponsesModel) -> Any:
        """Return a model."""
        client = openai.AsyncOpenAI(api_key="sk-fake", base_url=self._openai_url, max_retries=2)
        return wrapped(kind(model=name, openai_client=client))


FAMILY = Family(Models, MODEL)


class Hooks(RunHooks):  # type: ignore[misc] # the SDK is not installed here
    """Hooks of an application, which are called as ever."""

    def __init__(self) -> None:
        """Begin with nothing told."""
        self.told: list[str] = []

    async def on_tool_start(self, *_: Any) -> None:
        """Take note of it."""
        self.told.append("start")

    async def on_tool_end(self, *_: Any) -> None:
        """Take note of it."""
        self.told.append("end")


def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"3C in {city}"


def weather_agent(model: Any, name: str = "weather") -> Any:
    """Return an agent with one tool."""
    return Agent(name=name, model=model, tools=[function_tool(get_weather)])


async def one_call_async(models: Models, model: str) -> None:
    """Run an agent of one call."""
    await Runner.run(Agent(name="simple", model=models(model)), "hi")


FAMILY.one_call_async = one_call_async


@FAMILY.scenario(WEATHER, COLD)
async def agent_with_a_tool(models: Models) -> None:
    await Runner.run(weather_agent(models()), "weather?")


@FAMILY.scenario(WEATHER, COLD)
async def agent_with_hooks_of_the_application(models: Models) -> None:
    hooks = Hooks()
    await Runner.run(weather_agent(models()), "weather?", hooks=hooks)
    assert hooks.told == ["start", "end"]


@FAMILY.scenario(WEATHER, COLD)
async def agent_whose_tool_fails(models: Models) -> None:
    def get_weather(city: str) -> str:
        raise LookupError(city)

    tool = function_tool(get_weather)
    await Runner.run(Agent(name="weather", model=models(), tools=[tool]), "weather?")


@FAMILY.scenario(WEATHER)
async def agent_that_fails_with_its_tool_while_it_streams(models: Models) -> None:
    def get_weather(city: str) -> str:
        raise LookupError(city)

    tool = function_tool(get_weather, failure_error_function=None)
    agent = Agent(name="weather", model=models(), tools=[tool])
    with contextlib.suppress(UserError):
        async for _ in Runner.run_streamed(agent, "weather?").stream_events():
            pass


@FAMILY.scenario(WEATHER_WITH_PARTS, WITH_PARTS)
async def agent_with_parts(models: Models) -> None:
    await Runner.run(weather_agent(models("gpt-5-mini")), "weather?")


@FAMILY.scenario(WEATHER, COLD)
async def agent_on_chat_completions(models: Models) -> None:
    await Runner.run(weather_agent(models(kind=OpenAIChatCompletionsModel)), "weather?")


@FAMILY.scenario(WEATHER, COLD)
async def agent_that_streams(models: Models) -> None:
    async for _ in Runner.run_streamed(weather_agent(models()), "weather?").stream_events():
        pass


@FAMILY.scenario(WEATHER, COLD)
async def agent_that_streams_chat_completions(models: Models) -> None:
    agent = weather_agent(models(kind=OpenAIChatCompletionsModel))
    async for _ in Runner.run_streamed(agent, "weather?").stream_events():
        pass


@FAMILY.scenario(HANDS_OVER, WEATHER, COLD)
async def handoff(models: Models) -> None:
    inner = weather_agent(models(), "inner")
    await Runner.run(Agent(name="outer", model=models(), handoffs=[inner]), "weather?")


@FAMILY.scenario(ASKS_INNER, WEATHER, Answer(text="3C"), COLD)
async def nested_agents(models: Models) -> None:
    inner = weather_agent(models(), "inner").as_tool("ask_inner", "asks")
    await Runner.run(Agent(name="outer", model=models(), tools=[inner]), "weather?")


@FAMILY.scenario(BUSY, Answer())
async def busy_then_served(models: Models) -> None:
    await Runner.run(weather_agent(models()), "weather?")


@FAMILY.scenario(WEATHER, BROKEN, BROKEN, BROKEN, failed=1)
async def agent_that_fails_at_its_second_call(models: Models) -> None:
    with contextlib.suppress(openai.APIError):
        await Runner.run(weather_agent(models()), "weather?")


@FAMILY.stops
async def agent_that_is_stopped(models: Models) -> None:
    try:
        await Runner.run(weather_agent(models()), "weather?")
    except BudgetExceeded as stopped:
        has_what_it_had(stopped)
    else:
        raise AssertionError("no call was refused")


@FAMILY.stops
async def agent_that_is_stopped_while_it_streams(models: Models) -> None:
    try:
        async for _ in Runner.run_streamed(weather_agent(models()), "weather?").stream_events():
            pass
    except BudgetExceeded as stopped:
        has_what_it_had(stopped)
    else:
        raise AssertionError("no call was refused")


def has_what_it_had(stopped: Any) -> None:
    """Check that an agent was stopped after its third tool call."""
    assert len(stopped.run_data.raw_responses) == 3
    assert len(stopped.run_data.new_items) == 6
