"""How the adapter for LangChain ends a run, over stand-ins; real ones: tests/libraries."""

import asyncio
import sys
import uuid
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from otel_budget import BudgetExceeded
from otel_budget.errors import InvalidValueError
from tests.support.monitors import Make
from tests.support.stand_ins import unique


@dataclass
class Said:
    """A message."""

    content: Any
    type: str = "ai"
    tool_calls: list[Any] = field(default_factory=list)
    response_metadata: dict[str, Any] = field(default_factory=dict)
    additional_kwargs: dict[str, Any] = field(default_factory=dict)
    invalid_tool_calls: list[Any] = field(default_factory=list)
    usage_metadata: Any = None
    id: str = ""

    def model_copy(self, update: dict[str, Any]) -> "Said":
        """Return another one with these fields."""
        return replace(self, **update)


@dataclass
class Request:
    """What a middleware is handed."""

    messages: list[Any]
    tools: list[Any] = field(default_factory=lambda: ["look_up"])
    tool_choice: Any = None
    model_settings: dict[str, Any] = field(default_factory=lambda: {"parallel_tool_calls": True})
    state: dict[str, Any] = field(default_factory=dict)
    model: Any = None
    tool_call: dict[str, Any] = field(default_factory=lambda: {"id": "c1", "name": "delegate"})

    def override(self, **changes: Any) -> "Request":
        """Return another one with these fields."""
        return replace(self, **changes)


def result_of(message: Any) -> Any:
    """Return a result of LangChain's with one message."""
    return SimpleNamespace(generations=[[SimpleNamespace(message=message)]], llm_output=None)


class Calls:
    """Calls a model as LangChain does: its callbacks are asked, and told."""

    def __init__(self, langchain: Any, *answers: Any) -> None:
        """Answer so, and then with a text."""
        self._langchain, self._answers, self.asked = langchain, list(answers), list[Any]()

    def __call__(self, request: Any) -> Any:
        """Call it."""
        run_id = uuid.uuid4()
        handlers = self._langchain.handler.CallbackManager.configure([]).handlers
        for each in handlers:
            each.on_chat_model_start({}, [request.messages], run_id=run_id)
        self.asked.append(request)
        answer = self._answers.pop(0) if self._answers else Said("said", id=unique())
        message = replace(answer, usage_metadata={"input_tokens": 9, "output_tokens": 1})
        for each in handlers:
            each.on_llm_end(result_of(message), run_id=run_id)
        return sys.modules["langchain.agents.middleware.types"].ModelResponse([message])

    async def in_a_coroutine(self, request: Any) -> Any:
        """Call it."""
        return self(request)


QUESTION = Said("What?", "human")


def test_the_last_call_has_no_tools_and_its_answer_is_marked(langchain: Any, make: Make) -> None:
    calls, middleware = Calls(langchain), langchain.middleware()
    with make(max_api_calls=2, wrap_up_calls=1) as monitor:
        first = middleware.wrap_model_call(Request([QUESTION]), calls)
        last = middleware.wrap_model_call(Request([QUESTION]), calls)
        with pytest.raises(BudgetExceeded) as refused:
            middleware.wrap_model_call(Request([QUESTION]), calls)
    assert langchain.cut_short(first.result) is None
    mark = langchain.cut_short(last.model_response.result)
    assert (mark.reason, mark.session_id) == ("wrap_up", monitor.session_id)
    assert last.command.update == {"jump_to": "end"}
    asked = calls.asked[-1]
    assert (asked.tools, asked.tool_choice, asked.model_settings) == ([], None, {})
    assert "last answer" in asked.messages[-1].content
    assert refused.value.finished == [QUESTION]
    assert monitor.get_usage_report().api_calls == 2


def test_a_last_call_that_another_branch_has_is_no_failure_of_a_node(
    langchain: Any, make: Make
) -> None:
    """Raised where the last call is asked for, it is one that LangGraph lets through, too."""
    lets_through = sys.modules["langgraph.errors"].GraphBubbleUp
    middleware = langchain.middleware()
    langchain.install(on_stop="wrap_up")
    model = langchain.everywhere.BaseChatModel(langchain.handler.CallbackManager)
    with make(max_api_calls=1, wrap_up_calls=1) as monitor:
        with pytest.raises(BudgetExceeded) as stopped:
            monitor.raise_if_stopped()

        def refused(*_: Any, **__: Any) -> Any:
            raise stopped.value

        with monitor.wrap_up(), pytest.raises(lets_through) as again:
            middleware.wrap_model_call(Request([QUESTION]), refused)
        with monitor.wrap_up(), pytest.raises(lets_through):
            langchain.everywhere._around(refused)(model, [[QUESTION]])
    assert again.value.finished == [QUESTION]


