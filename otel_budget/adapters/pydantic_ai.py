"""Pydantic AI: count its model requests, and ask before each; count its agents' calls of tools.

    agent = Agent(budgeted("openai:gpt-5"))    # for the run of the context, or monitor=...

A request that may not be made raises BudgetExceeded out of the agent's run;
``pydantic_ai.capture_run_messages`` keeps what the agent has by then. An agent whose model was set
elsewhere takes ``with agent.override(model=budgeted(...))``.
"""

from __future__ import annotations

import copy
import functools
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from pydantic_ai.models import Model, infer_model
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.toolsets import CombinedToolset

from otel_budget.adapters.base import register
from otel_budget.core import extras
from otel_budget.genai import billed
from otel_budget.genai.call_tracker import CALL_TRACKER
from otel_budget.genai.costs import charged
from otel_budget.genai.reported_call import HasUsageSink, ReportedCall, ReportedTool
from otel_budget.genai.running_total import RunningTotal
from otel_budget.genai.values import as_count, field

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from decimal import Decimal

    from pydantic_ai.messages import ModelResponse
    from pydantic_ai.models import StreamedResponse
    from pydantic_ai.usage import RequestUsage

SCOPE: Final = register(
    "otel_budget.pydantic_ai", "Pydantic AI", "otel-budget's models for Pydantic AI"
)
_INSTALLED: Final = "otel_budget_installed"


def budgeted(model: Model | str, monitor: HasUsageSink | None = None) -> Model:
    """Return a model whose requests are counted, and raise BudgetExceeded if the run must stop.

    model: also a name, as ``Agent`` takes it. Of a FallbackModel each model is counted by itself,
    so that attempts that failed are calls, too. monitor: of the run, by default that of the context
    of each request.
    """
    model = infer_model(model)
    if not isinstance(model, FallbackModel):
        return BudgetModel(model, monitor)
    several = copy.copy(model)
    several.models = [budgeted(each, monitor) for each in model.models]
    return several


