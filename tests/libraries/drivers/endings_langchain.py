"""Endings with LangChain's agents and LangGraph."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from langchain.agents import create_agent

from otel_budget.adapters import langchain as adapter
from tests.libraries.drivers.endings import Ended
from tests.libraries.drivers.endings_langchain_more import ASK, MORE, Report, chat_model

__all__ = ["KINDS", "MORE", "PACKAGES", "play"]

if TYPE_CHECKING:
    from tests.libraries.drivers.endings import Task

KINDS: Final = ("plain", "stream", "sub_agent", "parallel_tools", "structured")
PACKAGES: Final = ("langchain", "langgraph", "langchain-core", "langchain-openai")

adapter.install()


def agent(task: Task, **options: Any) -> Any:
    """Return the agent of a task."""
    model = chat_model(task.provider, task.model)

    def look_up(what: str) -> str:
        """Look something up."""
        return task.look_up(what)

    def delegate(work: str) -> str:
        """Have another agent do some work."""
        inner = create_agent(model, [look_up], name="inner", middleware=_middleware(task))
        done = inner.invoke({"messages": [{"role": "user", "content": work}]})
        return str(done["messages"][-1].content)

    tools: list[Callable[..., str]] = [look_up]
    if task.kind in ("sub_agent", "parallel_tools"):
        tools = [delegate]
    if task.kind == "structured":
        options["response_format"] = Report
    return create_agent(model, tools, name="root", middleware=_middleware(task), **options)


def _middleware(task: Task) -> list[Any]:
    return [adapter.middleware(on_stop=task.on_stop)]


def play(task: Task) -> Ended:
    """Play a task."""
    made = agent(task)
    if task.kind == "stream":
        *_, done = made.stream(ASK, stream_mode="values")
    else:
        done = made.invoke(ASK)
    return ended(done)


def ended(done: Any) -> Ended:
    """Return what an agent's state has in hand."""
    last = done["messages"][-1]
    report = done.get("structured_response")
    answer = last.content if report is None else report.answer
    return Ended(answer, adapter.cut_short(done), len(done["messages"]))
