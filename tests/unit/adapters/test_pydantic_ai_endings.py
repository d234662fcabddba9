"""How the adapter for Pydantic AI ends an agent, over stand-ins; real ones: tests/libraries."""

import asyncio
import sys
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from otel_budget import BudgetExceeded
from otel_budget.genai.call_tracker import CALL_TRACKER
from otel_budget.genai.reported_call import ReportedCall
from tests.support.monitors import Make
from tests.support.stand_ins import (
    RUN_CONTEXT,
    Model,
    ModelRequest,
    Parameters,
    ToolReturnPart,
    UserPromptPart,
    counts,
    unique,
)


class Says(Model):
    """A model that answers every request, and keeps what it was asked."""

    def __init__(self) -> None:
        """Begin with nothing asked."""
        super().__init__()
        self.requests: list[tuple[Any, ...]] = []

    async def request(self, *args: Any, **_: Any) -> Any:
        """Answer."""
        self.requests.append(args)
        return response()


def response(*parts: Any) -> Any:
    """Return a response of Pydantic AI."""
    usage = SimpleNamespace(
        input_tokens=100, output_tokens=10, cache_read_tokens=0, cache_write_tokens=0,
        output_reasoning_tokens=0,
    )  # fmt: skip
    return SimpleNamespace(
        usage=usage, state="complete", model_name="m", provider_name="openai", parts=parts,
        provider_response_id=unique(), metadata=None, kind="response",
    )  # fmt: skip


def hi() -> list[Any]:
    """Return the messages of an agent's first request."""
    return [ModelRequest([UserPromptPart("hi")])]


def said(request: tuple[Any, ...]) -> list[str]:
    """Return the texts of a request's last message."""
    return [str(part.content) for part in request[0][-1].parts]


def ask(model: Any, messages: Any = None, settings: Any = None, **tools: Any) -> Any:
    """Make a request."""
    return asyncio.run(model.request(messages or hi(), settings, Parameters(**tools)))


def test_the_last_request_has_no_tools_and_is_marked(pydantic_ai: Any, make: Make) -> None:
    inner = Says()
    model = pydantic_ai.budgeted(inner, on_stop="wrap_up", instruction="Answer!")
    messages = hi()
    with make(max_api_calls=3, wrap_up_calls=1) as monitor:
        assert pydantic_ai.cut_short(ask(model)) is None
        ask(model)
        last = ask(model, messages, {"tool_choice": "required", "seed": 1}, function_tools=[1])
        with pytest.raises(BudgetExceeded) as over:
            ask(model, messages)
    _, settings, parameters = inner.requests[-1]
    assert said(inner.requests[-1]) == ["hi", "Answer!"]
    assert (settings, parameters.function_tools) == ({"seed": 1}, [])
    assert messages == hi()
    mark = pydantic_ai.cut_short(last)
    assert (mark.session_id, mark.reason, mark.outcome) == (
        monitor.session_id, "wrap_up", "stopped"
    )  # fmt: skip
    assert over.value.finished == hi()
    assert counts(monitor) == (3, 0, 0, 330)


def test_tools_of_the_answer_stay_and_are_named(pydantic_ai: Any, make: Make) -> None:
    inner = Says()
    model = pydantic_ai.budgeted(inner, on_stop="wrap_up")
    output = [SimpleNamespace(name="final_result")]
    with make(max_api_calls=2, wrap_up_calls=1):
        ask(model)
        ask(model, function_tools=[1], output_tools=output)
    assert inner.requests[-1][2].output_tools == output
    assert said(inner.requests[-1])[-1].endswith("call final_result: that is none.)")


def test_a_model_that_was_not_told_to_wrap_up_raises_with_what_was_finished(
    pydantic_ai: Any, make: Make
) -> None:
    call = SimpleNamespace(part_kind="tool-call", tool_name="look_up", tool_call_id="c1")
    model = pydantic_ai.budgeted(Says())
    with make(max_api_calls=2, wrap_up_calls=1):
        ask(model)
        with pytest.raises(BudgetExceeded) as stopped:
            ask(model, [*hi(), response(call)])
    *_, answered = stopped.value.finished
    assert [(part.tool_call_id, part.content[:12]) for part in answered.parts] == [
        ("c1", "Not finished")
    ]


