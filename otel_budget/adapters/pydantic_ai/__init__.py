"""Pydantic AI: count its model requests, and ask before each; count its agents' calls of tools.

    agent = Agent(budgeted("openai:gpt-5"))    # for the run of the context, or monitor=...

or once for the whole process: ``install()``. A request that may not be made raises BudgetExceeded
out of the agent's run, ``finished`` has its messages; with ``on_stop="wrap_up"`` the model answers
once more with what there is, and ``cut_short(result)`` tells so.
"""

from __future__ import annotations

from otel_budget.adapters.pydantic_ai.everywhere import install, watch_models
from otel_budget.adapters.pydantic_ai.messages import cut_short
from otel_budget.adapters.pydantic_ai.model import SCOPE, BudgetModel, budgeted
from otel_budget.adapters.pydantic_ai.streams import watch_usage
from otel_budget.adapters.pydantic_ai.tools import watch_tools
from otel_budget.adapters.pydantic_ai.usage import said_by

__all__ = ["SCOPE", "BudgetModel", "budgeted", "cut_short", "install", "said_by", "watch_usage"]

watch_tools()
watch_models()
