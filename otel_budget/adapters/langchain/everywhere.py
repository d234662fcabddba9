"""All chat models of the process: counted and refused, and ended as ``install`` was told to.

A chat model is the one place through which every call goes, of a chain, of a graph of one's own and
of agents without a middleware. At a stop that leaves something to finish with, the call that was
refused is made once more, without tools; the one after it is refused. Agents with a middleware are
left to that.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage
from langchain_core.tracers.context import register_configure_hook

from otel_budget.adapters import progress as progress_of
from otel_budget.adapters.ending import AS_BEFORE, INSTRUCTION, Ending, OnStop
from otel_budget.adapters.langchain.finished import refusal
from otel_budget.adapters.langchain.handler import IN_AGENT, SCOPE, BudgetCallbackHandler
from otel_budget.adapters.langchain.last_call import last_messages, marked, without_tools
from otel_budget.adapters.langchain.progress import Progress, of_state
from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.genai.reported_call import sink_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from otel_budget.adapters.ending import CutShort
    from otel_budget.genai.call import UsageSink
    from otel_budget.genai.reported_call import HasUsageSink

#: Choices of a tool that leave it to the model whether to call one.
_FREE: Final = (None, "auto", "none")
#: What calls were told of the budget, by identity: messages have no hash.
_BRIEFINGS: Final[WeakValueDictionary[int, Any]] = WeakValueDictionary()


@dataclass(slots=True)
class _Everywhere:
    """What holds for calls of models that are in no agent with a middleware."""

    monitor: HasUsageSink | None = None
    ending: Ending = AS_BEFORE
    progress: Progress = of_state

    def told(self, messages: list[Any]) -> list[Any]:
        """Return messages with what is left of the budget; report the progress."""
        sink = sink_of(self.monitor)
        progress_of.report(sink, self.progress({"messages": messages}))
        briefing = self.ending.briefing(sink)
        if not briefing or (messages and _BRIEFINGS.get(id(messages[-1])) is messages[-1]):
            return messages  # one model calls another, or itself: streams of some do
        said = HumanMessage(briefing)
        _BRIEFINGS[id(said)] = said
        return [*messages, said]

    @contextmanager
    def last_call(self, stop: BudgetExceeded, messages: list[Any]) -> Iterator[CutShort]:
        """Allow the last call; raise the stop where there is none, or it is not ours to end."""
        sink: UsageSink | None = getattr(stop, "sink", None) or sink_of(self.monitor)
        if sink is None or sink.session_id != stop.verdict.session_id:
            raise stop
        try:
            with self.ending.last_call(sink, stop) as mark:
                yield mark
        except BudgetExceeded as again:
            raise refusal(again, messages, sink) from None


_EVERYWHERE: Final = _Everywhere()


def install(
    monitor: HasUsageSink | None = None,
    *,
    on_stop: OnStop = "raise",
    instruction: str = INSTRUCTION,
    brief: bool = False,
    progress: Progress = of_state,
) -> BudgetCallbackHandler:
    """Have every model call of this process counted, without handing a handler around.

    A handler that is handed around all the same counts instead of this one. The arguments are those
    of ``middleware``, for calls outside of agents that have one: ``wrap_up`` makes the call of a
    chat model that is refused in time once more, without tools (but for one that it must call), and
    told to answer; the next call is refused. A stream of it comes in one piece. An LLM that is no
    chat model is refused. progress: of ``{"messages": [...]}``, by default the steps of the graph
    around it. Called again, it says anew what holds. Raises InvalidValueError.
    """
    ending = Ending(on_stop, instruction, brief)
    handler = _handler()
    handler.monitor = monitor
    _EVERYWHERE.monitor, _EVERYWHERE.ending, _EVERYWHERE.progress = monitor, ending, progress
    if ending != AS_BEFORE or progress is not of_state:
        _watch()
    return handler


@functools.cache
def _handler() -> BudgetCallbackHandler:
    """Have all calls from now on told to one handler: of several LangChain takes the first."""
    handler = BudgetCallbackHandler()
    # The hook asks the variable in whatever context a call is made: its default is the handler.
    variable: ContextVar[BudgetCallbackHandler | None] = ContextVar(SCOPE, default=handler)
    register_configure_hook(variable, inheritable=True, handle_class=BudgetCallbackHandler)
    return handler


@functools.cache
def _watch() -> None:
    """Stand around all calls of chat models from now on."""
    model: Any = BaseChatModel
    model.generate = _around(model.generate)
    model.agenerate = _around_async(model.agenerate)
    model.stream = _around_stream(model.stream)
    model.astream = _around_stream_async(model.astream)


def _last(kwargs: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return what a last call is bound to, and whether it must call a tool to answer."""
    must_call = kwargs.get("tool_choice") not in _FREE
    return (kwargs, True) if must_call else (without_tools(kwargs), False)


