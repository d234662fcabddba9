"""What holds for LangChain and LangGraph alone, by name: each raises AssertionError if it does not.

The requests that the provider got are the truth.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from langchain.agents import create_agent
from langchain.agents.middleware import TodoListMiddleware, ToolRetryMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from openai import DefaultAsyncHttpxClient
from pydantic import BaseModel

from otel_budget import BudgetExceeded, ResourceLimits, ResourceMonitor
from otel_budget.adapters.langchain import cut_short, install, middleware
from otel_budget.adapters.langchain.last_call import answered
from tests.libraries.provider import FINAL, Answer, Conversation, Spent, ToolCall

if TYPE_CHECKING:
    from tests.libraries.provider import Provider

ASK: Final = {"messages": [{"role": "user", "content": "What is known of x?"}]}
THREAD: Final = {"configurable": {"thread_id": "1"}}
LOOK_UP: Final = Answer(tools=(ToolCall("look_up", {"what": "x"}),))
MORE: Final[dict[str, Callable[[Provider], None]]] = {}


def more(check: Callable[[Provider], None]) -> Callable[[Provider], None]:
    """Have a check played, by its name."""
    MORE[check.__name__] = check
    return check


class Report(BaseModel):
    """What is known."""

    answer: str


def look_up(what: str) -> str:
    """Look something up."""
    return f"found {what}"


class Seen:
    """A tool that takes note of the progress that the run was told."""

    def __init__(self, monitor: ResourceMonitor) -> None:
        """Nothing yet."""
        self._monitor, self.progress = monitor, list[float | None]()

    def look_up(self, what: str) -> str:
        """Look something up."""
        self.progress.append(self._monitor.verdict.progress)
        return f"found {what}"


def chat_model(provider: Provider, name: str = "gpt-4o-mini", **options: Any) -> Any:
    """Return a model behind the provider."""
    given = {
        "api_key": "sk-fake",
        "base_url": provider.openai_url,
        "max_retries": 0,
        "stream_usage": True,
    } | options
    # LangChain shares clients between models; one of an event loop is of no use in the next.
    return ChatOpenAI(model=name, http_async_client=DefaultAsyncHttpxClient(), **given)


@contextmanager
def run(calls: int = 4, **limits: Any) -> Iterator[ResourceMonitor]:
    """Enter a run of so many calls, one of which is kept back."""
    with ResourceMonitor(ResourceLimits.only(max_api_calls=calls, **limits)) as monitor:
        yield monitor


def conversation(provider: Provider) -> Conversation:
    """Have the provider talk; return what it is asked."""
    talk = Conversation()
    provider.decide(talk)
    return talk


def root(provider: Provider, *others: Any, tools: Any = (look_up,), **options: Any) -> Any:
    """Return an agent that wraps up."""
    ways = {name: options.pop(name) for name in ("on_stop", "brief") if name in options}
    return create_agent(
        chat_model(provider), list(tools), middleware=[middleware(**ways), *others], **options
    )


def stopped(play: Callable[[], object]) -> BudgetExceeded:
    """Return the stop that ends something."""
    try:
        play()
    except BudgetExceeded as stop:
        return stop
    raise AssertionError("nothing was raised")


def is_valid(talk: Conversation) -> None:
    """Check that each tool call in each request is answered at once, as providers want it."""
    for asked in talk.asked:
        left: set[str] = set()
        for message in json.loads(asked.text)["messages"]:
            if message["role"] == "tool":
                left.remove(message["tool_call_id"])
            else:
                assert not left, message
            left |= {call["id"] for call in message.get("tool_calls") or ()}
        assert not left


@more
def a_coroutine_ends_with_an_answer(provider: Provider) -> None:
    talk = conversation(provider)
    with run(wrap_up_calls=1) as monitor:
        done = asyncio.run(root(provider).ainvoke(ASK))
    assert done["messages"][-1].content == FINAL
    assert cut_short(done) is not None
    assert len(talk.asked) == monitor.get_usage_report().api_calls == 4


@more
def a_stream_of_a_coroutine_ends_with_an_answer(provider: Provider) -> None:
    conversation(provider)

    async def read() -> str:
        said = ""
        stream = root(provider).astream(ASK, stream_mode="messages")
        async for chunk, _about in stream:
            said += chunk.content if chunk.type == "AIMessageChunk" else ""
        return said

    with run(wrap_up_calls=1):
        assert asyncio.run(read()) == FINAL


@more
def a_stop_in_a_coroutine_of_a_sub_agent_surfaces_once_with_both_agents_messages(
    provider: Provider,
) -> None:
    talk = conversation(provider)

    async def delegate(work: str) -> str:
        """Have another agent do some work."""
        done = await root(provider, on_stop="raise").ainvoke({"messages": [HumanMessage(work)]})
        return str(done["messages"][-1].content)

    agent = root(provider, ToolRetryMiddleware(), tools=[delegate], on_stop="raise")
    with run(wrap_up_calls=1):
        stop = stopped(lambda: asyncio.run(agent.ainvoke(ASK)))
    said = [message.content for message in stop.finished]
    assert said[0] == ASK["messages"][0]["content"]
    assert said[-1] == "found x"
    assert "Exceeded" not in "".join(asked.text for asked in talk.asked)


@more
def no_tool_node_hands_a_stop_to_the_model(provider: Provider) -> None:
    """A graph of one's own, whose tool node hands all errors on; counted by install() alone."""
    talk = conversation(provider)
    model = chat_model(provider)

    def delegate(work: str) -> str:
        """Have another agent do some work."""
        done = create_agent(model, [look_up]).invoke({"messages": [HumanMessage(work)]})
        return str(done["messages"][-1].content)

    bound = model.bind_tools([delegate])
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [bound.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode([delegate], handle_tool_errors=True))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", lambda s: "tools" if s["messages"][-1].tool_calls else END)
    graph.add_edge("tools", "model")
    with run(wrap_up_calls=1):
        assert stopped(lambda: graph.compile().invoke(ASK)).finished
    assert len(talk.asked) == 3


