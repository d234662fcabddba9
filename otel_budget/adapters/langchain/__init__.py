"""LangChain and LangGraph: count their model calls, and ask before each.

    handler = BudgetCallbackHandler()              # for the run of the context, or monitor=...
    agent.invoke(inputs, {"callbacks": [handler]})

or once for the whole process: ``install()``. An exception before a call reaches the application. An
agent made with ``create_agent(..., middleware=[stop_gracefully()])`` ends with what it has instead.
"""

from __future__ import annotations

from otel_budget.adapters.langchain.handler import (
    SCOPE,
    BudgetCallbackHandler,
    install,
    stop_gracefully,
)

__all__ = ["SCOPE", "BudgetCallbackHandler", "install", "stop_gracefully"]
