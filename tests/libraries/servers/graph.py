"""A LangGraph application in a streaming endpoint: nodes side by side, and tools, in threads."""

import contextvars
import json
import operator
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any, TypedDict

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, StateGraph

from otel_budget import ResourceMonitor, unattributed_usage
from otel_budget.adapters.langchain import install

NODES = ("first", "left", "right", "last")
ENDED = object()
USAGE = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}


class State(TypedDict):
    """What the nodes add up."""

    done: Annotated[list[int], operator.add]


def node(_state: State) -> dict[str, list[int]]:
    """Ask a model."""
    answers = iter([AIMessage("hi", usage_metadata=USAGE)])
    GenericFakeChatModel(messages=answers).invoke("question")
    return {"done": [1]}


def graph() -> Any:
    """Return a graph of four nodes, two of them side by side."""
    builder = StateGraph(State)
    for name in NODES:
        builder.add_node(name, node)
    edges = [(START, "first"), ("first", "left"), ("first", "right"), ("left", "last"),
             ("right", "last"), ("last", END)]  # fmt: skip
    for one, other in edges:
        builder.add_edge(one, other)
    return builder.compile()


def answer(monitor: ResourceMonitor) -> Iterator[Any]:
    """Stream a graph inside its run."""
    with monitor:
        yield from graph().stream({"done": []})


def unattributed(work: Callable[[], Any]) -> Any:
    """Do something as a web server does: in a thread, in a copy of the context."""
    found: list[Any] = []
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(lambda: found.append(work()),))
    thread.start()
    thread.join()
    return found[0]


def main() -> None:
    """Stream three at once; print the calls of each, and of none."""
    install()
    monitors = [ResourceMonitor(session_id=f"graph-{n}") for n in range(3)]
    going_on = [answer(monitor) for monitor in monitors]
    while going_on:
        going_on = [one for one in going_on if unattributed(partial(next, one, ENDED)) is not ENDED]
    calls = [monitor.get_usage_report().api_calls for monitor in monitors]
    print(json.dumps([*calls, unattributed_usage().api_calls]))


if __name__ == "__main__":
    main()
