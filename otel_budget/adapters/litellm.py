"""LiteLLM: count its calls, and ask before each.

    install()                                  # all of litellm's own functions, for the process
    completion = budgeted(litellm.completion)  # or one function, also one that is imported already
    install(on_stop="wrap_up")                 # at a graceful stop one last call, without tools

LiteLLM's callbacks cannot do this: they cannot stop a call, and they come later, in other threads,
when the next call may be under way. So its functions are wrapped. A call that may not be made
raises ``StoppedByBudget``.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import litellm
from litellm.litellm_core_utils import asyncify

from otel_budget.adapters.base import register
from otel_budget.adapters.ending import AS_BEFORE, INSTRUCTION, Ending
from otel_budget.adapters.marks import cut_short
from otel_budget.adapters.open_call import Asking
from otel_budget.adapters.request_shapes import CHAT, RESPONSES
from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.genai import attribution, billed
from otel_budget.genai.call_tracker import CALL_TRACKER
from otel_budget.genai.costs import charged, in_headers
from otel_budget.genai.reported_call import HasUsageSink, sink_of
from otel_budget.genai.values import field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from otel_budget.adapters.ending import OnStop
    from otel_budget.adapters.open_call import OpenCall, Progress
    from otel_budget.adapters.request_shapes import Shape

__all__ = ["StoppedByBudget", "budgeted", "cut_short", "install"]

SCOPE: Final = register("otel_budget.litellm", "LiteLLM", "otel-budget's wrappers of LiteLLM")
#: The functions of litellm that call a model.
FUNCTIONS: Final = (
    "completion", "acompletion", "text_completion", "atext_completion", "embedding", "aembedding",
    "responses", "aresponses",
)  # fmt: skip

#: Arguments by which an application gives litellm the prices of a call.
_OWN_PRICES: Final = ("_cost_per_token", "_cost_per_second")
#: They call ``litellm.completion``, with the arguments they do not know, too.
BATCHES: Final = (
    "batch_completion", "batch_completion_models", "batch_completion_models_all_responses",
)  # fmt: skip
#: On what is wrapped already.
_MARK: Final = "otel_budget"
#: The argument by which they hand on the run; the wrapper of ``completion`` takes it away.
_SINK: Final = "otel_budget_target"


class StoppedByBudget(BudgetExceeded):
    """Says that a run must stop."""

    status_code = 400
    """A request that is wrong for good: routers neither try it again nor blame the deployment."""


def install(
    monitor: HasUsageSink | None = None,
    *,
    on_stop: OnStop = "raise",
    instruction: str = INSTRUCTION,
    brief: bool = False,
    progress: Progress | None = None,
) -> None:
    """Wrap the functions of litellm, for routers and frameworks above it, too.

    Code that took a function before (``from litellm import completion``, a ``Router`` its
    ``responses``) keeps the bare one. Installed again it wraps nothing again, and the arguments
    hold from then on. They are those of ``budgeted``.
    """
    CALL_TRACKER.notices.no_longer("litellm")  # its span code counts for nothing from now on
    how = _How(monitor, Ending(on_stop, instruction, brief), progress)
    for name in FUNCTIONS:
        function = getattr(litellm, name)
        _INSTALLED[name] = how
        if not hasattr(function, _MARK):
            setattr(litellm, name, _wrapped(function, functools.partial(_INSTALLED.get, name)))
    _hand_on_to_threads()


def budgeted(
    function: Callable[..., Any],
    monitor: HasUsageSink | None = None,
    *,
    on_stop: OnStop = "raise",
    instruction: str = INSTRUCTION,
    brief: bool = False,
    progress: Progress | None = None,
) -> Callable[..., Any]:
    """Return a function of litellm that is counted, and raises StoppedByBudget instead of a call
    that may not be made.

    monitor: of the run, by default that of the context of each call. on_stop: with ``wrap_up`` the
    first call after a graceful stop goes out all the same, without tools and with the instruction,
    and its answer is marked (``cut_short``); the next one raises. brief: each call says, last of
    all, what is left of the budget. progress: of a call's arguments by name, 0 to 1 or None, how
    far the run is.
    """
    how = _How(monitor, Ending(on_stop, instruction, brief), progress)
    return _wrapped(function, lambda: how)


class _How(NamedTuple):
    """How the calls of a function are asked for."""

    monitor: HasUsageSink | None = None
    ending: Ending = AS_BEFORE
    progress: Progress | None = None


#: By the name of the function.
_INSTALLED: Final[dict[str, _How]] = {}


def _wrapped(function: Callable[..., Any], how_of: Callable[[], _How | None]) -> Callable[..., Any]:
    parameters = tuple(inspect.signature(function).parameters)

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Asking:
        named = dict(zip(parameters, args, strict=False))
        return _asking(how_of() or _How(), function.__name__, named, kwargs)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _stopping():
            asking = begin(args, kwargs)
            opened = asking.begin()
        args, kwargs = _sent(asking, opened, args, kwargs)
        try:
            with opened.reported.around():
                result = function(*args, **kwargs)
        except BaseException as exc:
            _close_unanswered(opened, exc)
            raise
        return _counted(opened, result, kwargs)

    @functools.wraps(function)
    async def call_async(*args: Any, **kwargs: Any) -> Any:
        with _stopping():
            asking = begin(args, kwargs)
            opened = await asking.begin_async()
        args, kwargs = _sent(asking, opened, args, kwargs)
        try:
            with opened.reported.around():
                result = await function(*args, **kwargs)
        except BaseException as exc:
            _close_unanswered(opened, exc)
            raise
        return _counted(opened, result, kwargs)

    wrapper = call_async if inspect.iscoroutinefunction(function) else call
    vars(wrapper)[_MARK] = True  # what install() looks for
    return wrapper


def _asking(how: _How, name: str, named: dict[str, Any], kwargs: dict[str, Any]) -> Asking:
    """Return what asks for a call with arguments, of which those by position are named."""
    handed_on = kwargs.pop(_SINK, None)
    sink = handed_on if handed_on is not None and how.monitor is None else sink_of(how.monitor)
    body = {**named, **kwargs}
    said = {
        "operation": "embeddings" if "embedding" in name else "chat",
        "model": body.get("model"),
        "service_tier": body.get("service_tier"),
    }
    return Asking(SCOPE, sink, how.ending, _shape(name, body), body, said, how.progress)


def _shape(name: str, body: Mapping[str, Any]) -> Shape | None:
    """Return how a text is put into the arguments of a function; None: it takes none."""
    if name in ("completion", "acompletion"):
        # LiteLLM refuses a conversation with calls of tools for Bedrock that comes without tools.
        return _BEDROCK if str(body.get("model")).startswith("bedrock/") else CHAT
    return RESPONSES if name in ("responses", "aresponses") else None


#: It offers its tools all the same: the instruction says that none may be called.
_BEDROCK: Final = CHAT._replace(without_tools=dict)


def _sent(
    asking: Asking, opened: OpenCall, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with which the function is called: as they were, or the changed ones."""
    return (args, kwargs) if opened.body is asking.body else ((), dict(opened.body))