@more
def a_thread_goes_on_where_it_was_stopped(provider: Provider) -> None:
    """From the checkpoint, once the limit was raised."""
    talk = conversation(provider)
    agent = root(provider, checkpointer=InMemorySaver(), on_stop="raise")
    with run(wrap_up_calls=1) as monitor:
        stop = stopped(lambda: agent.invoke(ASK, THREAD))
        kept = agent.get_state(THREAD).values["messages"]
        assert [one.content for one in stop.finished] == [one.content for one in kept]
        monitor.update_limits(max_api_calls=6)
        assert len(stopped(lambda: agent.invoke(None, THREAD)).finished) == len(kept) + 4
    assert len(talk.asked) == 5
    is_valid(talk)


@more
def a_thread_that_was_cut_short_can_be_asked_on(provider: Provider) -> None:
    talk = conversation(provider)
    agent = root(provider, checkpointer=InMemorySaver())
    with run(wrap_up_calls=1):
        assert cut_short(agent.invoke(ASK, THREAD)) is not None
    with run(3):
        talk.asked.clear()
        provider.decide(lambda body: talk(body) if len(talk.asked) < 2 else Answer(text="done"))
        done = agent.invoke({"messages": [HumanMessage("And now?")]}, THREAD)
    assert done["messages"][-1].content == "done"
    assert cut_short(done) is None
    assert "last answer" not in talk.asked[-1].text
    is_valid(talk)


