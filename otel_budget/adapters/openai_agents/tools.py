"""What becomes of a stop inside a tool: of an agent as a tool, or of one that a function runs.

The SDK hands errors of tools to the model, which would take a stop for a fault of the tool. Here it
ends the runs around it, and surfaces once, at the first of them; or, where that one is to give the
last answer, the tool says that it was not finished.
"""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any, Final

from agents import tool as sdk_tools

from otel_budget.adapters.openai_agents.everywhere import EVERYWHERE
from otel_budget.adapters.openai_agents.models import Budget, BudgetModel, BudgetModelProvider
from otel_budget.adapters.openai_agents.stops import StoppedByBudget, stop_in, unfinished
from otel_budget.genai.reported_call import sink_of
from otel_budget.genai.values import field
from otel_budget.logs.logger import logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_budget.genai.call import UsageSink

#: The SDK's class that calls a tool and hands its errors to the model.
_INVOKER: Final = "_FailureHandlingFunctionToolInvoker"
_INSTALLED: Final = "otel_budget_installed"


def watch_stops_in_tools() -> None:
    """Have stops get through tools. Says so where this version of the SDK does not let them."""
    invoker = getattr(sdk_tools, _INVOKER, None)
    plain = getattr(invoker, "__call__", None)  # noqa: B004 - its own function is wanted
    if invoker is None or plain is None:
        logger.warning(
            "this version of OpenAI Agents hands what an agent in a tool raises to the model: a "
            "stop in there ends the run only at its next call"
        )
        return
    if getattr(plain, _INSTALLED, False):
        return

    @functools.wraps(plain)
    async def call(self: Any, ctx: Any, arguments: str) -> Any:
        stopped: list[StoppedByBudget] = []

        async def invoke(ctx: Any, arguments: str) -> Any:
            try:
                return await self._invoke_tool_impl(ctx, arguments)
            except Exception as exc:
                stop = stop_in(exc)
                if stop is None:
                    raise
                stopped.append(stop)
                told = unfinished(stop)
                stop.came_through_a_tool()
                return told

        quiet = copy.copy(self)
        quiet._invoke_tool_impl = invoke  # noqa: SLF001 - else the SDK logs the stop as an error
        output = await plain(quiet, ctx, arguments)
        if stopped and not _may_be_told(stopped[0], ctx):
            raise stopped[0]
        return output

    setattr(call, _INSTALLED, True)
    invoker.__call__ = call


def _may_be_told(stop: StoppedByBudget, ctx: Any) -> bool:
    """Tell whether the agent that called the tool gives a last answer."""
    return stop.verdict.wrap_up is not None and any(
        budget.ending.on_stop == "wrap_up" and _is_stopped(sink_of(budget.monitor), stop)
        for budget in _budgets(ctx)
    )


def _is_stopped(sink: UsageSink | None, stop: StoppedByBudget) -> bool:
    """Tell whether it is this run that must stop: another one's stop does not end its agents."""
    return sink is not None and sink.session_id == stop.verdict.session_id


def _budgets(ctx: Any) -> Iterator[Budget]:
    """Yield the budget of the model of the agent that called a tool."""
    config = getattr(ctx, "run_config", None)
    chosen = (
        field(config, "model"), getattr(getattr(ctx, "agent", None), "model", None),
        field(config, "model_provider"),
    )  # fmt: skip
    found = [each.budget for each in chosen if isinstance(each, BudgetModel | BudgetModelProvider)]
    yield from found[:1] or ([] if EVERYWHERE.budget is None else [EVERYWHERE.budget])
