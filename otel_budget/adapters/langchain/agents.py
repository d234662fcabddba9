"""The middleware for agents of ``create_agent``: how they end, and what they are told before.

Loaded only where the package ``langchain`` is.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ModelResponse
from langchain_core.messages import HumanMessage, ToolMessage

from otel_budget.adapters import progress
from otel_budget.adapters.ending import MARK
from otel_budget.adapters.langchain import handler as callbacks
from otel_budget.adapters.langchain.finished import as_text, messages_in, unanswered
from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.genai.attribution import Activation
from otel_budget.genai.reported_call import HasUsageSink, sink_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from otel_budget.adapters.ending import CutShort, Ending
    from otel_budget.adapters.langchain.progress import Progress
    from otel_budget.genai.call import UsageSink

#: The run whose root agent makes its last call, in the tools of that agent.
_IN_CHARGE: Final[ContextVar[str | None]] = ContextVar("otel_budget_root_agent", default=None)
#: What a call is bound to that makes no sense, or is refused, without tools.
_OF_TOOLS: Final = ("tool_choice", "parallel_tool_calls", "tools", "functions", "function_call")
#: Parts of a message's content that ask for a tool.
_ASKING: Final = ("tool_use", "tool_call", "function_call", "server_tool_call")
_NOT_DONE: Final = "Not carried out: the run was stopped before."


class BudgetMiddleware(AgentMiddleware[Any, Any]):
    """Counts an agent's calls, asks before each, and ends the agent as it was told to."""

    def __init__(self, monitor: HasUsageSink | None, ending: Ending, progress: Progress) -> None:
        """Guard the run of a monitor, or that of the context."""
        super().__init__()
        self._monitor, self._ending, self._progress = monitor, ending, progress
        self._handler = callbacks.BudgetCallbackHandler(monitor)

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Make a call; or the last one, if the run must stop and is to wrap up."""
        with self._guarded():
            sink = sink_of(self._monitor)
            try:
                return handler(self._told(request, sink))
            except BudgetExceeded as exc:
                stop = exc
            with self._last_call(stop, request, sink) as mark:
                return marked(handler(self._last(request)), mark)

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Do as ``wrap_model_call``."""
        with self._guarded():
            sink = sink_of(self._monitor)
            try:
                return await handler(self._told(request, sink))
            except BudgetExceeded as exc:
                stop = exc
            with self._last_call(stop, request, sink) as mark:
                return marked(await handler(self._last(request)), mark)

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Make a call of a tool; what is stopped in it is the agent's to end."""
        with self._guarded(), self._in_charge() as is_root:
            try:
                return handler(request)
            except BudgetExceeded as stop:
                found = self._stopped_inside(request, stop, is_root=is_root)
                if found is None:
                    raise
                return found

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Do as ``wrap_tool_call``."""
        with self._guarded(), self._in_charge() as is_root:
            try:
                return await handler(request)
            except BudgetExceeded as stop:
                found = self._stopped_inside(request, stop, is_root=is_root)
                if found is None:
                    raise
                return found

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Have what is called inside counted, and refused, whether or not ``install`` was."""
        token = callbacks.IN_AGENT.set(self._handler)
        try:
            if self._monitor is None:
                yield
            else:
                with Activation(self._monitor.usage_sink):
                    yield
        finally:
            callbacks.IN_AGENT.reset(token)

    @contextmanager
    def _in_charge(self) -> Iterator[bool]:
        """Have agents in the tools leave the last call to this one, if it is the root; tell so."""
        sink = sink_of(self._monitor)
        if self._ending.on_stop == "raise" or sink is None or _IN_CHARGE.get() == sink.session_id:
            yield False
            return
        token = _IN_CHARGE.set(sink.session_id)
        try:
            yield True
        finally:
            _IN_CHARGE.reset(token)

    def _told(self, request: Any, sink: UsageSink | None) -> Any:
        """Return a request with what is left of the budget; report the progress."""
        progress.report(sink, self._progress(request.state))
        briefing = self._ending.briefing(sink)
        messages = list(answered(request.messages))
        if briefing:
            messages.append(HumanMessage(briefing))
        return request if messages == request.messages else request.override(messages=messages)

    @contextmanager
    def _last_call(
        self, stop: BudgetExceeded, request: Any, sink: UsageSink | None
    ) -> Iterator[CutShort]:
        """Allow the last call; raise the stop where there is none, or it is not ours."""
        sink = getattr(stop, "sink", None) or sink
        stop.finished = list(request.messages)
        of_run = stop.verdict.session_id
        if _IN_CHARGE.get() == of_run or sink is None or sink.session_id != of_run:
            raise stop
        try:
            with self._ending.last_call(sink, stop) as mark:
                yield mark
        except BudgetExceeded as again:
            again.finished = list(request.messages)
            raise

    def _last(self, request: Any) -> Any:
        """Return the last request: no tools but those of a structured answer, told to answer."""
        instruction = HumanMessage(self._ending.instruction)
        settings = {k: v for k, v in request.model_settings.items() if k not in _OF_TOOLS}
        return request.override(
            messages=[*answered(request.messages), instruction], tools=[], tool_choice=None,
            model_settings=settings,
        )  # fmt: skip

    def _stopped_inside(
        self, request: Any, stop: BudgetExceeded, *, is_root: bool
    ) -> ToolMessage | None:
        """Return what the last call is told of a tool that was stopped.

        None: the stop goes on to who called the agent, with what was finished.
        """
        inside = list(stop.finished or ())
        stop.finished = [*messages_in(request.state), *inside]
        sink = sink_of(self._monitor)
        ours = sink is not None and sink.session_id == stop.verdict.session_id
        if not (ours and is_root) or stop.verdict.wrap_up is None:
            return None
        had = as_text(inside)
        text = f"Stopped before its end: {stop.verdict.message}."
        return ToolMessage(
            f"{text} What it had until then:\n{had}" if had else text,
            tool_call_id=request.tool_call["id"], name=request.tool_call["name"], status="error",
        )  # fmt: skip


def answered(messages: Sequence[Any]) -> Iterator[Any]:
    """Yield messages with an answer to each tool call that has none, as providers want it."""
    left = dict(unanswered(messages))
    for at, message in enumerate(messages):
        yield message
        for call in left.get(at, ()):
            yield ToolMessage(_NOT_DONE, tool_call_id=call["id"], name=call["name"], status="error")


def marked(response: Any, mark: CutShort) -> Any:
    """Return the answer of a last call, marked; calls of tools that it asks for are left out."""
    inner = getattr(response, "model_response", response)
    if not isinstance(inner, ModelResponse):
        return _marked(inner, mark, keep_calls=False)
    is_report = inner.structured_response is not None
    result = [
        _marked(message, mark, keep_calls=is_report) if message.type == "ai" else message
        for message in inner.result
        if is_report or message.type != "tool"
    ]
    done = replace(inner, result=result)
    return done if inner is response else replace(response, model_response=done)


def _marked(message: Any, mark: CutShort, *, keep_calls: bool) -> Any:
    about = {**message.response_metadata, MARK: mark.to_dict()}
    changes: dict[str, Any] = {"response_metadata": about}
    if not keep_calls and message.tool_calls:
        changes |= {"tool_calls": [], "invalid_tool_calls": []}
        if isinstance(message.content, list):
            changes["content"] = [part for part in message.content if not _asks(part)]
        changes["additional_kwargs"] = {
            k: v
            for k, v in message.additional_kwargs.items()
            if k not in (*_OF_TOOLS, "tool_calls")
        }
    return message.model_copy(update=changes)


def _asks(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") in _ASKING
