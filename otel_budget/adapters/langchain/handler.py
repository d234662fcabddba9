"""The callback handler: LangChain calls it before and after each call of a model."""

from __future__ import annotations

import functools
import logging
from collections import OrderedDict
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler, CallbackManager
from langchain_core.tracers.context import register_configure_hook

from otel_budget.adapters.base import register
from otel_budget.adapters.langchain import cache
from otel_budget.adapters.langchain.finished import refusal
from otel_budget.adapters.langchain.results import (
    Chunks,
    message_of,
    said_by,
    said_by_error,
    watch_chunks,
)
from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.genai.reported_call import (
    Expected,
    HasUsageSink,
    ReportedCall,
    ReportedTool,
    sink_of,
    text_size,
)
from otel_budget.genai.values import as_count, mapping

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from langchain_core.outputs import LLMResult

    from otel_budget.genai.call import UsageSink

SCOPE: Final = register(
    "otel_budget.langchain", "LangChain", "otel-budget's callbacks for LangChain",
    streaming_advice="pass stream_usage=True to the chat model",
)  # fmt: skip
#: Calls that are open at once, at most; past that the oldest is counted as one of unknown use.
_MAX_OPEN: Final = 10_000
#: How chat models name what limits an answer.
_MOST: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
#: How what LangChain logs of a refusal begins.
_REFUSED: Final = (f"{BudgetExceeded.__name__}(", "StoppedByBudget(")
#: The handler of the agent's middleware that this context is inside of.
IN_AGENT: Final[ContextVar[BudgetCallbackHandler | None]] = ContextVar(
    f"{SCOPE}.agent", default=None
)


class _NoRefusals(logging.Filter):
    """Keeps out of the log that a callback failed, where it refused a call as it should.

    LangChain logs whatever a callback raises, before it lets it through to the application.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for a refusal."""
        about = record.args
        return not (
            isinstance(about, tuple) and bool(about) and str(about[-1]).startswith(_REFUSED)
        )


logging.getLogger("langchain_core.callbacks.manager").addFilter(_NoRefusals())


