"""The refusal as LangGraph lets it through: loaded only where LangGraph is."""

from __future__ import annotations

from langgraph.errors import GraphBubbleUp

from otel_budget.core.exceeded import BudgetExceeded


class StoppedByBudget(BudgetExceeded, GraphBubbleUp):
    """A stop that no graph takes for a failure of a node or a tool.

    So it is neither retried nor handed to a model as what a tool said, whatever a tool node or a
    middleware does with errors, and a checkpoint does not keep it as one.
    """