def _finished(result: Any, mark: CutShort, *, keep_calls: bool) -> Any:
    """Mark the answers of a result."""
    for generations in result.generations:
        for one in generations:
            one.message = marked(one.message, mark, keep_calls=keep_calls)
    return result


def _around(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def generate(model: Any, messages: list[list[Any]], *args: Any, **kwargs: Any) -> Any:
        if IN_AGENT.get() is not None or len(messages) != 1:
            return plain(model, messages, *args, **kwargs)
        here = _EVERYWHERE
        try:
            return plain(model, [here.told(messages[0])], *args, **kwargs)
        except BudgetExceeded as exc:
            stop = exc
        with here.last_call(stop, messages[0]) as mark:
            bound, must = _last(kwargs)
            last = last_messages(messages[0], here.ending.instruction)
            return _finished(plain(model, [last], *args, **bound), mark, keep_calls=must)

    return generate


def _around_async(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    async def agenerate(model: Any, messages: list[list[Any]], *args: Any, **kwargs: Any) -> Any:
        if IN_AGENT.get() is not None or len(messages) != 1:
            return await plain(model, messages, *args, **kwargs)
        here = _EVERYWHERE
        try:
            return await plain(model, [here.told(messages[0])], *args, **kwargs)
        except BudgetExceeded as exc:
            stop = exc
        with here.last_call(stop, messages[0]) as mark:
            bound, must = _last(kwargs)
            last = last_messages(messages[0], here.ending.instruction)
            return _finished(await plain(model, [last], *args, **bound), mark, keep_calls=must)

    return agenerate


def _around_stream(plain: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    @functools.wraps(plain)
    def stream(model: Any, asked: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        if IN_AGENT.get() is not None:
            yield from plain(model, asked, *args, **kwargs)
            return
        messages, here = _messages(model, asked), _EVERYWHERE
        try:
            yield from plain(model, here.told(messages), *args, **kwargs)
        except BudgetExceeded as exc:
            stop = exc
        else:
            return
        with here.last_call(stop, messages) as mark:
            bound, must = _last(kwargs)
            last = last_messages(messages, here.ending.instruction)
            *before, end = plain(model, last, *args, **bound)
        yield from before
        yield marked(end, mark, keep_calls=must)

    return stream


def _around_stream_async(
    plain: Callable[..., AsyncIterator[Any]],
) -> Callable[..., AsyncIterator[Any]]:
    @functools.wraps(plain)
    async def astream(model: Any, asked: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        if IN_AGENT.get() is not None:
            async for chunk in plain(model, asked, *args, **kwargs):
                yield chunk
            return
        messages, here = _messages(model, asked), _EVERYWHERE
        try:
            async for chunk in plain(model, here.told(messages), *args, **kwargs):
                yield chunk
        except BudgetExceeded as exc:
            stop = exc
        else:
            return
        with here.last_call(stop, messages) as mark:
            bound, must = _last(kwargs)
            last = last_messages(messages, here.ending.instruction)
            *before, end = [chunk async for chunk in plain(model, last, *args, **bound)]
        for chunk in before:
            yield chunk
        yield marked(end, mark, keep_calls=must)

    return astream


def _messages(model: Any, asked: Any) -> list[Any]:
    """Return what a stream is asked for, as messages."""
    found: list[Any] = model._convert_input(asked).to_messages()  # noqa: SLF001 - it has no public name
    return found
