"""OpenAI's Agents SDK: count the calls of a model, and ask before each; count calls of tools.

    install()                                                           # all models of the SDK's
    await Runner.run(agent, "...", run_config=RunConfig(model_provider=BudgetModelProvider()))
    Agent(name="...", model=BudgetModel(OpenAIResponsesModel(...)))     # or one model

``StoppedByBudget`` ends the run before the call, and has what the agents have by then; with
``on_stop="wrap_up"`` the model answers once more with what there is; ``cut_short(result)`` tells
so. The run's own hooks and guardrails stay as they are. The models are wrapped because hooks, which
could ask before a call, too, are told nothing of calls that fail.
"""

from __future__ import annotations

from otel_budget.adapters.openai_agents.everywhere import install, watch_models
from otel_budget.adapters.openai_agents.models import SCOPE, BudgetModel, BudgetModelProvider
from otel_budget.adapters.openai_agents.runner import watch_runner
from otel_budget.adapters.openai_agents.runs import AgentRun, cut_short, turns
from otel_budget.adapters.openai_agents.stops import StoppedByBudget
from otel_budget.adapters.openai_agents.tools import watch_stops_in_tools
from otel_budget.adapters.openai_agents.usage import said_by

__all__ = [
    "SCOPE",
    "AgentRun",
    "BudgetModel",
    "BudgetModelProvider",
    "StoppedByBudget",
    "cut_short",
    "install",
    "said_by",
    "turns",
]

watch_runner()  # here: a run may be begun in the line in which its first BudgetModel is made
watch_models()
watch_stops_in_tools()
