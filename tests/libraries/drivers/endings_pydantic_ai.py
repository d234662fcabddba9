"""Endings with Pydantic AI's agents."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import openai
from pydantic import BaseModel
from pydantic_ai import Agent, capture_run_messages
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from otel_budget import BudgetExceeded, ResourceLimits, ResourceMonitor
from otel_budget.adapters.pydantic_ai import budgeted, cut_short, install
from tests.libraries.drivers.endings import Ended
from tests.libraries.drivers.page import run_block
from tests.libraries.provider.conversation import FINAL, Conversation

if TYPE_CHECKING:
    from tests.libraries.drivers.endings import Task
    from tests.libraries.provider import Provider

KINDS: Final = ("plain", "stream", "sub_agent", "parallel_tools", "structured")
PACKAGES: Final = ("pydantic-ai-slim", "openai")
ASK: Final = "What is known of x?"


class Report(BaseModel):
    """What is known."""

    answer: str


@asynccontextmanager
async def chat_model(provider: Provider, name: str = "gpt-4o-mini") -> AsyncIterator[Any]:
    """Yield a model behind the provider, with a client for the loop it is used in."""
    url = provider.openai_url
    async with openai.AsyncOpenAI(api_key="sk-fake", base_url=url, max_retries=0) as client:
        yield OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client))


def agent(task: Task, model: Any) -> Any:
    """Return the agent of a task."""

    def look_up(what: str) -> str:
        """Look something up."""
        return task.look_up(what)

    async def delegate(work: str) -> str:
        """Have another agent do some work."""
        inner = Agent(model, name="inner", tools=[look_up])
        return str((await inner.run(work)).output)

    tool: Any = delegate if task.kind in ("sub_agent", "parallel_tools") else look_up
    output: Any = Report if task.kind == "structured" else str
    return Agent(model, name="root", tools=[tool], output_type=output)


async def _play(task: Task) -> Ended:
    async with chat_model(task.provider, task.model) as model:
        root = agent(task, budgeted(model, on_stop=task.on_stop))
        if task.kind == "stream":
            async with root.run_stream(ASK) as result:
                pieces = [each async for each in result.stream_text(delta=True, debounce_by=None)]
                return Ended("".join(pieces), cut_short(result), len(result.all_messages()))
        result = await root.run(ASK)
        answer = result.output.answer if task.kind == "structured" else result.output
        return Ended(answer, cut_short(result), len(result.all_messages()))


def play(task: Task) -> Ended:
    """Play a task."""
    return asyncio.run(_play(task))


# --- what else is to hold -------------------------------------------------------------------------
def _look_up(what: str) -> str:
    """Look something up."""
    return f"found {what}"


def _run(
    provider: Provider, limits: ResourceLimits, wraps: Callable[[Any], Any], **about: Any
) -> Any:
    """Run an agent. wraps: makes its model of the provider's."""

    async def run() -> Any:
        async with chat_model(provider) as model:
            with ResourceMonitor(limits, "more"):
                return await Agent(wraps(model), tools=[_look_up]).run(ASK, **about)

    return asyncio.run(run())


def _wrapping_up(**more: Any) -> Callable[[Any], Any]:
    return functools.partial(budgeted, on_stop="wrap_up", **more)


def _agents_goes_on_with_what_was_finished(provider: Provider) -> None:
    """Every call of a tool is answered there, and the framework kept the same."""
    provider.decide(Conversation())
    with capture_run_messages() as kept:
        try:
            _run(provider, ResourceLimits.only(max_api_calls=3), budgeted)
        except BudgetExceeded as stop:
            finished = stop.finished
    assert kept[: len(finished)] == finished
    assert len(finished) == 7
    provider.decide(Conversation())
    limits = ResourceLimits.only(max_api_calls=2, wrap_up_calls=1)
    result = _run(provider, limits, _wrapping_up(), message_history=finished)
    assert result.output == FINAL


def _every_request_is_briefed_and_no_history_keeps_it(provider: Provider) -> None:
    conversation = Conversation()
    provider.decide(conversation)
    limits = ResourceLimits.only(max_api_calls=4, wrap_up_calls=1)
    result = _run(provider, limits, _wrapping_up(brief=True))
    assert result.output == FINAL
    briefed = [each for each in conversation.asked if "calls remain" in each.text]
    assert len(briefed) == len(conversation.asked) - 1, [each.text for each in conversation.asked]
    assert b"calls remain" not in result.all_messages_json()
    assert b"last answer" not in result.all_messages_json()


def _agents_without_a_budgeted_model_end_as_installed(provider: Provider) -> None:
    provider.decide(Conversation())
    install(on_stop="wrap_up")
    limits = ResourceLimits.only(max_api_calls=4, wrap_up_calls=1)
    result = _run(provider, limits, lambda model: model)
    assert (result.output, len(result.all_messages())) == (FINAL, 8)
    assert cut_short(result) is not None
    assert cut_short(result.all_messages()[:-1]) is None


def _progress_is_what_the_agents_dependencies_say(provider: Provider) -> None:
    """A run that says it will not be done stops at its warning line."""
    conversation = Conversation()
    provider.decide(conversation)
    wraps = _wrapping_up(progress=lambda context: context.deps["done"])
    result = _run(provider, ResourceLimits.only(max_api_calls=10), wraps, deps={"done": 0.1})
    mark = cut_short(result)
    assert (result.output, mark and mark.reason) == (FINAL, "approaching_limit")
    assert len(conversation.asked) < 10


def _the_page_says_what_holds(provider: Provider) -> None:
    provider.decide(Conversation())

    async def run() -> str:
        async with chat_model(provider) as model:
            return await run_block("pydantic_ai", model=model, look_up=_look_up)

    assert asyncio.run(run()) == f"not finished (wrap_up): {FINAL}\n"


MORE: dict[str, Callable[[Provider], None]] = {
    "goes_on": _agents_goes_on_with_what_was_finished,
    "brief": _every_request_is_briefed_and_no_history_keeps_it,
    "progress": _progress_is_what_the_agents_dependencies_say,
    "page": _the_page_says_what_holds,
    "installed": _agents_without_a_budgeted_model_end_as_installed,
}