class BudgetCallbackHandler(BaseCallbackHandler):
    """Counts chat models and LLMs. Embeddings have no callbacks in LangChain."""

    #: BudgetExceeded reaches the application, in coroutines too.
    raise_error = True
    run_inline = True

    def __init__(self, monitor: HasUsageSink | None = None) -> None:
        """Count for one run, or for the run of the context in which a call begins."""
        _go_first()
        cache.watch()
        self.monitor = monitor
        """Of the run; None: that of the context in which a call begins."""
        self._open: OrderedDict[UUID, ReportedCall] = OrderedDict()
        self._inside: OrderedDict[UUID, UsageSink] = OrderedDict()
        """By LangChain's run that goes on: the sink of the run it began in."""
        self._tools: OrderedDict[UUID, ReportedTool] = OrderedDict()
        self._chunks: dict[UUID, Chunks] = {}

    def on_chain_start(
        self, *_: Any, run_id: UUID, parent_run_id: UUID | None = None, **__: Any
    ) -> None:
        """Take note of whose it is: what a graph does in its own threads has another context."""
        sink = None if self.monitor is not None else self._around(parent_run_id)
        if sink is not None:
            self._inside[run_id] = sink
            while len(self._inside) > _MAX_OPEN:
                self._inside.popitem(last=False)

    def on_tool_start(
        self,
        serialized: Any = None,
        *_: Any,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tool_call_id: str | None = None,
        **about: Any,
    ) -> None:
        """Begin a call of a tool."""
        self.on_chain_start(run_id=run_id, parent_run_id=parent_run_id)
        name = mapping(serialized).get("name") or about.get("name")
        sink = None if self.monitor is not None else self._around(parent_run_id)
        self._tools[run_id] = ReportedTool(
            SCOPE, self.monitor, name, sink=sink, call_id=tool_call_id
        )
        while len(self._tools) > _MAX_OPEN:
            self._tools.popitem(last=False)[1].close()

    def on_tool_end(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """Count a call of a tool, whether it succeeded or not."""
        self.on_chain_end(run_id=run_id)
        tool = self._tools.pop(run_id, None)
        if tool is not None:
            tool.close()

    on_tool_error = on_tool_end

    def on_chain_end(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """Forget it."""
        self._inside.pop(run_id, None)

    on_chain_error = on_chain_end

    def _around(self, parent_run_id: UUID | None) -> UsageSink | None:
        """Return the sink of the run of this context, else of what this is a part of."""
        here = sink_of(None)
        return self._inside.get(parent_run_id) if here is None and parent_run_id else here

    def on_chat_model_start(
        self,
        _: Any = None,
        messages: Any = (),
        *__: Any,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        batch_size: int = 1,
        **about: Any,
    ) -> None:
        """Ask, and begin a call."""
        watch_chunks()
        sink = None if self.monitor is not None else self._around(parent_run_id)
        try:
            call = ReportedCall(
                SCOPE, self.monitor, sink=sink, expected=_expected(messages, about),
                **_said_before(about),
            )  # fmt: skip
        except BudgetExceeded as stop:
            asked = sink_of(self.monitor) if sink is None else sink
            raise refusal(stop, messages[0] if messages else (), asked) from None
        if batch_size == 1:  # of several that begin together none is inside another one
            call.enclose()
        self._open[run_id] = call
        while len(self._open) > _MAX_OPEN:
            oldest, left = self._open.popitem(last=False)
            self._chunks.pop(oldest, None)
            left.close()

    on_llm_start = on_chat_model_start

    def on_llm_new_token(
        self, text: Any = None, *_: Any, run_id: UUID, chunk: Any = None, **__: Any
    ) -> None:
        """Take note that a stream goes out to the application, whose next calls are others."""
        call = self._open.get(run_id)
        if call is None:
            return
        call.release(everywhere=True)
        if chunk is not None:
            chunks = self._chunks.get(run_id) or self._chunks.setdefault(run_id, Chunks())
            chunks.see(text, chunk)

    on_stream_event = on_llm_new_token  # what streams of LangChain's newer protocol have instead

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """Count a call that was answered; one that LangChain's own cache answered was none."""
        call, chunks = self._open.pop(run_id, None), self._chunks.pop(run_id, None)
        if call is None:
            return
        if cache.answered(message_of(response)):
            call.cancel()
        else:
            call.close(**said_by(response, chunks))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Count a call that failed. One that was left, or cancelled, is of unknown use.

        One whose answer had not the form that was asked for was answered.
        """
        call = self._open.pop(run_id, None)
        self._chunks.pop(run_id, None)
        if call is not None:
            said = said_by_error(error)
            call.close(failed=isinstance(error, Exception) and not said, **said)


register_configure_hook(IN_AGENT, inheritable=True, handle_class=BudgetCallbackHandler)


@functools.cache
def _go_first() -> None:
    """Have our handlers asked before all others.

    Spans that those begin are then parts of a call that has begun, and of a call that is refused
    they begin none. LangChain itself keeps no order: it merges handlers as sets.
    """
    for manager in (CallbackManager, AsyncCallbackManager):
        manager.configure = classmethod(_ordered(manager.configure.__func__))


def _ordered(configure: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(configure)
    def in_order(*args: Any, **kwargs: Any) -> Any:
        manager = configure(*args, **kwargs)
        for handlers in (manager.handlers, manager.inheritable_handlers):
            handlers.sort(key=lambda one: not isinstance(one, BudgetCallbackHandler))
        return manager

    return in_order


def _expected(messages: object, about: dict[str, Any]) -> Expected:
    """Return what a call that begins is taken to use: by its text, and what limits its answer."""
    params = mapping(about.get("invocation_params"))
    most = (params.get(name) for name in _MOST)
    return Expected(text_size(messages), next(filter(None, map(as_count, most)), None))


def _said_before(about: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of a call that begins, for ``report_of``."""
    metadata, params = mapping(about.get("metadata")), mapping(about.get("invocation_params"))
    return {
        "model": metadata.get("ls_model_name") or params.get("model") or params.get("model_name"),
        "provider": metadata.get("ls_provider"),
        "service_tier": params.get("service_tier"),
    }