class BudgetModel(WrapperModel):
    """A model with a budget; all else is the wrapped model's own."""

    def __init__(self, wrapped: Model, monitor: HasUsageSink | None = None) -> None:
        """Wrap a model. monitor: of the run, by default that of the context of each request."""
        super().__init__(wrapped)
        self.monitor = monitor
        _count_tools()

    async def request(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """Ask, make the request, and count it."""
        call = ReportedCall(SCOPE, self.monitor)
        try:
            with call.around():
                response = await self.wrapped.request(*args, **kwargs)
        except BaseException as exc:
            self._close_unanswered(call, exc)
            raise
        call.close(**_said(lambda: response))
        return response

    @asynccontextmanager
    async def request_stream(self, *args: Any, **kwargs: Any) -> AsyncGenerator[StreamedResponse]:
        """Ask, open the stream, and count it when it is left."""
        call, opened = ReportedCall(SCOPE, self.monitor), AsyncExitStack()
        try:
            with call.around():
                stream = await opened.enter_async_context(
                    self.wrapped.request_stream(*args, **kwargs)
                )
        except BaseException as exc:
            self._close_unanswered(call, exc)
            raise
        failed, growth = False, watch_usage(stream)
        try:
            async with opened:
                yield stream
        except Exception:
            failed = True
            raise
        finally:
            said = _said(stream.get, growth)
            # An application that fails after the last event has its answer.
            call.close(failed=failed and said["output"] is None, **said)

    def _close_unanswered(self, call: ReportedCall, exc: BaseException) -> None:
        """Count a request without an answer. A cancelled one may be answered all the same."""
        failed = isinstance(exc, Exception)
        call.close(failed=failed, model=self.model_name, provider=self.system)


def _count_tools() -> None:
    """Count every call of a tool of an agent whose model has a budget.

    What an agent calls is in one CombinedToolset, whatever it was given: a model sees only which
    calls it asked for. Sets of sets pass a call on with its id, so it counts once.
    """
    plain = CombinedToolset.call_tool
    if getattr(plain, _INSTALLED, False):
        return

    @functools.wraps(plain)
    async def call_tool(self: Any, name: str, tool_args: Any, ctx: Any, tool: Any) -> Any:
        model = _budget_of(ctx.model)
        if model is None or tool.tool_def.kind == "output":  # the answer, in the form of a call
            return await plain(self, name, tool_args, ctx, tool)
        reported = ReportedTool(SCOPE, model.monitor, name, call_id=ctx.tool_call_id)
        try:
            return await plain(self, name, tool_args, ctx, tool)
        finally:
            reported.close()

    setattr(call_tool, _INSTALLED, True)
    CombinedToolset.call_tool = call_tool  # type: ignore[method-assign] # of all agents there are


def _budget_of(model: object) -> BudgetModel | None:
    """Return the model with a budget that a model is, wraps or falls back on."""
    while isinstance(model, WrapperModel) and not isinstance(model, BudgetModel):
        model = model.wrapped
    if isinstance(model, FallbackModel):
        found = (_budget_of(each) for each in model.models)
        return next((each for each in found if each is not None), None)
    return model if isinstance(model, BudgetModel) else None


def _said(response: Callable[[], ModelResponse], growth: Growth | None = None) -> dict[str, Any]:
    """Return what a response says. Never raises, whatever a model of the application's returns."""
    try:
        return said_by(response(), growth)
    except Exception:  # noqa: BLE001 - it must not end the user's model call
        CALL_TRACKER.broken("ends")
        return {"output": None}


def said_by(response: ModelResponse, growth: Growth | None = None) -> dict[str, Any]:
    """Return what a response says of its call, for ``report_of``. Its input has the cached tokens.

    Of a stream that was left before its end the output so far is not what was paid for: it is
    unknown. growth: of a stream's usage.
    """
    usage = response.usage if growth is None else growth.usage(response.usage)
    details = getattr(response, "provider_details", None)
    is_whole = getattr(response, "state", "complete") == "complete"
    return {
        "input": usage.input_tokens,
        "output": usage.output_tokens if is_whole else None,
        "cached": usage.cache_read_tokens,
        "cache_write": usage.cache_write_tokens,
        "reasoning": _reasoning(usage) if is_whole else None,
        "model": response.model_name,
        "provider": response.provider_name,
        "response_id": response.provider_response_id,
        "charge": _charge(details),
        "service_tier": billed.tier_in_usage(details) or field(details, "traffic_type"),
        "extras": billed.in_usage(details) | _extras(usage, getattr(response, "parts", None)),
        "estimate": getattr(usage, "cost", None),  # since version 2
    }


def _charge(details: object) -> Decimal | None:
    """Return what OpenRouter charged. Pydantic AI leaves a 0 out, and keeps what comes with it."""
    free = isinstance(details, dict) and "is_byok" in details and "cost" not in details
    return charged({"cost": 0, **details} if free else details)  # type: ignore[dict-item] # free says so


def _extras(usage: Any, parts: object) -> Counter[str]:
    """Return what is billed beside plain tokens. The usage has genai-prices' names for it."""
    details = getattr(usage, "details", None) or {}
    found = {name: as_count(getattr(usage, name, details.get(name))) or 0 for name in extras.NAMES}
    files = as_count(getattr(usage, "storage_searches", None))
    found[extras.FILE_SEARCHES] = found[extras.FILE_SEARCHES] or files or 0
    hour, searches = "ephemeral_1h_input_tokens", "web_search_requests"
    found[extras.CACHE_WRITE_1H] = found[extras.CACHE_WRITE_1H] or as_count(details.get(hour)) or 0
    by_tool = billed.tools_in(parts)
    said = found[extras.WEB_SEARCHES] or as_count(details.get(searches))
    if said:  # Google bills an answer of older models once, however many queries it has
        by_tool.pop(extras.WEB_SEARCHES, None)
        found[extras.WEB_SEARCHES] = said
    return Counter(found) | by_tool


def _reasoning(usage: RequestUsage) -> int | None:
    """Return the output that was reasoning. Version 1 has it among the provider's own details."""
    if hasattr(usage, "output_reasoning_tokens"):
        return usage.output_reasoning_tokens  # type: ignore[no-any-return] # not installed here
    details = usage.details or {}
    return details.get("reasoning_tokens", details.get("thinking_tokens"))


class Growth:
    """Watches the usage of one stream: Pydantic AI adds up what a server repeats in each chunk."""

    def __init__(self) -> None:
        self._total = RunningTotal()
        self._last: dict[str, Any] = {}

    def see(self, before: Any, after: Any) -> None:
        """Take in that something was added to the usage."""
        added = _difference(vars(after), {} if before is None else vars(before))
        into, out = added.get("input_tokens", 0), added.get("output_tokens", 0)
        if into or out:
            self._last = added
        self._total.see(into, out)

    def usage(self, summed: Any) -> Any:
        """Return what the stream used. summed: as Pydantic AI says it."""
        if not self._total.is_added_up(summed.input_tokens, summed.output_tokens):
            return summed
        into, out = self._total.used
        used = copy.copy(summed)
        nothing: dict[str, Any] = {**dict.fromkeys(vars(summed), 0), "details": {}, "cost": None}
        vars(used).update(nothing | self._last)
        used.input_tokens, used.output_tokens = into, out
        return used


def _usage_of_stream(stream: Any) -> Any:
    return vars(stream)["_usage"]


def _set_usage_of_stream(stream: Any, usage: Any) -> None:
    growth: Growth = vars(stream)["otel_budget"]
    growth.see(vars(stream).get("_usage"), usage)
    vars(stream)["_usage"] = usage


@functools.cache
def _watched(kind: type) -> type:
    """Return a class of streams each of which has its changes of usage seen."""
    return type(
        kind.__name__, (kind,), {"_usage": property(_usage_of_stream, _set_usage_of_stream)}
    )


def watch_usage(stream: Any) -> Growth | None:
    """Watch a stream's usage from now on; None if that is not possible.

    It stays the object it is, and an instance of its class.
    """
    while hasattr(stream, "wrapped"):
        stream = stream.wrapped
    growth = Growth()
    try:
        vars(stream)["otel_budget"] = growth
        stream.__class__ = _watched(stream.__class__)
    except TypeError:  # of a class that has no such attributes
        return None
    return growth


def _difference(after: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Return how much was added to each count, and to those among the provider's details."""
    added: dict[str, Any] = {}
    for name, value in after.items():
        was = before.get(name)
        if isinstance(value, dict):
            added[name] = _difference(value, was if isinstance(was, dict) else {})
        elif isinstance(value, int | float):
            added[name] = value - (was or 0)
    return added