@contextmanager
def _stopping() -> Iterator[None]:
    """Have a call that is refused raise StoppedByBudget."""
    try:
        yield
    except BudgetExceeded as exc:
        raise _stopped(exc) from None


def _stopped(stop: BudgetExceeded) -> StoppedByBudget:
    raised = StoppedByBudget(stop.verdict)
    raised.finished = stop.finished
    return raised


def _close_unanswered(opened: OpenCall, exc: BaseException) -> None:
    """Count a call without an answer. One that was cancelled may be answered all the same.

    Raises StoppedByBudget if a call inside it was refused, whatever litellm's fallbacks made of it.
    """
    refusal = None if isinstance(exc, BudgetExceeded) else opened.reported.refusal_inside()
    opened.fail(exc)
    if refusal is not None:
        raise _stopped(refusal) from exc


class CountingStream:
    """What a stream of litellm does besides, while its call is open: count it when it ends.

    The stream stays the object it is, and an instance of its class: routers look at that.
    """

    _opened: OpenCall
    _said: dict[str, Any]

    def __next__(self) -> Any:
        """Return the next chunk."""
        try:
            return self._seen(super().__next__())  # type: ignore[misc] # of the stream's own class
        except BaseException as exc:
            self._end(exc, StopIteration)
            raise

    async def __anext__(self) -> Any:
        """Return the next chunk."""
        try:
            return self._seen(await super().__anext__())  # type: ignore[misc] # as above
        except BaseException as exc:
            self._end(exc, StopAsyncIteration)
            raise

    def __del__(self) -> None:
        """Count a stream that was left: what it put out is not known."""
        self._opened.close(**_unfinished(self._said))

    def _seen(self, chunk: Any) -> Any:
        self._opened.mark_piece(chunk)
        said = said_by(getattr(chunk, "response", None) or chunk)
        extras = said["extras"] | self._said.get("extras", {})
        self._said |= {name: value for name, value in said.items() if value is not None}
        self._said["extras"] = extras
        return chunk

    def _end(self, exc: BaseException, ended: type[BaseException]) -> None:
        if isinstance(exc, ended):
            self._opened.close(**self._said)
        else:
            self._opened.fail(exc, **_unfinished(self._said))


