"""How far an agent is, where its framework knows: a list of todos, or steps against their limit.

Loads nothing of LangChain before LangGraph has.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

#: Of a graph's state: 0 to 1, or None for unknown.
Progress = Callable[[Any], float | None]
#: What ``create_agent`` sets where nobody said otherwise: no plan, but a brake.
_NO_LIMIT: Final = 9_999


def of_state(state: object) -> float | None:
    """Return how far an agent is by its todos, else by its steps; None: it does not know.

    Todos are those of ``TodoListMiddleware``, as deep agents have it, too: the share that is
    completed. Steps count only against a ``recursion_limit`` that the application chose.
    """
    todos = state.get("todos") if isinstance(state, Mapping) else getattr(state, "todos", None)
    by_todos = _of_todos(todos)
    return by_todos if by_todos is not None else _of_steps()


def _of_todos(todos: Any) -> float | None:
    if not isinstance(todos, list) or not todos:
        return None
    done: int = sum(isinstance(one, Mapping) and one.get("status") == "completed" for one in todos)
    return done / len(todos)


def _of_steps() -> float | None:
    """Return the share of the steps that were taken of those that the application allows."""
    module: Any = sys.modules.get("langgraph.config")
    if module is None:
        return None
    try:
        config = module.get_config()
    except RuntimeError:  # outside of a graph
        return None
    limit, step = config.get("recursion_limit"), config.get("metadata", {}).get("langgraph_step")
    # LangGraph's own default is an integer of another class.
    if type(limit) is not int or not 0 < limit < _NO_LIMIT or not isinstance(step, int):
        return None
    return min(1.0, max(0.0, (step - 1) / limit))
