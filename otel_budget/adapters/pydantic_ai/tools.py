"""Calls of tools: counted, and what becomes of a stop inside one.

What an agent calls is in one CombinedToolset, whatever it was given: a model sees only which calls
it asked for. A stop inside, of a sub-agent mostly, is no error of the tool: it ends the agent
around it, too, or has that agent give the last answer.
"""

from __future__ import annotations

import functools
from typing import Any, Final

from pydantic_ai.toolsets import CombinedToolset

from otel_budget.adapters.pydantic_ai.everywhere import EVERYWHERE
from otel_budget.adapters.pydantic_ai.messages import settled, unfinished
from otel_budget.adapters.pydantic_ai.model import INSIDE_TOOL, SCOPE, Budget, budget_of
from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.genai.reported_call import ReportedTool, sink_of

_INSTALLED: Final = "otel_budget_installed"


def watch_tools() -> None:
    """Count every call of a tool of an agent whose model has a budget.

    Sets of sets pass a call on with its id, so it counts once.
    """
    plain = CombinedToolset.call_tool
    if getattr(plain, _INSTALLED, False):
        return

    @functools.wraps(plain)
    async def call_tool(self: Any, name: str, tool_args: Any, ctx: Any, tool: Any) -> Any:
        budget = budget_of(ctx.model) or EVERYWHERE.budget
        if budget is None or tool.tool_def.kind == "output":  # the answer, in the form of a call
            return await plain(self, name, tool_args, ctx, tool)
        reported = ReportedTool(SCOPE, budget.monitor, name, call_id=ctx.tool_call_id)
        token = INSIDE_TOOL.set(sink_of(budget.monitor))
        try:
            return await plain(self, name, tool_args, ctx, tool)
        except BudgetExceeded as stop:
            return _stopped(budget, stop, ctx)
        finally:
            INSIDE_TOOL.reset(token)
            reported.close()

    setattr(call_tool, _INSTALLED, True)
    CombinedToolset.call_tool = call_tool  # type: ignore[method-assign] # of all agents there are


def _stopped(budget: Budget, stop: BudgetExceeded, ctx: Any) -> str:
    """Return what the tool says, if the agent is to give the last answer; else raise the stop."""
    by_then, stop.finished = stop.finished, settled(getattr(ctx, "messages", None) or ())
    if by_then is not None:
        stop.finished_inside = (*stop.finished_inside, by_then)
    sink = sink_of(budget.monitor)
    is_ours = sink is not None and sink.session_id == stop.verdict.session_id
    if not is_ours or budget.ending.on_stop == "raise" or stop.verdict.wrap_up is None:
        raise stop  # of another run, too: the agent goes on, and would take it for the tool's error
    return unfinished(stop.verdict.message, by_then)