def test_a_last_call_of_a_coroutine_is_the_same(langchain: Any, make: Make) -> None:
    calls, middleware = Calls(langchain), langchain.middleware()
    with make(max_api_calls=2, wrap_up_calls=1) as monitor:
        ask = Request([QUESTION], model=SimpleNamespace(max_tokens=5))
        asyncio.run(middleware.awrap_model_call(ask, calls.in_a_coroutine))
        last = asyncio.run(middleware.awrap_model_call(ask, calls.in_a_coroutine))
        with pytest.raises(BudgetExceeded):
            asyncio.run(middleware.awrap_model_call(ask, calls.in_a_coroutine))
    assert langchain.cut_short(last.model_response.result) is not None
    assert monitor.get_usage_report().api_calls == 2


def test_what_a_last_answer_asks_for_is_left_out(langchain: Any, make: Make) -> None:
    wants = Said(
        [{"type": "text", "text": "so far"}, {"type": "tool_use", "id": "c9"}],
        tool_calls=[{"id": "c9", "name": "look_up"}], additional_kwargs={"tool_calls": [1]},
    )  # fmt: skip
    middleware = langchain.middleware()
    with make(max_api_calls=1, wrap_up_calls=1):
        last = middleware.wrap_model_call(Request([QUESTION]), Calls(langchain, wants))
    (answer,) = last.model_response.result
    assert (answer.tool_calls, answer.additional_kwargs) == ([], {})
    assert answer.content == [{"type": "text", "text": "so far"}]


def test_a_stop_in_a_tool_is_for_the_root_to_end(langchain: Any, make: Make) -> None:
    """It is told what the agent in the tool had; that one makes no last call."""
    root, inner, calls = langchain.middleware(), langchain.middleware(), Calls(langchain)
    had = Said("found one", "tool")

    def tool(_: Any) -> Any:
        return inner.wrap_model_call(Request([had]), calls)

    with make(max_api_calls=1, wrap_up_calls=1):
        told = root.wrap_tool_call(Request([], state={"messages": [QUESTION]}), tool)
        assert not calls.asked
        root.wrap_model_call(Request([QUESTION, told]), calls)
        with pytest.raises(BudgetExceeded) as refused:
            root.wrap_tool_call(Request([], state={"messages": [QUESTION]}), tool)
    assert "found one" in told.content
    assert told.tool_call_id == "c1"
    assert refused.value.finished == [QUESTION, had]
    assert len(calls.asked) == 1


def test_a_stop_in_a_tool_is_raised_out_of_an_agent_that_raises(langchain: Any, make: Make) -> None:
    root, calls = langchain.middleware(on_stop="raise"), Calls(langchain)
    had = Said("found one", "tool")

    async def tool(_: Any) -> Any:
        return await root.awrap_model_call(Request([had]), calls.in_a_coroutine)

    asked = Request([], state={"messages": [QUESTION]})
    with make(max_api_calls=1, wrap_up_calls=1), pytest.raises(BudgetExceeded) as refused:
        asyncio.run(root.awrap_tool_call(asked, tool))
    assert refused.value.finished == [QUESTION, had]
    assert isinstance(refused.value, sys.modules["langgraph.errors"].GraphBubbleUp)


def test_a_run_of_its_own_in_a_tool_is_not_the_roots_to_end(langchain: Any, make: Make) -> None:
    root, inner, calls = langchain.middleware(), langchain.middleware(), Calls(langchain)
    own = make(max_api_calls=1, wrap_up_calls=1)

    def tool(_: Any) -> Any:
        with own:
            return inner.wrap_model_call(Request([QUESTION]), calls)

    with make(max_api_calls=9, wrap_up_calls=1):
        done = root.wrap_tool_call(Request([]), tool)
    assert langchain.cut_short(done.model_response.result).session_id == own.session_id


def test_a_middleware_with_a_monitor_counts_for_that_one(langchain: Any, make: Make) -> None:
    with make() as monitor, make() as other:
        langchain.middleware(monitor).wrap_model_call(Request([QUESTION]), Calls(langchain))
    used = [each.get_usage_report().api_calls for each in (monitor, other)]
    assert used == [1, 0]


def test_each_call_says_what_is_left_and_reports_the_progress(langchain: Any, make: Make) -> None:
    todos = [{"status": "completed"}, {"status": "pending"}]
    calls = Calls(langchain)
    with make(max_api_calls=9) as monitor:
        brief = str(monitor.briefing())
        middleware = langchain.middleware(brief=True)
        middleware.wrap_model_call(Request([QUESTION], state={"todos": todos}), calls)
        assert monitor.verdict.progress == 0.5
        own = langchain.middleware(progress=lambda state: state["done"])
        own.wrap_model_call(Request([QUESTION], state={"done": 0.75}), calls)
        assert monitor.verdict.progress == 0.75
        with pytest.raises(InvalidValueError):
            own.wrap_model_call(Request([QUESTION], state={"done": 75}), calls)
    assert [one.content for one in calls.asked[0].messages] == ["What?", brief]
    assert calls.asked[1].messages == [QUESTION]


def test_tool_calls_that_nobody_answered_are_answered(langchain: Any, make: Make) -> None:
    left = Said("", tool_calls=[{"id": "c1", "name": "a"}, {"id": "c2", "name": "b"}])
    done = Said("yes", "tool")
    vars(done)["tool_call_id"] = "c1"
    calls = Calls(langchain)
    with make():
        langchain.middleware().wrap_model_call(Request([left, done, QUESTION]), calls)
    sent = calls.asked[0].messages
    assert [getattr(one, "tool_call_id", None) for one in sent] == [None, "c2", "c1", None]


