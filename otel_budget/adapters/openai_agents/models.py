"""Models with a budget: each call is asked for before, counted after; the last one, at a stop."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agents.models.interface import Model, ModelProvider
from agents.models.multi_provider import MultiProvider

from otel_budget.adapters import progress as progress_of
from otel_budget.adapters.base import register
from otel_budget.adapters.ending import AS_BEFORE, INSTRUCTION, Ending, OnStop
from otel_budget.adapters.openai_agents.asked import Asked
from otel_budget.adapters.openai_agents.runs import RUN, AgentRun, turns
from otel_budget.adapters.openai_agents.stops import StoppedByBudget
from otel_budget.adapters.openai_agents.usage import asked_tier, id_of, said_by
from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.genai.reported_call import (
    Expected,
    HasUsageSink,
    ReportedCall,
    sink_of,
    text_size,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agents.items import ModelResponse, TResponseStreamEvent

    from otel_budget.adapters.ending import CutShort
    from otel_budget.genai.call import UsageSink

    #: Tells how far a run of the Runner is, 0 to 1; None: it cannot be told.
    Progress = Callable[[AgentRun], float | None]

SCOPE: Final = register(
    "otel_budget.openai_agents", "OpenAI Agents", "otel-budget's models for OpenAI Agents",
    streaming_advice="pass ModelSettings(include_usage=True)",
)  # fmt: skip
_FAILED: Final = "response.failed"
_ENDED: Final = ("response.completed", "response.incomplete", _FAILED)


@dataclass(frozen=True, slots=True)
class Budget:
    """What an application asked for: of one model, of a provider's, or of all."""

    monitor: HasUsageSink | None = None
    """Of the run; None: that of the context of each call."""
    ending: Ending = AS_BEFORE
    progress: Progress = turns

    async def begin(
        self, asked: Asked, name: str | None, around: AsyncExitStack
    ) -> tuple[ReportedCall, Asked, CutShort | None]:
        """Begin a call, or the last one: its mark is given then. around: holds what that needs."""
        sink, run = sink_of(self.monitor), RUN.get()
        self._report_progress(sink, run)
        try:
            call = await self._call(asked, name)
        except StoppedByBudget as stop:
            if run is not None and run.is_inside(sink):
                raise  # the run's first agent gives the last answer
            cut = around.enter_context(self.ending.last_call(sink, stop))
            asked = asked.without_tools(self.ending.instruction)
            return await self._call(asked, name), asked, cut
        return call, asked.says_last(self.ending.briefing(sink)), None

    async def _call(self, asked: Asked, name: str | None) -> ReportedCall:
        settings = asked["model_settings"]
        most, expected = getattr(settings, "max_tokens", None), None
        if most is not None:  # nothing else bounds an answer
            said = [asked["system_instructions"], asked["input"]]
            expected = Expected(text_size(said), most)
        tier = asked_tier(settings)
        try:
            return await ReportedCall.begin(
                SCOPE, self.monitor, expected=expected, model=name, service_tier=tier
            )
        except BudgetExceeded as exc:
            raise StoppedByBudget(exc.verdict) from None

    def _report_progress(self, sink: UsageSink | None, run: AgentRun | None) -> None:
        if run is None:
            return
        run.sink = sink
        if not run.is_inside(sink):  # an agent in a tool says nothing of how far the run is
            progress_of.report(sink, self.progress(run))