@more
def tool_calls_that_were_left_are_answered(provider: Provider) -> None:
    """A thread that was stopped in a tool is asked something else."""
    conversation(provider)

    def delegate(work: str) -> str:
        """Have another agent do some work."""
        done = root(provider, on_stop="raise").invoke({"messages": [HumanMessage(work)]})
        return str(done["messages"][-1].content)

    agent = root(provider, tools=[delegate], checkpointer=InMemorySaver(), on_stop="raise")
    with run(wrap_up_calls=1):
        assert stopped(lambda: agent.invoke(ASK, THREAD)).finished
    talk = conversation(provider)
    asked = {"messages": [HumanMessage("And now?")]}
    with run(2, wrap_up_calls=1):
        assert stopped(lambda: agent.invoke(asked, THREAD)).finished
    assert talk.asked
    is_valid(talk)


@more
def a_model_that_asks_for_a_tool_in_its_last_call_gets_none(provider: Provider) -> None:
    asked = []
    provider.decide(lambda body: asked.append(body) or LOOK_UP)  # type: ignore[func-returns-value]
    with run(wrap_up_calls=1):
        done = root(provider).invoke(ASK)
    assert len(asked) == 4
    assert "tools" not in asked[-1], asked[-1]
    assert not done["messages"][-1].tool_calls
    assert cut_short(done) is not None


@more
def a_structured_answer_by_a_tool_is_made_in_the_last_call(provider: Provider) -> None:
    conversation(provider)
    with run(wrap_up_calls=1):
        done = root(provider, response_format=ToolStrategy(Report)).invoke(ASK)
    assert done["structured_response"] == Report(answer=FINAL)
    assert cut_short(done) is not None


@more
def a_last_answer_that_is_no_report_is_an_answer_all_the_same(provider: Provider) -> None:
    talk = Conversation()
    provider.decide(lambda body: Answer(text="no JSON") if not body.get("tools") else talk(body))
    with run(wrap_up_calls=1):
        done = root(provider, response_format=Report).invoke(ASK)
    assert done["messages"][-1].content == "no JSON"
    assert cut_short(done) is not None
    assert done.get("structured_response") is None


@more
def every_call_says_what_is_left_and_the_state_does_not(provider: Provider) -> None:
    talk = conversation(provider)
    with run(wrap_up_calls=1) as monitor:
        first = str(monitor.briefing())
        done = root(provider, brief=True).invoke(ASK)
    assert first in talk.asked[0].text
    assert all(len(json.loads(a.text)["messages"]) % 2 == 0 for a in talk.asked)
    assert len(done["messages"]) == 8  # the question, three times two, the answer


@more
def progress_is_that_of_the_todos(provider: Provider) -> None:
    talk, asked = Conversation(), list[Any]()
    todos = [{"content": "a", "status": "completed"}, {"content": "b", "status": "pending"}]
    plan = Answer(tools=(ToolCall("write_todos", {"todos": todos}),))
    provider.decide(lambda body: asked.append(body) or plan if not asked else talk(body))  # type: ignore[func-returns-value]
    with run(20, wrap_up_calls=1) as monitor:
        agent = root(provider, TodoListMiddleware(), tools=[(tool := Seen(monitor)).look_up])
        agent.invoke(ASK)
    assert tool.progress[0] == 0.5


@more
def progress_is_that_of_the_steps_a_graph_may_take(provider: Provider) -> None:
    conversation(provider)
    with run(9, wrap_up_calls=1) as monitor:
        tools = [(tool := Seen(monitor)).look_up]
        root(provider, tools=tools).invoke(ASK, {"recursion_limit": 20})
        assert tool.progress[:3] == [0.0, 0.1, 0.2]
    with run(9, wrap_up_calls=1) as monitor:
        root(provider, tools=[(tool := Seen(monitor)).look_up]).invoke(ASK)
        assert tool.progress[:3] == [None] * 3