def test_every_request_says_what_is_left_and_no_history_keeps_it(
    pydantic_ai: Any, make: Make
) -> None:
    inner = Says()
    model, messages = pydantic_ai.budgeted(inner, brief=True), [response()]
    with make(max_api_calls=30) as monitor:
        ask(model, messages)
        briefing = str(monitor.briefing())
    assert isinstance(inner.requests[0][0][-1], ModelRequest)
    assert len(said(inner.requests[0])) == 1
    assert said(inner.requests[0])[0].split()[-1] == briefing.rsplit(maxsplit=1)[-1]
    assert len(messages) == 1


def test_an_agent_says_how_far_it_is(pydantic_ai: Any, make: Make) -> None:
    model = pydantic_ai.budgeted(Says(), progress=lambda context: context.deps)

    async def request(progress: float | None) -> None:
        if progress is not None:
            RUN_CONTEXT.set(SimpleNamespace(deps=progress))
        await model.request(hi(), None, Parameters())

    with make() as monitor:
        asyncio.run(request(None))  # by no agent: nothing to ask
        assert monitor._guard.progress is None
        asyncio.run(request(0.25))
        assert monitor._guard.progress == 0.25


# --- in tools ------------------------------------------------------------------------------------
def call_tool(function: Any, model: Any, messages: Any = ()) -> Any:
    """Call a tool of an agent."""
    context = SimpleNamespace(model=model, tool_call_id="c1", messages=list(messages))
    tool = SimpleNamespace(tool_def=SimpleNamespace(kind="function"), function=function)
    toolset = sys.modules["pydantic_ai.toolsets"].CombinedToolset()
    return toolset.call_tool("delegate", {}, context, tool)


def delegates(model: Any) -> Any:
    """Return a tool that has an agent make a request after one that was answered."""

    async def delegate() -> Any:
        found = ModelRequest([ToolReturnPart("look_up", "found it", "c9")])
        return await model.request([*hi(), response(), found], None, Parameters())

    return delegate


def test_a_stop_in_a_tool_is_what_the_tool_says_where_the_agent_gives_the_last_answer(
    pydantic_ai: Any, make: Make
) -> None:
    inner = Says()
    model = pydantic_ai.budgeted(inner, on_stop="wrap_up")
    with make(max_api_calls=3, wrap_up_calls=1):
        ask(model)
        ask(model)
        told = asyncio.run(call_tool(delegates(model), model))
        assert len(inner.requests) == 2
        assert told.startswith("Not finished: ")
        assert told.endswith("found it")
        assert pydantic_ai.cut_short(ask(model)) is not None


def test_a_stop_in_a_tool_goes_through_where_agents_raise(pydantic_ai: Any, make: Make) -> None:
    model = pydantic_ai.budgeted(Says())
    call = SimpleNamespace(part_kind="tool-call", tool_name="delegate", tool_call_id="c1")
    with make(max_api_calls=1):
        ask(model)
        with pytest.raises(BudgetExceeded) as stopped:
            asyncio.run(call_tool(delegates(model), model, [*hi(), response(call)]))
    assert [len(each) for each in (stopped.value.finished, *stopped.value.finished_inside)] == [
        3, 3
    ]  # fmt: skip


def test_an_agent_in_a_tool_with_a_run_of_its_own_gives_its_own_last_answer(
    pydantic_ai: Any, make: Make
) -> None:
    model = pydantic_ai.budgeted(Says(), on_stop="wrap_up")

    async def delegate() -> Any:
        with make(max_api_calls=1, wrap_up_calls=1):
            return await model.request(hi(), None, Parameters())

    with make():
        assert pydantic_ai.cut_short(asyncio.run(call_tool(delegate, model))) is not None


