"""All models of the process: with a budget, or watched for those that were forgotten."""

from __future__ import annotations

import functools
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

from agents.models.interface import Model

from otel_budget.adapters import forgotten
from otel_budget.adapters.asked import for_each_class
from otel_budget.adapters.ending import INSTRUCTION, Ending, OnStop
from otel_budget.adapters.openai_agents.models import SCOPE, Budget, BudgetModel
from otel_budget.adapters.openai_agents.runs import turns
from otel_budget.genai import attribution

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractContextManager

    from agents.items import ModelResponse, TResponseStreamEvent

    from otel_budget.adapters.openai_agents.models import Progress
    from otel_budget.genai.reported_call import HasUsageSink

_INSTALLED: Final = "otel_budget_installed"
#: Whose models are all there are, but for an application's own.
_SDK: Final = "agents."


class _Everywhere:
    """What holds for calls of models that have no budget of their own."""

    budget: Budget | None = None

    def budget_for(self) -> Budget | None:
        """Return the budget of a call; None: it has none, or what is around it counts it."""
        return None if attribution.scope_around() == SCOPE else self.budget


EVERYWHERE: Final = _Everywhere()


def install(
    monitor: HasUsageSink | type[Model] | None = None,
    *models: type[Model],
    on_stop: OnStop = "raise",
    instruction: str = INSTRUCTION,
    brief: bool = False,
    progress: Progress = turns,
) -> None:
    """Count every call of models in this process, and make only those that may be made: no
    ``run_config`` that was left out goes uncounted.

    Of the SDK's own models, whenever they are imported, and of the classes given: ``install(Mine)``
    or ``install(monitor, Mine)``. A BudgetModel around one counts once, by what that one was told.
    Called again it says anew what holds. The other arguments are those of BudgetModel.
    """
    if isinstance(monitor, type):
        models, monitor = (monitor, *models), None
    EVERYWHERE.budget = Budget(monitor, Ending(on_stop, instruction, brief), progress)
    for model in models:
        _enclose(model)


def watch_models() -> None:
    """See every call of the SDK's own models, of those that are imported later, too."""
    for_each_class(Model, _INSTALLED, _enclose_sdks)


def _enclose_sdks(kind: type) -> None:
    if kind.__module__.startswith(_SDK):
        _enclose(kind)


def _enclose(kind: Any) -> None:
    """Have the calls of a class go through the budget."""
    plain_response, plain_stream = kind.get_response, kind.stream_response
    if getattr(plain_response, _INSTALLED, False):
        return

    @functools.wraps(plain_response)
    async def get_response(self: Model, *args: Any, **kwargs: Any) -> ModelResponse:
        budget = EVERYWHERE.budget_for()
        if budget is None:
            with _watched(self):
                return await plain_response(self, *args, **kwargs)  # type: ignore[no-any-return] # not installed here
        plain: Any = _Plain(self, plain_response, plain_stream)
        return await BudgetModel.of(plain, budget).get_response(*args, **kwargs)

    @functools.wraps(plain_stream)
    async def stream_response(
        self: Model, *args: Any, **kwargs: Any
    ) -> AsyncIterator[TResponseStreamEvent]:
        plain: Any = _Plain(self, plain_response, plain_stream)
        # Known only here, with the first event: streams are made outside of what counts them.
        budget = EVERYWHERE.budget_for()
        model = plain if budget is None else BudgetModel.of(plain, budget)
        stream = model.stream_response(*args, **kwargs)
        with _watched(self) if budget is None else nullcontext():
            try:
                async for event in stream:
                    yield event
            finally:
                if hasattr(stream, "aclose"):
                    await stream.aclose()

    setattr(get_response, _INSTALLED, True)
    kind.get_response, kind.stream_response = get_response, stream_response


def _watched(model: Any) -> AbstractContextManager[None]:
    name, instead = getattr(model, "model", None), "BudgetModel, run_config= or install()"
    return forgotten.watched(name, "OpenAI Agents", instead)


class _Plain:
    """A model as it is without a budget."""

    def __init__(self, model: Model, get_response: Any, stream_response: Any) -> None:
        self.model = getattr(model, "model", None)
        self.get_response = functools.partial(get_response, model)
        self.stream_response = functools.partial(stream_response, model)
