"""Applications written with Strands Agents."""

import contextlib
from typing import Any

from strands import Agent, tool
from strands.models.openai import OpenAIModel

from tests.libraries.drivers.scenario import (
    COLD,
    REFUSED,
    WEATHER,
    WEATHER_WITH_PARTS,
    WITH_PARTS,
    Family,
)
from tests.libraries.provider import Answer, ToolCall

MODEL = "gpt-4o-mini"
ASKS_INNER = Answer(tools=(ToolCall("ask_inner", {"q": "weather?"}),))


class Models:
    """Models of the provider; Strands always streams, and asks for the usage."""

    def __init__(self, _url: str, openai_url: str) -> None:
        """Remember the provider."""
        self._to = {"api_key": "sk-fake", "base_url": openai_url, "max_retries": 2}

    def __call__(self, name: str = MODEL) -> Any:
        """Return a model."""
        return OpenAIModel(client_args=self._to, model_id=name)


FAMILY = Family(Models, MODEL)


def get_weather(city: str) -> str:
    """Tell the weather.

    Args:
        city: the city
    """
    return f"3C in {city}"


def weather_agent(model: Any, name: str = "weather") -> Any:
    """Return an agent with one tool."""
    return Agent(name=name, model=model, tools=[tool(get_weather)], callback_handler=None)


def one_call(models: Models, model: str) -> None:
    """Run an agent of one call."""
    weather_agent(models(model))("hi")


async def one_call_async(models: Models, model: str) -> None:
    """Run an agent of one call."""
    await weather_agent(models(model)).invoke_async("hi")


FAMILY.one_call, FAMILY.one_call_async = one_call, one_call_async


@FAMILY.scenario()
def agent(models: Models) -> None:
    weather_agent(models())("hi")


@FAMILY.scenario(WEATHER, COLD)
def agent_with_a_tool(models: Models) -> None:
    weather_agent(models())("weather?")


@FAMILY.scenario(WEATHER_WITH_PARTS, WITH_PARTS)
def agent_with_parts(models: Models) -> None:
    weather_agent(models("gpt-5-mini"))("weather?")


@FAMILY.scenario()
def the_same_agent_twice(models: Models) -> None:
    both = weather_agent(models())
    both("one")
    both("two")


@FAMILY.scenario(ASKS_INNER, WEATHER, Answer(text="3C"), COLD)
def nested_agents(models: Models) -> None:
    inner = weather_agent(models(), "inner")

    def ask_inner(q: str) -> str:
        """Ask the other agent.

        Args:
            q: the question
        """
        return str(inner(q))

    outer = Agent(name="outer", model=models(), tools=[tool(ask_inner)], callback_handler=None)
    outer("weather?")


@FAMILY.scenario(WEATHER, REFUSED, failed=1)
def agent_that_fails_at_its_second_call(models: Models) -> None:
    with contextlib.suppress(Exception):  # whatever the framework makes of it
        weather_agent(models())("weather?")
