"""The adapters count calls of tools, each once, over stand-ins of the frameworks."""

import asyncio
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from otel_budget import BudgetExceeded, ResourceMonitor
from tests.support.monitors import Make
from tests.support.stand_ins import Fallback, Hooks, Model, Toolset, Wrapper

SEARCH = SimpleNamespace(name="search")


def tool_calls(*monitors: ResourceMonitor) -> tuple[int, ...]:
    """Return the calls of tools that each run counted."""
    return tuple(each.get_usage_report().tool_calls for each in monitors)


# --- Pydantic AI ---------------------------------------------------------------------------------
def a_tool(function: Any = None, kind: str = "function", inner: Any = None) -> Any:
    """Return a tool of Pydantic AI's."""

    async def found() -> str:
        return "found"

    about = SimpleNamespace(kind=kind)
    return SimpleNamespace(function=function or found, tool_def=about, inner=inner)


def call(model: Any, call_id: str | None, tool: Any = None) -> Any:
    """Have an agent with a model call a tool."""
    agents_own = sys.modules["pydantic_ai.toolsets"].CombinedToolset()
    context = SimpleNamespace(model=model, tool_call_id=call_id)
    return asyncio.run(agents_own.call_tool("search", {}, context, tool or a_tool()))


def test_a_tool_of_an_agent_whose_model_has_a_budget_counts(pydantic_ai: Any, make: Make) -> None:
    """Also behind other wrappers and fallbacks, and once however often a budget was made."""
    plain = Model()
    with make() as monitor:
        for number, model in enumerate((
            plain, pydantic_ai.budgeted(plain), Wrapper(pydantic_ai.budgeted(plain)),
            pydantic_ai.budgeted(Fallback(plain, plain)), Fallback(plain), Wrapper(plain),
        )):  # fmt: skip
            assert call(model, f"call_{number}") == "found"
    assert tool_calls(monitor) == (3,)


def test_a_tool_of_pydantic_ai_that_fails_counts_and_fails(pydantic_ai: Any, make: Make) -> None:
    async def broken() -> None:
        raise ValueError("broken")

    model = pydantic_ai.budgeted(Model())
    with make() as monitor, pytest.raises(ValueError, match="broken"):
        call(model, "call_1", a_tool(broken))
    assert tool_calls(monitor) == (1,)


def test_a_set_of_sets_of_tools_and_a_call_that_is_approved_later_count_once(
    pydantic_ai: Any, make: Make
) -> None:
    model = pydantic_ai.budgeted(Model())
    inner: Toolset = sys.modules["pydantic_ai.toolsets"].CombinedToolset()
    with make() as monitor:
        call(model, "call_1", a_tool(inner, inner=a_tool()))
        call(model, "call_1")
    assert tool_calls(monitor) == (1,)


def test_an_answer_in_the_form_of_a_call_is_no_call_of_a_tool(pydantic_ai: Any, make: Make) -> None:
    model = pydantic_ai.budgeted(Model())
    with make() as monitor:
        call(model, "call_1", a_tool(kind="output"))
    assert tool_calls(monitor) == (0,)


def test_a_tool_of_pydantic_ai_counts_for_the_run_of_its_model(
    pydantic_ai: Any, make: Make, provider: TracerProvider
) -> None:
    """And beside a span of the same call once."""

    async def with_a_span() -> None:
        said = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}
        with provider.get_tracer("lib.a").start_as_current_span("search", attributes=said):
            pass

    with make() as monitor, make() as other:
        model = pydantic_ai.budgeted(Model(), monitor)
        with other.attach():
            call(model, "call_1")
        with monitor.attach():
            call(model, "call_2", a_tool(with_a_span))
    assert tool_calls(monitor, other) == (2, 0)


def test_a_run_over_its_limit_of_tools_is_refused_its_next_request(
    pydantic_ai: Any, make: Make
) -> None:
    inner = Model()
    model = pydantic_ai.budgeted(inner)
    with make(max_tool_calls=1) as monitor:
        call(model, "call_1")
        with pytest.raises(BudgetExceeded):
            asyncio.run(model.request())
    assert (tool_calls(monitor), inner.asked) == ((1,), 0)


# --- OpenAI Agents -------------------------------------------------------------------------------
class Heard(Hooks):
    """Hooks of an application's."""

    def __init__(self) -> None:
        """Begin with nothing heard."""
        self.heard: list[str] = []

    async def on_agent_start(self, *_: Any) -> None:
        """Hear it."""
        self.heard.append("agent")

    async def on_tool_start(self, *_: Any) -> None:
        """Hear it."""
        self.heard.append("start")

    async def on_tool_end(self, *_: Any) -> None:
        """Hear it."""
        self.heard.append("end")


