"""How the adapter for OpenAI Agents ends a run, over stand-ins; real ones: tests/libraries."""

import asyncio
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from otel_budget import BudgetExceeded
from otel_budget.genai.call_tracker import CALL_TRACKER
from tests.support.monitors import Make
from tests.support.stand_ins import Model, counts, unique


@dataclass
class Settings:
    """The SDK's settings of a model, as far as they have tools."""

    tool_choice: str | None = "required"
    parallel_tool_calls: bool | None = True
    max_tokens: int | None = None
    extra_args: dict[str, Any] = field(default_factory=dict)


def used() -> Any:
    """Return a usage of the SDK's."""
    return SimpleNamespace(input_tokens=100, output_tokens=10)


class Says(Model):
    """A model that answers every call, and keeps what it was asked."""

    def __init__(self) -> None:
        """Begin with nothing asked."""
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []

    async def get_response(self, *args: Any, **_: Any) -> Any:
        """Answer."""
        self.calls.append(args)
        return SimpleNamespace(response_id=unique(), usage=used(), output=[])

    async def stream_response(self, *args: Any, **_: Any) -> Any:
        """Answer by a stream."""
        self.calls.append(args)
        answer = SimpleNamespace(id=unique(), usage=used(), output=[], service_tier=None)
        yield SimpleNamespace(type="response.completed", response=answer)


async def ask(model: Any, asks: Any = "hi") -> Any:
    """Call a model as the SDK does."""
    return await model.get_response("system", asks, Settings(), [1], None, [2], None)


def runner() -> Any:
    """Return the Runner that the adapter was loaded over."""
    return sys.modules["agents.run"].Runner


def calls(model: Any, times: int) -> Any:
    """Return an agent of the stand-ins': it calls its model so often."""

    async def agent(_hooks: Any) -> Any:
        for _ in range(times):
            await ask(model)
        return SimpleNamespace(final_output="so far")

    return agent


def test_the_last_call_has_no_tools_and_its_run_is_marked(openai_agents: Any, make: Make) -> None:
    inner = Says()
    model = openai_agents.BudgetModel(inner, on_stop="wrap_up", instruction="Answer!")
    items = [{"role": "user", "content": "hi"}]
    with make(max_api_calls=3, wrap_up_calls=1) as monitor:
        result = asyncio.run(runner().run(calls(model, 3)))
        with pytest.raises(openai_agents.StoppedByBudget):
            asyncio.run(ask(model, items))
    _, said, settings, tools, _, handoffs, _ = inner.calls[-1]
    assert said == [*items, {"role": "user", "content": "Answer!"}]
    assert (settings, tools, handoffs) == (Settings(None, None), [], [])
    assert items == [{"role": "user", "content": "hi"}]
    mark = openai_agents.cut_short(result)
    assert (mark.session_id, mark.reason, mark.outcome) == (
        monitor.session_id, "wrap_up", "stopped"
    )  # fmt: skip
    assert counts(monitor) == (3, 0, 0, 330)


def test_a_stream_is_marked_once_it_has_ended(openai_agents: Any, make: Make) -> None:
    model = openai_agents.BudgetModel(Says(), on_stop="wrap_up")

    async def agent(_hooks: Any) -> None:
        for _ in range(2):
            async for _ in model.stream_response("system", "hi", Settings(), [1], None, [], None):
                pass

    async def run() -> Any:
        result = runner().run_streamed(agent)
        assert openai_agents.cut_short(result) is None
        await result.run_loop_task
        return result

    with make(max_api_calls=2, wrap_up_calls=1):
        assert openai_agents.cut_short(asyncio.run(run())).reason == "wrap_up"


def test_a_run_that_is_not_stopped_is_not_marked(openai_agents: Any, make: Make) -> None:
    model = openai_agents.BudgetModel(Says(), on_stop="wrap_up")
    with make():
        result = asyncio.run(runner().run(calls(model, 3)))
    assert openai_agents.cut_short(result) is None
    assert openai_agents.cut_short(None) is None


