"""All models of the process: with a budget, or watched for those that were forgotten.

A model's class is the one place through which every request goes, whoever makes it: an agent, an
override of its model, a fallback or ``pydantic_ai.direct``. Classes of models that pass requests on
to others are left alone.
"""

from __future__ import annotations

import functools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from pydantic_ai.models import Model
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.wrapper import WrapperModel

from otel_budget.adapters import forgotten
from otel_budget.adapters.asked import for_each_class
from otel_budget.adapters.ending import INSTRUCTION, Ending, OnStop
from otel_budget.adapters.pydantic_ai.messages import Asked
from otel_budget.adapters.pydantic_ai.model import SCOPE, Budget
from otel_budget.genai import attribution

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextlib import AbstractContextManager

    from otel_budget.adapters.pydantic_ai.model import Progress
    from otel_budget.genai.reported_call import HasUsageSink

_INSTALLED: Final = "otel_budget_installed"


class _Everywhere:
    """What holds for requests of models that have no budget of their own."""

    budget: Budget | None = None

    def budget_for(self) -> Budget | None:
        """Return the budget of a request; None: it has none, or what is around it counts it."""
        return None if attribution.scope_around() == SCOPE else self.budget


EVERYWHERE: Final = _Everywhere()


def install(
    monitor: HasUsageSink | None = None,
    *,
    on_stop: OnStop = "raise",
    instruction: str = INSTRUCTION,
    brief: bool = False,
    progress: Progress | None = None,
) -> None:
    """Count every request of this process, and make only those that may be made.

    For agents whose model is not ``budgeted``; one that is keeps what it was told. Called again, it
    says anew what holds. The arguments are those of ``budgeted``.
    """
    EVERYWHERE.budget = Budget(monitor, Ending(on_stop, instruction, brief), progress)


def watch_models() -> None:
    """See every request of this process, of classes that are made later, too."""
    for_each_class(Model, _INSTALLED, _enclose)


def _enclose(kind: Any) -> None:
    """Have the requests of a class go through the budget. One that passes them on is left alone."""
    if issubclass(kind, WrapperModel | FallbackModel):
        return
    own = vars(kind)
    if "request" in own and not getattr(own["request"], _INSTALLED, False):
        kind.request = _request(own["request"])
    if "request_stream" in own and not getattr(own["request_stream"], _INSTALLED, False):
        kind.request_stream = _request_stream(own["request_stream"])


def _watched(model: Any) -> AbstractContextManager[None]:
    return forgotten.watched(model.model_name, "Pydantic AI", "budgeted(model) or install()")


def _request(plain: Any) -> Any:
    @functools.wraps(plain)
    async def request(self: Any, *args: Any, **about: Any) -> Any:
        budget = EVERYWHERE.budget_for()
        if budget is None:
            with _watched(self):
                return await plain(self, *args, **about)
        return await budget.request(functools.partial(plain, self), Asked(args, about), self)

    setattr(request, _INSTALLED, True)
    return request


def _request_stream(plain: Any) -> Any:
    @functools.wraps(plain)
    @asynccontextmanager
    async def request_stream(self: Any, *args: Any, **about: Any) -> AsyncGenerator[Any]:
        budget, opens = EVERYWHERE.budget_for(), functools.partial(plain, self)
        if budget is None:
            with _watched(self):
                async with opens(*args, **about) as stream:
                    yield stream
        else:
            async with budget.request_stream(opens, Asked(args, about), self) as stream:
                yield stream

    setattr(request_stream, _INSTALLED, True)
    return request_stream