def test_a_run_of_its_own_in_a_tool_that_raises_is_no_error_of_the_tool(
    pydantic_ai: Any, make: Make
) -> None:
    inner, model = (pydantic_ai.budgeted(Says(), on_stop=on) for on in ("raise", "wrap_up"))

    async def delegate() -> Any:
        with make(max_api_calls=1, wrap_up_calls=1):
            return await inner.request(hi(), None, Parameters())

    with make(), pytest.raises(BudgetExceeded) as stopped:
        asyncio.run(call_tool(delegate, model))
    assert stopped.value.verdict.wrap_up is not None


# --- all models ----------------------------------------------------------------------------------
def test_a_request_past_the_adapter_is_said_once_for_a_run_and_none_once_it_is_installed(
    pydantic_ai: Any, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(
        CALL_TRACKER.notices, "_say", lambda text, *about: lines.append(text % about)
    )
    plain, late = late_model(pydantic_ai), pydantic_ai.budgeted(late_model(pydantic_ai))
    with make(max_api_calls=2) as monitor:
        ask(late)
        assert not lines
        ask(plain)
        ask(plain)
        assert [monitor.session_id in line for line in lines] == [True]
        assert "budgeted(model) or install()" in lines[0]
        pydantic_ai.install()
        ask(plain)
        with pytest.raises(BudgetExceeded):
            ask(plain)
        with pytest.raises(BudgetExceeded):
            asyncio.run(plain.request_stream().__aenter__())
    assert counts(monitor) == (2, 0, 0, 220)


def test_a_request_that_another_adapter_asks_for_is_none_past_ours(
    pydantic_ai: Any, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the guard of the plain client inside does."""
    lines: list[str] = []
    monkeypatch.setattr(CALL_TRACKER.notices, "_say", lambda text, *_: lines.append(text))
    root = sys.modules["pydantic_ai.models"].Model
    assert pydantic_ai

    class Guarded(root):  # type: ignore[misc, valid-type] # a stand-in's
        async def request(self, *_: Any) -> Any:
            call = await ReportedCall.begin("otel_budget.openai_sdk", None)
            call.close(input=100, output=10, response_id=unique())
            return response()

    with make() as monitor:
        ask(Guarded())
    assert counts(monitor) == (1, 0, 0, 110)
    assert not lines


class Stream:
    """A stream of Pydantic AI's."""

    def get(self) -> Any:
        """Return what it has by now."""
        return response()


def test_the_last_stream_is_marked(pydantic_ai: Any, make: Make) -> None:
    class Streams(Model):
        @asynccontextmanager
        async def request_stream(self, *_: Any) -> Any:
            yield Stream()

    model = pydantic_ai.budgeted(Streams(), on_stop="wrap_up")

    async def read() -> Any:
        async with model.request_stream(hi(), None, Parameters()) as stream:
            return stream.get()

    with make(max_api_calls=2, wrap_up_calls=1):
        assert pydantic_ai.cut_short(asyncio.run(read())) is None
        assert pydantic_ai.cut_short(asyncio.run(read())).reason == "wrap_up"


def late_model(adapter: Any) -> Any:
    """Return a model of a class that is made after the adapter was imported."""
    assert adapter
    root = sys.modules["pydantic_ai.models"].Model

    class Late(root):  # type: ignore[misc, valid-type] # a stand-in's
        async def request(self, *_: Any) -> Any:
            return response()

        async def request_stream(self, *_: Any) -> Any:
            raise NotImplementedError

    return Late()


def test_installed_models_wrap_up_as_installed(pydantic_ai: Any, make: Make) -> None:
    pydantic_ai.install(on_stop="wrap_up")
    model = late_model(pydantic_ai)
    with make(max_api_calls=2, wrap_up_calls=1):
        assert pydantic_ai.cut_short(ask(model)) is None
        told = asyncio.run(call_tool(delegates(model), model))
        assert told.startswith("Not finished: ")
        assert pydantic_ai.cut_short(ask(model)) is not None
