"""Requests with a budget: asked for before, counted after; the last one, if a run must stop."""

from __future__ import annotations

import copy
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic_ai._run_context import get_current_run_context
from pydantic_ai.models import Model, infer_model
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.wrapper import WrapperModel

from otel_budget.adapters import progress as progress_of
from otel_budget.adapters.base import register
from otel_budget.adapters.ending import AS_BEFORE, INSTRUCTION, Ending, OnStop
from otel_budget.adapters.pydantic_ai.messages import Asked, mark, settled
from otel_budget.adapters.pydantic_ai.streams import watch
from otel_budget.adapters.pydantic_ai.usage import said
from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.genai.reported_call import (
    Expected,
    HasUsageSink,
    ReportedCall,
    sink_of,
    text_size,
)
from otel_budget.genai.values import field

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from pydantic_ai.messages import ModelResponse
    from pydantic_ai.models import StreamedResponse

    from otel_budget.adapters.ending import CutShort
    from otel_budget.genai.call import UsageSink

    #: Tells how far an agent is, 0 to 1, from its ``RunContext`` (its ``deps``, above all); None:
    #: it cannot be told.
    Progress = Callable[[Any], float | None]

SCOPE: Final = register(
    "otel_budget.pydantic_ai", "Pydantic AI", "otel-budget's models for Pydantic AI"
)
#: The run of the call of a tool around this context: an agent in there is not the run's first.
INSIDE_TOOL: Final[ContextVar[UsageSink | None]] = ContextVar("otel_budget_tool", default=None)


@dataclass(frozen=True, slots=True)
class Budget:
    """What an application asked for: of one model, or of all."""

    monitor: HasUsageSink | None = None
    """Of the run; None: that of the context of each request."""
    ending: Ending = AS_BEFORE
    progress: Progress | None = None

    async def request(self, asks: Any, asked: Asked, model: Any) -> Any:
        """Ask, make the request, and count it. asks: makes it. model: as it is counted."""
        async with AsyncExitStack() as around:
            call, asked, cut = await self._begin(asked, around)
            try:
                with call.around():
                    response = await asks(*asked.args, **asked.about)
            except BaseException as exc:
                _close_unanswered(call, exc, model)
                raise
            call.close(**said(lambda: response))
            return mark(response, cut)

    @asynccontextmanager
    async def request_stream(
        self, asks: Any, asked: Asked, model: Any
    ) -> AsyncGenerator[StreamedResponse]:
        """Ask, open the stream, and count it when it is left."""
        async with AsyncExitStack() as around:
            call, asked, cut = await self._begin(asked, around)
            opened = AsyncExitStack()
            try:
                with call.around():
                    stream = await opened.enter_async_context(asks(*asked.args, **asked.about))
            except BaseException as exc:
                _close_unanswered(call, exc, model)
                raise
            failed, growth = False, watch(stream, cut)
            try:
                async with opened:
                    yield stream
            except Exception:
                failed = True
                raise
            finally:
                told = said(stream.get, growth)
                # An application that fails after the last event has its answer.
                call.close(failed=failed and told["output"] is None, **told)

    async def _begin(
        self, asked: Asked, around: AsyncExitStack
    ) -> tuple[ReportedCall, Asked, CutShort | None]:
        """Begin a call, or the last one: its mark is given then. around: holds what that needs."""
        sink = sink_of(self.monitor)
        self._report_progress(sink)
        try:
            call = await self._call(asked)
        except BudgetExceeded as stop:
            if sink is not None and INSIDE_TOOL.get() is sink:
                raise  # the run's first agent gives the last answer
            cut = around.enter_context(self.ending.last_call(sink, stop))
            asked = asked.without_tools(self.ending.instruction)
            return await self._call(asked), asked, cut
        return call, asked.says_last(self.ending.briefing(sink)), None

    async def _call(self, asked: Asked) -> ReportedCall:
        most = field(asked["model_settings"], "max_tokens")
        # Nothing else bounds an answer.
        expected = None if most is None else Expected(text_size(asked["messages"]), most)
        try:
            return await ReportedCall.begin(SCOPE, self.monitor, expected=expected)
        except BudgetExceeded as stop:
            stop.finished = settled(asked.messages)
            raise

    def _report_progress(self, sink: UsageSink | None) -> None:
        if self.progress is not None and (context := get_current_run_context()) is not None:
            progress_of.report(sink, self.progress(context))


def _close_unanswered(call: ReportedCall, exc: BaseException, model: Any) -> None:
    """Count a request without an answer. A cancelled one may be answered all the same."""
    call.close(
        failed=isinstance(exc, Exception), model=model.model_name, provider=model.system
    )  # fmt: skip


class BudgetModel(WrapperModel):
    """A model with a budget; all else is the wrapped model's own."""

    def __init__(
        self,
        wrapped: Model,
        monitor: HasUsageSink | None = None,
        *,
        ending: Ending = AS_BEFORE,
        progress: Progress | None = None,
    ) -> None:
        """Wrap a model. monitor: of the run, by default that of the context of each request."""
        super().__init__(wrapped)
        self.budget = Budget(monitor, ending, progress)

    @property
    def monitor(self) -> HasUsageSink | None:
        """Of the run; None: that of the context."""
        return self.budget.monitor

    async def request(self, *args: Any, **about: Any) -> ModelResponse:
        """Ask, make the request, and count it."""
        response: ModelResponse = await self.budget.request(
            self.wrapped.request, Asked(args, about), self
        )
        return response

    @asynccontextmanager
    async def request_stream(self, *args: Any, **about: Any) -> AsyncGenerator[StreamedResponse]:
        """Ask, open the stream, and count it when it is left."""
        asked = Asked(args, about)
        async with self.budget.request_stream(self.wrapped.request_stream, asked, self) as stream:
            yield stream


def budgeted(
    model: Model | str,
    monitor: HasUsageSink | None = None,
    *,
    on_stop: OnStop = "raise",
    instruction: str = INSTRUCTION,
    brief: bool = False,
    progress: Progress | None = None,
) -> Model:
    """Return a model whose requests are counted, and made only if the run may go on.

    model: also a name, as ``Agent`` takes it. Of a FallbackModel each model is counted by itself,
    so that attempts that failed are calls, too. monitor: of the run, by default that of the context
    of each request. on_stop: ``"raise"`` raises BudgetExceeded instead of a request that may not be
    made; ``"wrap_up"`` has the model answer once more with what there is, if the run is stopped in
    time. instruction: what it is told then. brief: have every request say what is left. progress:
    how far the agent is, from its ``RunContext``.
    """
    ending = Ending(on_stop, instruction, brief)
    return _wrapped(infer_model(model), monitor, ending, progress)


def _wrapped(
    model: Model, monitor: HasUsageSink | None, ending: Ending, progress: Progress | None
) -> Model:
    if not isinstance(model, FallbackModel):
        return BudgetModel(model, monitor, ending=ending, progress=progress)
    several = copy.copy(model)
    several.models = [_wrapped(each, monitor, ending, progress) for each in model.models]
    return several


def budget_of(model: object) -> Budget | None:
    """Return the budget that a model has, wraps or falls back on."""
    while isinstance(model, WrapperModel) and not isinstance(model, BudgetModel):
        model = model.wrapped
    if isinstance(model, FallbackModel):
        found = (budget_of(each) for each in model.models)
        return next((each for each in found if each is not None), None)
    return model.budget if isinstance(model, BudgetModel) else None