@functools.cache
def _counting(kind: type) -> type:
    return type(kind.__name__, (CountingStream, kind), {})


def _count_at_its_end(opened: OpenCall, stream: Any) -> None:
    try:
        stream.__class__ = _counting(stream.__class__)
    except TypeError:  # a generator: what it yields is not seen
        opened.close()
        return
    stream._opened, stream._said = opened, {}  # noqa: SLF001 - it is ours now


def _unfinished(said: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of a call whose stream did not end: the output so far is not all."""
    return said | {"output": None, "reasoning": None}


def said_by(result: Any) -> dict[str, Any]:
    """Return what a result of litellm says of its call, for ``report_of``."""
    hidden = getattr(result, "_hidden_params", None) or {}
    # Of a stream that was not asked for usage the last chunk has what came all the same.
    usage = getattr(result, "usage", None) or hidden.get("usage")
    of_input = field(usage, "prompt_tokens_details", "input_tokens_details")
    of_output = field(usage, "completion_tokens_details", "output_tokens_details")
    charge = charged(usage)
    return {
        "input": field(usage, "prompt_tokens", "input_tokens"),
        "output": field(usage, "completion_tokens", "output_tokens"),
        "cached": field(of_input, "cached_tokens", "cache_read_tokens"),
        "cache_write": field(of_input, "cache_creation_tokens", "cache_write_tokens")
        or field(usage, "cache_creation_input_tokens"),
        "reasoning": field(of_output, "reasoning_tokens"),
        "model": field(result, "model"),
        "provider": hidden.get("custom_llm_provider"),
        "response_id": field(result, "id"),
        "charge": in_headers(hidden.get("additional_headers")) if charge is None else charge,
        # 0 also stands for a price that LiteLLM does not know.
        "estimate": hidden.get("response_cost") or None,
        "service_tier": billed.tier_in_usage(result) or billed.tier_in_usage(usage),
        "extras": billed.in_usage(usage) | billed.tools_in(field(result, "output")),
    }


def _counted(opened: OpenCall, result: Any, kwargs: dict[str, Any]) -> Any:
    if (getattr(result, "_hidden_params", None) or {}).get("cache_hit"):
        opened.cancel()  # litellm's own cache: no model was asked
    elif hasattr(result, "__next__") or hasattr(result, "__anext__"):
        _count_at_its_end(opened, result)
    else:
        said = said_by(result)
        if said["charge"] is None and any(name.endswith(_OWN_PRICES) for name in kwargs):
            said["charge"] = result._hidden_params.get("response_cost")  # noqa: SLF001 - as litellm has it
        opened.close(**said)
    return opened.mark(result)


def _hand_on_to_threads() -> None:
    """Have runs reach the calls that LiteLLM makes in its own threads, without any context.

    The functions for batches begin threads, and so do those without ``await`` that have an event
    loop around them, as in a notebook: a router's, and those with fallbacks.
    """
    for name in BATCHES:
        function = getattr(litellm, name)
        if not hasattr(function, _MARK):
            setattr(litellm, name, handing_on(function))
    run = asyncify.run_async_function
    if hasattr(run, _MARK):
        return
    wrapped = in_callers_context(run)
    for module in [each for name, each in sys.modules.items() if name.startswith("litellm.")]:
        if vars(module).get("run_async_function") is run:  # imported by its name
            vars(module)["run_async_function"] = wrapped


def handing_on(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function for batches whose threads have the run of its caller."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        sink = attribution.current()
        return function(*args, **kwargs if sink is None else {**kwargs, _SINK: sink})

    vars(call)[_MARK] = True  # the mark that _hand_on_to_threads() looks for
    return call


def in_callers_context(run: Callable[..., Any]) -> Callable[..., Any]:
    """Return what runs a coroutine to its end, in its caller's context if in another thread."""

    @functools.wraps(run)
    def run_there(async_function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not attribution.in_event_loop():
            return run(async_function, *args, **kwargs)
        there = functools.partial(contextvars.copy_context().run, run, async_function)
        with ThreadPoolExecutor(max_workers=1) as pool:  # as litellm itself would
            return pool.submit(there, *args, **kwargs).result()

    vars(run_there)[_MARK] = True  # as above
    return run_there
