"""Endings with OpenAI's Agents SDK."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import openai
from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from pydantic import BaseModel

from otel_budget import BudgetExceeded, ResourceLimits, ResourceMonitor
from otel_budget.adapters.openai_agents import BudgetModel, cut_short, install
from tests.libraries.drivers.endings import Ended
from tests.libraries.drivers.page import run_block
from tests.libraries.provider.conversation import FINAL, Conversation

if TYPE_CHECKING:
    from tests.libraries.drivers.endings import Task
    from tests.libraries.provider import Provider

KINDS: Final = ("plain", "stream", "sub_agent", "parallel_tools", "structured")
PACKAGES: Final = ("openai-agents", "openai")
ASK: Final = "What is known of x?"

set_tracing_disabled(True)


class Report(BaseModel):
    """What is known."""

    answer: str


@asynccontextmanager
async def model_of(
    provider: Provider, name: str = "gpt-4o-mini", kind: Any = OpenAIResponsesModel
) -> AsyncIterator[Any]:
    """Yield a model behind the provider, with a client for the loop it is used in."""
    url = provider.openai_url
    async with openai.AsyncOpenAI(api_key="sk-fake", base_url=url, max_retries=0) as client:
        yield kind(model=name, openai_client=client)


def agent(task: Task, model: Any) -> Any:
    """Return the agent of a task."""

    def look_up(what: str) -> str:
        """Look something up."""
        return task.look_up(what)

    tools = [function_tool(look_up)]
    if task.kind in ("sub_agent", "parallel_tools"):
        inner = Agent(name="inner", model=model, tools=list(tools))
        tools = [inner.as_tool("delegate", "Has another agent do some work.")]
    output = Report if task.kind == "structured" else None
    return Agent(name="root", model=model, tools=tools, output_type=output)


async def _play(task: Task) -> Ended:
    async with model_of(task.provider, task.model) as model:
        root = agent(task, BudgetModel(model, on_stop=task.on_stop))
        if task.kind == "stream":
            result: Any = Runner.run_streamed(root, ASK, max_turns=None)
            async for _ in result.stream_events():
                pass
        else:
            result = await Runner.run(root, ASK, max_turns=None)
    said = result.final_output
    answer = said.answer if task.kind == "structured" else said
    return Ended(answer, cut_short(result), len(result.to_input_list()))


def play(task: Task) -> Ended:
    """Play a task."""
    return asyncio.run(_play(task))


# --- what else is to hold -------------------------------------------------------------------------
def _look_up(what: str) -> str:
    """Look something up."""
    return f"found {what}"


def _run(
    provider: Provider,
    limits: ResourceLimits,
    wraps: Callable[[Any], Any],
    asks: Any = ASK,
    kind: Any = OpenAIResponsesModel,
    **about: Any,
) -> Any:
    """Run an agent. wraps: makes its model of the provider's."""

    async def run() -> Any:
        async with model_of(provider, kind=kind) as model:
            root = Agent(name="root", model=wraps(model), tools=[function_tool(_look_up)])
            with ResourceMonitor(limits, "more"):
                return await Runner.run(root, asks, **{"max_turns": None} | about)

    return asyncio.run(run())


def _wrapping_up(**more: Any) -> Callable[[Any], Any]:
    return functools.partial(BudgetModel, on_stop="wrap_up", **more)


def _an_agent_goes_on_with_what_was_finished(provider: Provider) -> None:
    """Every call of a tool is answered there."""
    provider.decide(Conversation())
    finished: Any = None
    try:
        _run(provider, ResourceLimits.only(max_api_calls=3), BudgetModel)
    except BudgetExceeded as stop:
        finished = stop.finished
    assert [each.get("type") for each in finished[1:]] == [
        "function_call", "function_call_output"
    ] * 3  # fmt: skip
    provider.decide(Conversation())
    limits = ResourceLimits.only(max_api_calls=2, wrap_up_calls=1)
    result = _run(provider, limits, _wrapping_up(), finished)
    assert result.final_output == FINAL


def _a_stop_in_an_agent_that_a_function_runs_surfaces_at_the_first(provider: Provider) -> None:
    """Typed, once, and with what both had."""
    provider.decide(Conversation())

    async def run() -> BudgetExceeded:
        async with model_of(provider) as plain:
            model = BudgetModel(plain)
            inner = Agent(name="inner", model=model, tools=[function_tool(_look_up)])

            async def delegate(work: str) -> str:
                """Have another agent do some work."""
                return str((await Runner.run(inner, work, max_turns=None)).final_output)

            root = Agent(name="root", model=model, tools=[function_tool(delegate)])
            with ResourceMonitor(ResourceLimits.only(max_api_calls=3), "more"):
                try:
                    await Runner.run(root, ASK)
                except BudgetExceeded as stop:
                    return stop
        raise AssertionError("it was not stopped")

    stop: Any = asyncio.run(run())
    assert stop.run_data.last_agent.name == "root"
    assert [len(each) for each in stop.finished_inside] == [5]
    assert stop.finished[0] == {"role": "user", "content": ASK}


def _every_call_is_briefed_and_no_result_keeps_it(provider: Provider) -> None:
    conversation = Conversation()
    provider.decide(conversation)
    limits = ResourceLimits.only(max_api_calls=4, wrap_up_calls=1)
    kind = OpenAIChatCompletionsModel
    result = _run(provider, limits, _wrapping_up(brief=True), kind=kind)
    assert result.final_output == FINAL
    briefed = [each for each in conversation.asked if "calls remain" in each.text]
    assert len(briefed) == len(conversation.asked) - 1, [each.text for each in conversation.asked]
    assert "calls remain" not in str(result.to_input_list())
    assert "last answer" not in str(result.to_input_list())


def _turns_of_the_applications_maximum_are_progress(provider: Provider) -> None:
    """A run that will not be done stops at its warning line; the SDK's own maximum says nothing."""
    for about, reason in (({"max_turns": 50}, "approaching_limit"), ({}, "wrap_up")):
        provider.decide(Conversation())
        limits = ResourceLimits.only(max_api_calls=20, wrap_up_calls=1)
        result = _run(provider, limits, _wrapping_up(), **about)
        mark = cut_short(result)
        assert (result.final_output, mark and mark.reason) == (FINAL, reason)


def _agents_without_a_budget_model_end_as_installed(provider: Provider) -> None:
    provider.decide(Conversation())
    install(on_stop="wrap_up")
    limits = ResourceLimits.only(max_api_calls=4, wrap_up_calls=1)
    result = _run(provider, limits, lambda model: model)
    assert (result.final_output, len(result.raw_responses)) == (FINAL, 4)
    assert cut_short(result) is not None


def _the_page_says_what_holds(provider: Provider) -> None:
    provider.decide(Conversation())

    async def run() -> str:
        async with model_of(provider) as model:
            tool = function_tool(_look_up)
            return await run_block("openai_agents", model=model, look_up=tool)

    assert asyncio.run(run()) == f"not finished (approaching_limit): {FINAL}\n"


MORE: dict[str, Callable[[Provider], None]] = {
    "goes_on": _an_agent_goes_on_with_what_was_finished,
    "inside": _a_stop_in_an_agent_that_a_function_runs_surfaces_at_the_first,
    "brief": _every_call_is_briefed_and_no_result_keeps_it,
    "progress": _turns_of_the_applications_maximum_are_progress,
    "page": _the_page_says_what_holds,
    "installed": _agents_without_a_budget_model_end_as_installed,
}
