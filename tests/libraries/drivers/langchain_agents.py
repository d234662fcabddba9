"""Applications written with LangChain and LangGraph."""

import contextlib
from typing import Any, TypedDict

from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langgraph.graph import END, START, StateGraph

from otel_budget import BudgetExceeded
from tests.libraries.drivers.scenario import (
    BROKEN,
    BUSY,
    COLD,
    LONG,
    PARTS,
    WEATHER,
    WITH_PARTS,
    Family,
)
from tests.libraries.provider import Answer

MODEL = "gpt-4o-mini"
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "weather?"}]}


class Models:
    """Models of the provider."""

    def __init__(self, url: str, openai_url: str) -> None:
        """Remember the provider."""
        self._url, self._openai_url = url, openai_url

    def openai(self, model: str = MODEL, **options: Any) -> Any:
        """Return a model behind OpenAI's API."""
        given = {"api_key": "sk-fake", "base_url": self._openai_url, "max_retries": 2} | options
        return ChatOpenAI(model=model, **given)

    def anthropic(self) -> Any:
        """Return a model behind Anthropic's API."""
        to: dict[str, Any] = {"api_key": "sk-fake", "base_url": self._url}
        return ChatAnthropic(model="claude-sonnet-4-5", max_tokens=128, **to)

    def embeddings(self) -> Any:
        """Return a model for embeddings."""
        to = {"api_key": "sk-fake", "base_url": self._openai_url}
        model = "text-embedding-3-small"
        return OpenAIEmbeddings(model=model, check_embedding_ctx_length=False, **to)


FAMILY = Family(Models, MODEL)


def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"3C in {city}"


def one_call(models: Models, model: str) -> None:
    """Call a model once."""
    models.openai(model).invoke("hi")


async def one_call_async(models: Models, model: str) -> None:
    """Call a model once."""
    await models.openai(model).ainvoke("hi")


FAMILY.one_call, FAMILY.one_call_async = one_call, one_call_async


@FAMILY.scenario()
def invoke(models: Models) -> None:
    models.openai().invoke("hi")


@FAMILY.scenario()
async def invoke_async(models: Models) -> None:
    await models.openai().ainvoke("hi")


@FAMILY.scenario(WITH_PARTS)
def invoke_with_parts(models: Models) -> None:
    models.openai("gpt-5-mini").invoke("hi")


@FAMILY.scenario(WITH_PARTS)
def invoke_on_responses(models: Models) -> None:
    models.openai("gpt-5-mini", use_responses_api=True).invoke("hi")


@FAMILY.scenario(WITH_PARTS)
def invoke_on_anthropic(models: Models) -> None:
    models.anthropic().invoke("hi")


@FAMILY.scenario()
def batch_of_three(models: Models) -> None:
    models.openai().batch(["a", "b", "c"])


@FAMILY.scenario()
def chain(models: Models) -> None:
    prompt = ChatPromptTemplate.from_template("{x}")
    (prompt | models.openai() | StrOutputParser()).invoke({"x": "hi"})


@FAMILY.scenario()
def stream(models: Models) -> None:
    for _ in models.openai(stream_usage=True).stream("hi"):
        pass


@FAMILY.scenario()
async def stream_async(models: Models) -> None:
    async for _ in models.openai(stream_usage=True).astream("hi"):
        pass


@FAMILY.scenario()
def stream_not_asked_for_usage(models: Models) -> None:
    for _ in models.openai().stream("hi"):
        pass


@FAMILY.scenario(WITH_PARTS)
def stream_on_anthropic(models: Models) -> None:
    for _ in models.anthropic().stream("hi"):
        pass


@FAMILY.scenario(Answer(spent=PARTS, tells_input_at_the_end=False))
def stream_of_the_older_shape(models: Models) -> None:
    for _ in models.anthropic().stream("hi"):
        pass


@FAMILY.scenario(LONG)
def stream_abandoned(models: Models) -> None:
    chunks = models.openai(stream_usage=True).stream("hi")
    for _ in zip(chunks, range(3), strict=False):
        pass
    chunks.close()


@FAMILY.scenario(BUSY, Answer())
def busy_then_served(models: Models) -> None:
    models.openai().invoke("hi")


@FAMILY.scenario(BROKEN, BROKEN, BROKEN, failed=1)
def broken_until_the_sdk_gives_up(models: Models) -> None:
    with contextlib.suppress(Exception):  # whatever the framework makes of it
        models.openai().invoke("hi")


@FAMILY.scenario(BROKEN, Answer(), failed=1)
def another_model_after_a_failure(models: Models) -> None:
    second = models.openai("gpt-4o")
    models.openai(max_retries=0).with_fallbacks([second]).invoke("hi")


@FAMILY.scenario(WEATHER, COLD)
def agent_with_a_tool(models: Models) -> None:
    create_agent(models.openai(), [get_weather], name="weather").invoke(ASK)


@FAMILY.scenario(WEATHER, COLD)
async def agent_with_a_tool_async(models: Models) -> None:
    await create_agent(models.openai(), [get_weather], name="weather").ainvoke(ASK)


@FAMILY.scenario(WEATHER, COLD)
def agent_that_streams(models: Models) -> None:
    agent = create_agent(models.openai(stream_usage=True), [get_weather], name="weather")
    for _ in agent.stream(ASK, stream_mode="messages"):
        pass


class Plan(TypedDict):
    """What the graph hands from node to node."""

    x: str


@FAMILY.scenario(Answer(), WEATHER, COLD)
def graph_with_an_agent_inside(models: Models) -> None:
    inner = create_agent(models.openai(), [get_weather], name="inner")

    def plan(_state: Plan) -> Plan:
        return {"x": str(models.openai().invoke("plan").content)}

    def work(state: Plan) -> Plan:
        inner.invoke({"messages": [{"role": "user", "content": state["x"]}]})
        return state

    graph = StateGraph(Plan)
    graph.add_node("plan", plan)
    graph.add_node("work", work)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "work")
    graph.add_edge("work", END)
    graph.compile(name="flow").invoke({"x": ""})


@FAMILY.scenario(WEATHER, BROKEN, BROKEN, BROKEN, failed=1)
def agent_that_fails_at_its_second_call(models: Models) -> None:
    with contextlib.suppress(Exception):  # whatever the framework makes of it
        create_agent(models.openai(), [get_weather], name="weather").invoke(ASK)


@FAMILY.scenario()
def embeddings(models: Models) -> None:
    models.embeddings().embed_documents(["a", "b"])


def has_what_it_had(done: Any) -> None:
    """Check that an agent ended with its third tool call."""
    assert [message.type for message in done["messages"]] == ["human", *("ai", "tool") * 3]


@FAMILY.stops
def agent_that_ends_gracefully(models: Models) -> None:
    from otel_budget.adapters.langchain import stop_gracefully

    agent = create_agent(models.openai(), [get_weather], middleware=[stop_gracefully()])
    has_what_it_had(agent.invoke(ASK))


@FAMILY.stops
async def agent_that_ends_gracefully_async(models: Models) -> None:
    from otel_budget.adapters.langchain import stop_gracefully

    agent = create_agent(models.openai(), [get_weather], middleware=[stop_gracefully()])
    has_what_it_had(await agent.ainvoke(ASK))


@FAMILY.stops
def agent_that_is_stopped(models: Models) -> None:
    with contextlib.suppress(BudgetExceeded):
        create_agent(models.openai(), [get_weather]).invoke(ASK)
        raise AssertionError("no call was refused")