class BudgetModel(Model):
    """A model whose every call is counted, and made only if it may be."""

    def __init__(
        self,
        wrapped: Model,
        monitor: HasUsageSink | None = None,
        *,
        on_stop: OnStop = "raise",
        instruction: str = INSTRUCTION,
        brief: bool = False,
        progress: Progress = turns,
    ) -> None:
        """Wrap a model.

        monitor: of the run, by default that of the context of each call. on_stop: ``"raise"``
        raises StoppedByBudget instead of a call that may not be made; ``"wrap_up"`` has the model
        answer once more with what there is, if the run is stopped in time. instruction: what it is
        told then. brief: have every call say what is left. progress: how far a run is.
        """
        self._wrapped = wrapped
        self.budget = Budget(monitor, Ending(on_stop, instruction, brief), progress)

    @classmethod
    def of(cls, wrapped: Model, budget: Budget) -> BudgetModel:
        """Return a model with a budget that others have, too."""
        model = cls(wrapped)
        model.budget = budget
        return model

    @property
    def monitor(self) -> HasUsageSink | None:
        """Of the run; None: that of the context."""
        return self.budget.monitor

    def __getattr__(self, name: str) -> Any:
        """Return what the model has besides."""
        return getattr(self._wrapped, name)

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """Ask, call, count."""
        async with AsyncExitStack() as around:
            reported, asked, cut = await self.budget.begin(Asked(args, kwargs), self._name, around)
            try:
                with reported.around():
                    response = await self._wrapped.get_response(*asked.args, **asked.about)
            except BaseException as exc:  # one that was cancelled may be answered all the same
                reported.close(failed=isinstance(exc, Exception))
                raise
            reported.close(
                response_id=response.response_id,
                **said_by(response.usage, getattr(response, "output", None)),
            )
            _answered(cut)
            return response

    async def stream_response(
        self, *args: Any, **kwargs: Any
    ) -> AsyncIterator[TResponseStreamEvent]:
        """Ask, call, and count when the stream ends, however far it was read."""
        async with AsyncExitStack() as around:
            reported, asked, cut = await self.budget.begin(Asked(args, kwargs), self._name, around)
            stream = aiter(self._wrapped.stream_response(*asked.args, **asked.about))
            try:
                while True:
                    with reported.around():
                        event = await anext(stream, None)
                    if event is None:
                        break
                    if event.type in _ENDED:
                        _close_ended(reported, event, cut)
                    yield event
            except Exception:
                reported.close(failed=True)
                raise
            finally:
                reported.close()  # what a call that was left half-way used is not known
                if hasattr(stream, "aclose"):  # of a generator: its connection would stay open
                    await stream.aclose()

    async def close(self) -> None:
        """Close the model."""
        await self._wrapped.close()

    async def _cleanup_on_run_end(self, owner: object) -> None:
        """Let the model release what it holds for a run."""
        await self._wrapped._cleanup_on_run_end(owner)  # noqa: SLF001 - the SDK asks every model

    def get_retry_advice(self, request: Any) -> Any:
        """Return the model's own advice."""
        return self._wrapped.get_retry_advice(request)

    @property
    def _name(self) -> str | None:
        name = getattr(self._wrapped, "model", None)
        return None if name is None else str(name)


def _close_ended(reported: ReportedCall, event: Any, cut: CutShort | None) -> None:
    """Count a stream by its last event."""
    said = said_by(event.response.usage, getattr(event.response, "output", None))
    said |= id_of(event.response)
    said["service_tier"] = getattr(event.response, "service_tier", None)
    failed = event.type == _FAILED
    reported.close(failed=failed, **said)
    if not failed:
        _answered(cut)


def _answered(cut: CutShort | None) -> None:
    run = RUN.get()
    if run is not None:
        run.turns += 1
        run.cut_short(cut)


class BudgetModelProvider(ModelProvider):
    """A provider all of whose models are counted."""

    def __init__(
        self,
        wrapped: ModelProvider | None = None,
        monitor: HasUsageSink | None = None,
        *,
        on_stop: OnStop = "raise",
        instruction: str = INSTRUCTION,
        brief: bool = False,
        progress: Progress = turns,
    ) -> None:
        """Wrap a provider, by default the one that runs use; all else as for BudgetModel."""
        self._wrapped = MultiProvider() if wrapped is None else wrapped
        self.budget = Budget(monitor, Ending(on_stop, instruction, brief), progress)

    @property
    def monitor(self) -> HasUsageSink | None:
        """Of the run; None: that of the context."""
        return self.budget.monitor

    def get_model(self, model_name: str | None) -> Model:
        """Return a counted model."""
        return BudgetModel.of(self._wrapped.get_model(model_name), self.budget)

    async def aclose(self) -> None:
        """Close the provider."""
        await self._wrapped.aclose()
