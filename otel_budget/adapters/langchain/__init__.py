"""LangChain and LangGraph: count their model calls, and ask before each.

    handler = BudgetCallbackHandler()              # for the run of the context, or monitor=...
    agent.invoke(inputs, {"callbacks": [handler]})

or once for the whole process: ``install()``. An exception before a call reaches the application. An
agent made with ``create_agent(..., middleware=[middleware()])`` ends with one last answer instead.
"""

from __future__ import annotations

from otel_budget.adapters.langchain.endings import cut_short, middleware, stop_gracefully
from otel_budget.adapters.langchain.everywhere import install
from otel_budget.adapters.langchain.handler import SCOPE, BudgetCallbackHandler

__all__ = [
    "SCOPE",
    "BudgetCallbackHandler",
    "cut_short",
    "install",
    "middleware",
    "stop_gracefully",
]