def test_every_call_says_what_is_left_and_no_items_keep_it(openai_agents: Any, make: Make) -> None:
    inner = Says()
    model, items = openai_agents.BudgetModel(inner, brief=True), [{"role": "user", "content": "hi"}]
    with make(max_api_calls=30):
        asyncio.run(ask(model, items))
    said = inner.calls[0][1]
    assert (said[0], said[1]["role"], len(said)) == (items[0], "user", 2)
    assert len(items) == 1


def test_turns_of_the_applications_own_maximum_are_progress(openai_agents: Any, make: Make) -> None:
    model = openai_agents.BudgetModel(Says())
    with make() as monitor:
        asyncio.run(runner().run(calls(model, 2)))
        assert monitor._guard.progress is None
        asyncio.run(runner().run(calls(model, 3), max_turns=10))
        assert monitor._guard.progress == 0.2


def test_an_application_says_how_far_its_run_is(openai_agents: Any, make: Make) -> None:
    provider = openai_agents.BudgetModelProvider(progress=lambda run: run.context["done"])
    model = provider.get_model("m")
    model._wrapped = Says()
    with make() as monitor:
        asyncio.run(runner().run(calls(model, 1), context={"done": 0.5}, max_turns=10))
        assert monitor._guard.progress == 0.5


# --- in tools ------------------------------------------------------------------------------------
def tool(function: Any, model: Any) -> tuple[Any, Any]:
    """Return a tool as the SDK calls it, and its context. function: what it does."""

    async def invoke(_context: Any, _arguments: str) -> Any:
        return await function()

    invoker = sys.modules["agents"].tool._FailureHandlingFunctionToolInvoker(invoke)
    return invoker, SimpleNamespace(agent=SimpleNamespace(model=model), run_config=None)


def delegates(model: Any) -> Any:
    """Return a function that has another agent call its model."""

    async def delegate() -> Any:
        return await runner().run(calls(model, 1))

    return delegate


def agent_with(function: Any, model: Any, told: list[Any]) -> Any:
    """Return an agent that calls its model, then a tool, and its model again."""
    invoker, context = tool(function, model)

    async def agent(_hooks: Any) -> Any:
        await ask(model)
        told.append(await invoker(context, "{}"))
        await ask(model)
        return SimpleNamespace(handed=invoker.handed)

    return agent


def test_a_stop_in_a_tool_is_what_the_tool_says_where_the_first_agent_gives_the_last_answer(
    openai_agents: Any, make: Make
) -> None:
    inner, told = Says(), list[Any]()
    model = openai_agents.BudgetModel(inner, on_stop="wrap_up")
    with make(max_api_calls=2, wrap_up_calls=1):
        result = asyncio.run(runner().run(agent_with(delegates(model), model, told)))
    assert [each[:13] for each in told] == ["Not finished:"]
    assert not result.handed  # the SDK would log it as an error
    assert len(inner.calls) == 2
    assert openai_agents.cut_short(result) is not None


@pytest.mark.parametrize("of_others", [False, True])
def test_a_stop_in_a_tool_goes_through_where_agents_raise(
    openai_agents: Any, make: Make, *, of_others: bool
) -> None:
    """Typed for the SDK, also one that is no exception of its adapter."""
    told: list[Any] = []
    model = openai_agents.BudgetModel(Says())
    with make(max_api_calls=1) as monitor:

        async def refused() -> None:
            monitor.raise_if_stopped()

        function = refused if of_others else delegates(model)
        with pytest.raises(openai_agents.StoppedByBudget):
            asyncio.run(runner().run(agent_with(function, model, told)))
    assert not told