def loop(bound: Any) -> Any:
    """Return a graph of one's own around a model."""
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [bound.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode([look_up]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", lambda s: "tools" if s["messages"][-1].tool_calls else END)
    graph.add_edge("tools", "model")
    return graph.compile()


@contextmanager
def installed(**ways: Any) -> Iterator[None]:
    """Have all models of the process end so."""
    install(**ways)
    try:
        yield
    finally:
        install()


@more
def a_graph_of_ones_own_ends_with_an_answer(provider: Provider) -> None:
    """By install() alone; streamed and in a coroutine, too."""
    graph = loop(chat_model(provider).bind_tools([look_up]))
    with installed(on_stop="wrap_up"):
        for play in (
            graph.invoke,
            lambda asked: asyncio.run(graph.ainvoke(asked)),
            lambda asked: list(graph.stream(asked, stream_mode="values"))[-1],
        ):
            talk = conversation(provider)
            with run(wrap_up_calls=1) as monitor:
                done = play(ASK)
                assert stopped(lambda: chat_model(provider).invoke("more")).finished
            assert done["messages"][-1].content == FINAL
            assert cut_short(done) is not None
            assert len(talk.asked) == monitor.get_usage_report().api_calls == 4


@more
def a_stream_of_a_model_ends_with_an_answer(provider: Provider) -> None:
    async def read() -> Any:
        whole = None
        async for chunk in chat_model(provider).bind_tools([look_up]).astream("x"):
            whole = chunk if whole is None else whole + chunk
        return whole

    def read_now() -> Any:
        whole, *chunks = chat_model(provider).bind_tools([look_up]).stream("x")
        for chunk in chunks:
            whole = whole + chunk
        return whole

    with installed(on_stop="wrap_up"):
        for play in (read_now, lambda: asyncio.run(read())):
            conversation(provider)
            with run(3, wrap_up_calls=1):
                assert play().tool_calls
                assert play().tool_calls
                last = play()
                assert stopped(play).finished
            assert last.content == FINAL
            assert cut_short(last) is not None


@more
def a_report_that_a_chain_must_give_is_given_in_the_last_call(provider: Provider) -> None:
    conversation(provider)
    chain = chat_model(provider).with_structured_output(Report, method="function_calling")
    with installed(on_stop="wrap_up"), run(1, wrap_up_calls=1):
        assert chain.invoke("x") == Report(answer=FINAL)


def block(name: str) -> str:
    """Return a block of the page on endings."""
    page = (Path(__file__).parents[3] / "docs" / "ending-well.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- run: {name} -->\n```python\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found[1]


@more
def what_the_page_says_to_write_ends_with_an_answer(provider: Provider) -> None:
    talk = Conversation(spent=lambda messages: Spent(5000 + 2000 * messages, 20))
    provider.decide(talk)
    names: dict[str, Any] = {"model": chat_model(provider), "tools": [look_up]}
    exec(block("langchain"), names)  # noqa: S102 - our own page
    assert names["answer"] == FINAL
    assert names["cut"].reason == "wrap_up"
    assert 100_000 < names["monitor"].get_usage_report().tokens <= 200_000


@more
def a_graph_that_looks_for_itself_ends_as_the_page_says(provider: Provider) -> None:
    conversation(provider)
    model = chat_model(provider)
    bound = model.bind_tools([look_up])
    with run(wrap_up_calls=1) as monitor:
        names: dict[str, Any] = {"monitor": monitor}
        exec(block("langgraph"), names)  # noqa: S102 - our own page

        def finish(state: Any) -> Any:
            with monitor.wrap_up():
                return {"messages": [model.invoke(list(answered(state["messages"])))]}

        graph = StateGraph(MessagesState)
        graph.add_node("model", lambda state: {"messages": [bound.invoke(state["messages"])]})
        graph.add_node("tools", ToolNode([look_up]))
        graph.add_node("finish", finish)
        graph.add_edge(START, "model")
        graph.add_conditional_edges("model", names["where_next"], ["tools", "finish"])
        graph.add_edge("tools", "model")
        graph.add_edge("finish", END)
        done = graph.compile().invoke(ASK)
    assert done["messages"][-1].content == FINAL
    assert monitor.get_usage_report().api_calls == 4