def context(call_id: str) -> Any:
    """Return the context of a call of a tool."""
    return SimpleNamespace(tool_call_id=call_id, qualified_tool_name="search")


async def calls_two(hooks: Any, agent: Any = None) -> None:
    """Call two tools at once, and one that has no id."""
    await hooks.on_agent_start(None, agent)
    for call_id in ("call_1", "call_2"):
        await hooks.on_tool_start(context(call_id), agent, SEARCH)
    for call_id in ("call_1", "call_2"):
        await hooks.on_tool_end(context(call_id), agent, SEARCH, "found")
    await hooks.on_tool_start(SimpleNamespace(), agent, SEARCH)
    await hooks.on_tool_end(SimpleNamespace(), agent, SEARCH, "found")


async def fails(hooks: Any) -> None:
    """Call a tool that fails, of which the SDK's hooks hear no end."""
    await hooks.on_tool_start(context("call_3"), None, SEARCH)
    raise ValueError("broken")


def runner() -> Any:
    """Return the SDK's runner."""
    return sys.modules["agents.run"].Runner


def test_tools_count_however_agents_are_run(openai_agents: Any, make: Make) -> None:
    async def streamed(agent: Any) -> None:
        await runner().run_streamed(agent).run_loop_task

    openai_agents.watch_runner()  # changes nothing
    for run in (
        lambda agent: asyncio.run(runner().run(agent)),
        lambda agent: runner().run_sync(agent),
        lambda agent: asyncio.run(streamed(agent)),
    ):
        with make() as monitor:
            run(calls_two)
            assert tool_calls(monitor) == (3,)
            with pytest.raises(ValueError, match="broken"):
                run(fails)
            assert tool_calls(monitor) == (4,)


def test_an_applications_own_hooks_are_asked_as_ever(openai_agents: Any, make: Make) -> None:
    hooks = Heard()
    with make() as monitor:
        runner().run_sync(calls_two, hooks=hooks)
    assert hooks.heard == ["agent", "start", "start", "end", "end", "start", "end"]
    assert tool_calls(monitor) == (3,)


def test_what_are_no_hooks_of_a_run_goes_to_the_sdk_as_it_is(openai_agents: Any) -> None:
    async def returns(hooks: Any) -> Any:
        return hooks

    assert runner().run_sync(returns, hooks="hooks") == "hooks"
    assert asyncio.run(runner().run(returns, hooks="hooks")) == "hooks"


def test_tools_of_an_agent_count_for_the_run_of_its_model_or_of_its_provider(
    openai_agents: Any, make: Make
) -> None:
    with make() as monitor, make() as other, make() as third, third.attach():
        agent = SimpleNamespace(model=openai_agents.BudgetModel(Model(), monitor))
        runner().run_sync(lambda hooks: calls_two(hooks, agent))
        assert tool_calls(monitor, other, third) == (3, 0, 0)
        provider = openai_agents.BudgetModelProvider(monitor=other)
        config = SimpleNamespace(model=None, model_provider=provider)
        runner().run_sync(calls_two, run_config=config)
        assert tool_calls(monitor, other, third) == (3, 3, 0)
        runner().run_sync(calls_two)
    assert tool_calls(monitor, other, third) == (3, 3, 3)


def test_a_tool_of_openais_agents_and_its_span_count_once(
    openai_agents: Any, make: Make, provider: TracerProvider
) -> None:
    """The span is the SDK's own, around the hooks, or another one within the tool."""
    said = {"openinference.span.kind": "TOOL", "tool.name": "search"}
    tracer = provider.get_tracer("lib.a")

    async def around(hooks: Any) -> None:
        with tracer.start_as_current_span("search", attributes=said):
            await hooks.on_tool_start(context("call_1"), None, SEARCH)
            await hooks.on_tool_end(context("call_1"), None, SEARCH, "found")

    async def inside(hooks: Any) -> None:
        await hooks.on_tool_start(context("call_2"), None, SEARCH)
        with tracer.start_as_current_span("search", attributes=said):
            pass
        await hooks.on_tool_end(context("call_2"), None, SEARCH, "found")

    with make() as monitor:
        runner().run_sync(around)
        assert tool_calls(monitor) == (1,)
        runner().run_sync(inside)
    assert tool_calls(monitor) == (2,)
