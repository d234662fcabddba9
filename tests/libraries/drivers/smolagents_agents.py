"""Applications written with smolagents."""

from typing import Any

from smolagents import OpenAIServerModel, ToolCallingAgent, tool

from tests.libraries.drivers.scenario import PARTS, WEATHER, WEATHER_WITH_PARTS, Family
from tests.libraries.provider import Answer, ToolCall

MODEL = "gpt-4o-mini"
FINAL = (ToolCall("final_answer", {"answer": "Cold."}),)
DONE = Answer(tools=FINAL)
ASKS_INNER = Answer(tools=(ToolCall("inner", {"task": "weather?"}),))


class Models:
    """Models of the provider."""

    def __init__(self, _url: str, openai_url: str) -> None:
        """Remember the provider."""
        self._to = {"api_key": "sk-fake", "api_base": openai_url}

    def __call__(self, name: str = MODEL) -> Any:
        """Return a model."""
        return OpenAIServerModel(name, **self._to)


FAMILY = Family(Models, MODEL)


def get_weather(city: str) -> str:
    """Tell the weather.

    Args:
        city: the city
    """
    return f"3C in {city}"


def weather_agent(model: Any, **options: Any) -> Any:
    """Return an agent with one tool."""
    return ToolCallingAgent([tool(get_weather)], model, verbosity_level=0, **options)


def one_call(models: Models, model: str) -> None:
    """Call a model once."""
    models(model)([{"role": "user", "content": "hi"}])


FAMILY.one_call = one_call


@FAMILY.scenario(WEATHER, DONE)
def agent_with_a_tool(models: Models) -> None:
    weather_agent(models()).run("weather?")


@FAMILY.scenario(WEATHER_WITH_PARTS, Answer(tools=FINAL, spent=PARTS))
def agent_with_parts(models: Models) -> None:
    weather_agent(models("gpt-5-mini")).run("weather?")


@FAMILY.scenario(ASKS_INNER, WEATHER, DONE, DONE)
def nested_agents(models: Models) -> None:
    inner = weather_agent(models(), name="inner", description="knows the weather")
    outer = ToolCallingAgent([], models(), managed_agents=[inner], verbosity_level=0)
    outer.run("weather?")