def test_a_run_of_its_own_in_a_tool_that_raises_is_no_error_of_the_tool(
    openai_agents: Any, make: Make
) -> None:
    told: list[Any] = []
    model = openai_agents.BudgetModel(Says(), on_stop="wrap_up")

    async def delegate() -> None:
        with make(max_api_calls=1, wrap_up_calls=1) as monitor:
            monitor.raise_if_stopped()

    with make(), pytest.raises(openai_agents.StoppedByBudget) as stopped:
        asyncio.run(runner().run(agent_with(delegate, model, told)))
    assert stopped.value.verdict.wrap_up is not None
    assert not told


def test_an_error_of_a_tool_is_handed_to_the_model_as_ever(openai_agents: Any, make: Make) -> None:
    told: list[Any] = []
    model = openai_agents.BudgetModel(Says())

    async def broken() -> None:
        raise LookupError("x")

    with make():
        result = asyncio.run(runner().run(agent_with(broken, model, told)))
    assert told == ["An error occurred: x"]
    assert len(result.handed) == 1


def test_a_stop_that_the_sdk_made_an_error_of_its_own_is_a_stop_again(
    openai_agents: Any, make: Make
) -> None:
    """As of a tool that does not hand its errors to the model."""
    wrapped = sys.modules["agents.exceptions"].AgentsException

    async def agent(_hooks: Any) -> None:
        try:
            make(max_api_calls=0).raise_if_stopped()
        except BudgetExceeded as exc:
            error = wrapped("Error running tool")
            error.run_data = "what there is"
            raise error from exc

    with pytest.raises(openai_agents.StoppedByBudget) as stopped:
        asyncio.run(runner().run(agent))
    assert stopped.value.run_data == "what there is"

    async def broken(_hooks: Any) -> None:
        raise wrapped("broken")

    with pytest.raises(wrapped, match="broken"):
        asyncio.run(runner().run(broken))


def test_what_was_finished_has_every_call_of_a_tool_answered(
    openai_agents: Any, make: Make
) -> None:
    def item(**about: Any) -> Any:
        return SimpleNamespace(to_input_item=lambda: about)

    stop: Any = openai_agents.StoppedByBudget(make(max_api_calls=0).verdict)
    assert not stop.finished
    stop.run_data = SimpleNamespace(input="hi", new_items=[
        item(type="function_call", call_id="c1"), item(type="function_call", call_id="c2"),
        item(type="function_call_output", call_id="c1", output="found"),
    ])  # fmt: skip
    assert [(each.get("type"), each.get("call_id")) for each in stop.finished] == [
        (None, None), ("function_call", "c1"), ("function_call", "c2"),
        ("function_call_output", "c2"), ("function_call_output", "c1"),
    ]  # fmt: skip


# --- all models ----------------------------------------------------------------------------------
def test_a_call_past_the_adapter_is_said_and_none_once_it_is_installed(
    openai_agents: Any, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []

    def say(text: str, *about: object) -> None:
        lines.append(text % about)

    monkeypatch.setattr(CALL_TRACKER.notices, "_say", say)
    root = sys.modules["agents.models.interface"].Model
    sdks_own: Any = type("Late", (Says, root), {"__module__": "agents.models.late"})()
    mine: Any = type("Mine", (Says, root), {})()
    with make(max_api_calls=2, wrap_up_calls=1) as monitor:
        asyncio.run(ask(mine))
        assert not lines
        asyncio.run(ask(sdks_own))
        assert ["run_config= or install()" in line for line in lines] == [True]
        openai_agents.install(type(mine), on_stop="wrap_up")
        asyncio.run(ask(sdks_own))
        result = asyncio.run(runner().run(calls(mine, 1)))
    assert openai_agents.cut_short(result) is not None
    assert counts(monitor) == (2, 0, 0, 220)


def test_a_version_that_has_no_such_tools_is_said(
    openai_agents: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = sys.modules["otel_budget.adapters.openai_agents.tools"]
    monkeypatch.delattr(tools.sdk_tools, "_FailureHandlingFunctionToolInvoker")
    tools.watch_stops_in_tools()
    assert "hands what an agent in a tool raises to the model" in caplog.text
    assert openai_agents