def test_the_messages_of_a_state_are_found_whatever_it_is(langchain: Any) -> None:
    finished = sys.modules["otel_budget.adapters.langchain.finished"]
    states: list[Any] = [
        {"messages": [QUESTION]}, SimpleNamespace(messages=[QUESTION]), [QUESTION], {}, None,
        {"messages": "text"},
    ]  # fmt: skip
    found = [finished.messages_in(state) for state in states]
    assert found == [[QUESTION]] * 3 + [[]] * 3
    assert langchain.cut_short({}) is None


class TestInstalled:
    """Chat models outside of agents with a middleware."""

    def model(self, langchain: Any) -> Any:
        """Return a model of LangChain's base class."""
        return langchain.everywhere.BaseChatModel(langchain.handler.CallbackManager)

    def test_a_chat_model_answers_once_more_without_tools(self, langchain: Any, make: Make) -> None:
        langchain.install(on_stop="wrap_up")
        model = self.model(langchain)
        with make(max_api_calls=2, wrap_up_calls=1):
            first = model.generate([[QUESTION]], tools=["look_up"])
            last = model.generate([[QUESTION]], tools=["look_up"])
            with pytest.raises(BudgetExceeded):
                model.generate([[QUESTION]], tools=["look_up"])
        marks = [langchain.cut_short(each.generations[0][0].message) for each in (first, last)]
        assert marks[0] is None
        assert marks[1].reason == "wrap_up"
        assert [kwargs for _, kwargs in model.asked] == [{"tools": ["look_up"]}, {}]

    def test_so_it_does_in_a_coroutine(self, langchain: Any, make: Make) -> None:
        langchain.install(on_stop="wrap_up")
        model = self.model(langchain)
        with make(max_api_calls=1, wrap_up_calls=1):
            last = asyncio.run(model.agenerate([[QUESTION]], tools=["look_up"]))
        assert langchain.cut_short(last.generations[0][0].message) is not None

    def test_a_stream_ends_with_a_marked_piece(self, langchain: Any, make: Make) -> None:
        langchain.install(on_stop="wrap_up")
        model = self.model(langchain)

        async def read() -> list[Any]:
            return [chunk async for chunk in model.astream("x", tools=["look_up"])]

        with make(max_api_calls=2, wrap_up_calls=1):
            pieces = list(model.stream("x", tools=["look_up"]))
            last = list(model.stream("x", tools=["look_up"]))
        with make(max_api_calls=1, wrap_up_calls=1):
            last_async = asyncio.run(read())
        assert [langchain.cut_short(piece) for piece in pieces] == [None, None]
        for found in (last, last_async):
            marks = [langchain.cut_short(piece) is not None for piece in found]
            assert marks == [False, True]

    def test_a_tool_that_must_be_called_stays(self, langchain: Any, make: Make) -> None:
        langchain.install(on_stop="wrap_up")
        model = self.model(langchain)
        with make(max_api_calls=1, wrap_up_calls=1):
            model.generate([[QUESTION]], tools=["Report"], tool_choice="any")
        assert model.asked[-1][1] == {"tools": ["Report"], "tool_choice": "any"}

    def test_a_refused_call_is_raised_as_before_unless_told_otherwise(
        self, langchain: Any, make: Make
    ) -> None:
        langchain.install(on_stop="wrap_up")
        langchain.install()
        with make(max_api_calls=1, wrap_up_calls=1), pytest.raises(BudgetExceeded) as refused:
            self.model(langchain).generate([[QUESTION]])
        assert refused.value.finished == [QUESTION]
        with pytest.raises(InvalidValueError, match="on_stop"):
            langchain.install(on_stop="wrap-up")

    def test_installed_again_for_another_run_it_asks_that_one(
        self, langchain: Any, make: Make
    ) -> None:
        first, second = make(), make(max_api_calls=1)
        assert langchain.install(first) is langchain.install(second)
        self.model(langchain).generate([[QUESTION]])
        with pytest.raises(BudgetExceeded):
            self.model(langchain).generate([[QUESTION]])
        found = [monitor.get_usage_report().api_calls for monitor in (first, second)]
        assert found == [0, 1]

    def test_a_call_that_is_made_by_another_one_is_told_once(
        self, langchain: Any, make: Make
    ) -> None:
        langchain.install(brief=True)
        here = langchain.everywhere._EVERYWHERE
        with make(max_api_calls=5):
            told = here.told([QUESTION])
            assert (len(told), here.told(list(told))) == (2, told)
            assert len(here.told([*told, QUESTION])) == 4

    def test_calls_at_once_wait_for_the_first_ones_size_where_nothing_bounds_an_answer(
        self, langchain: Any
    ) -> None:
        expected = langchain.handler._expected
        assert expected([[QUESTION]], {}).tokens is None
        assert expected([[QUESTION]], {"invocation_params": {"max_tokens": 9}}).tokens > 9
