"""The middleware for agents of ``create_agent``: how they end, and what they are told before.

Loaded only where the package ``langchain`` is.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ExtendedModelResponse, ModelResponse
from langchain.agents.structured_output import StructuredOutputError
from langchain_core.messages import HumanMessage, ToolMessage
from langgraph.types import Command

from otel_budget.adapters import progress
from otel_budget.adapters.langchain import handler as callbacks
from otel_budget.adapters.langchain.finished import as_text, messages_in, refusal
from otel_budget.adapters.langchain.last_call import (
    answered,
    last_messages,
    marked,
    without_tools,
)
from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.genai.attribution import Activation
from otel_budget.genai.reported_call import (
    Expected,
    HasUsageSink,
    ReportedCall,
    sink_of,
    text_size,
)
from otel_budget.genai.values import as_count

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from otel_budget.adapters.ending import CutShort, Ending
    from otel_budget.adapters.langchain.progress import Progress
    from otel_budget.genai.call import UsageSink

#: In the tools of an agent: its run, and whether an agent around them makes that run's last call.
_AROUND: Final[ContextVar[tuple[str, bool] | None]] = ContextVar(
    "otel_budget_agent_around", default=None
)


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
                with _said_all_the_same() as said:
                    said.response = handler(self._last(request))
                return ended(said.response, mark)

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Do as ``wrap_model_call``."""
        with self._guarded():
            sink = sink_of(self._monitor)
            try:
                return await self._held(handler, self._told(request, sink))
            except BudgetExceeded as exc:
                stop = exc
            with self._last_call(stop, request, sink) as mark:
                with _said_all_the_same() as said:
                    said.response = await self._held(handler, self._last(request))
                return ended(said.response, mark)

    async def _held(self, handler: Callable[[Any], Awaitable[Any]], request: Any) -> Any:
        """Make a call once there is room for it: the callback inside could not wait in a loop.

        It is the callback that counts.
        """
        most = as_count(getattr(request.model, "max_tokens", None))
        expected = Expected(text_size(request.messages), most)
        try:
            call = await ReportedCall.begin(callbacks.SCOPE, self._monitor, expected=expected)
        except BudgetExceeded as stop:
            raise refusal(stop, request.messages, sink_of(self._monitor)) from None
        try:
            with call.around():
                return await handler(request)
        finally:
            call.cancel()

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Make a call of a tool; what is stopped in it is the agent's to end."""
        with self._guarded(), self._in_tool() as is_root:
            try:
                return handler(request)
            except BudgetExceeded as stop:
                found = self._stopped_inside(request, stop, is_root=is_root)
                if found is None:
                    raise
                return found

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Do as ``wrap_tool_call``."""
        with self._guarded(), self._in_tool() as is_root:
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
    def _in_tool(self) -> Iterator[bool]:
        """Have agents in the tool leave the last call to the root; tell whether this one is it."""
        sink = sink_of(self._monitor)
        if sink is None:
            yield False
            return
        wraps_up = self._ending.on_stop == "wrap_up"
        is_root = wraps_up and not _wraps_up_around(sink)
        token = _AROUND.set((sink.session_id, wraps_up or _wraps_up_around(sink)))
        try:
            yield is_root
        finally:
            _AROUND.reset(token)

    def _told(self, request: Any, sink: UsageSink | None) -> Any:
        """Return a request with what is left of the budget; report the progress."""
        if not _is_around(sink):  # an agent in a tool does not know how far the run is
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
        if sink is None or sink.session_id != of_run or _wraps_up_around(sink):
            raise stop
        try:
            with self._ending.last_call(sink, stop) as mark:
                yield mark
        except BudgetExceeded as again:
            raise refusal(again, request.messages, sink) from None

    def _last(self, request: Any) -> Any:
        """Return the last request: no tools but those of a structured answer, told to answer."""
        return request.override(
            messages=last_messages(request.messages, self._ending.instruction), tools=[],
            tool_choice=None, model_settings=without_tools(request.model_settings),
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


def _is_around(sink: UsageSink | None) -> bool:
    """Tell whether this is in a tool of an agent of the same run."""
    around = _AROUND.get()
    return around is not None and sink is not None and around[0] == sink.session_id


def _wraps_up_around(sink: UsageSink | None) -> bool:
    """Tell whether an agent around this one makes the run's last call."""
    around = _AROUND.get()
    return _is_around(sink) and around is not None and around[1]


@contextmanager
def _said_all_the_same() -> Iterator[SimpleNamespace]:
    """Take an answer that is not of the form that was asked for: there is no call for another."""
    said = SimpleNamespace(response=None)
    try:
        yield said
    except StructuredOutputError as exc:
        said.response = exc.ai_message


def ended(response: Any, mark: CutShort) -> Any:
    """Return the answer of a last call, marked, with which the agent ends.

    Calls of tools that it asks for all the same are left out, and what tools said is no answer.
    """
    inner = getattr(response, "model_response", response)
    inner = inner if isinstance(inner, ModelResponse) else ModelResponse(result=[inner])
    is_report = inner.structured_response is not None
    result = [
        marked(message, mark, keep_calls=is_report) if message.type == "ai" else message
        for message in inner.result
        if is_report or message.type != "tool"
    ]
    update = {**_updates(response), "jump_to": "end"}
    return ExtendedModelResponse(replace(inner, result=result), Command(update=update))


def _updates(response: Any) -> dict[str, Any]:
    """Return what a middleware inside this one wants in the state."""
    update = getattr(getattr(response, "command", None), "update", None)
    return update if isinstance(update, dict) else {}
