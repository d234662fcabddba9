"""LiteLLM: count its calls, and ask before each.

    install()                                  # all of litellm's own functions, for the process
    completion = budgeted(litellm.completion)  # or one function, also one that is imported already

LiteLLM's callbacks cannot do this: they cannot stop a call, and they come later, in other threads,
when the next call may be under way. So its functions are wrapped. A call that may not be made
raises ``StoppedByBudget``.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Final

import litellm

from otel_budget.adapters import litellm_threads
from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.genai import billed
from otel_budget.genai.call_tracker import CALL_TRACKER
from otel_budget.genai.costs import charged, in_headers
from otel_budget.genai.reported_call import HasUsageSink, ReportedCall
from otel_budget.genai.values import field

if TYPE_CHECKING:
    from collections.abc import Callable

SCOPE: Final = "otel_budget.litellm"
CALL_TRACKER.adapters.add("LiteLLM")
#: The functions of litellm that call a model.
FUNCTIONS: Final = (
    "completion", "acompletion", "text_completion", "atext_completion", "embedding", "aembedding",
    "responses", "aresponses",
)  # fmt: skip

#: Arguments by which an application gives litellm the prices of a call.
_OWN_PRICES: Final = ("_cost_per_token", "_cost_per_second")


class StoppedByBudget(BudgetExceeded):
    """Says that a run must stop."""

    status_code = 400
    """A request that is wrong for good: routers neither try it again nor blame the deployment."""


def install(monitor: HasUsageSink | None = None) -> None:
    """Wrap the functions of litellm, for routers and frameworks above it, too.

    Code that took a function before (``from litellm import completion``, a ``Router`` its
    ``responses``) keeps the bare one. Installed twice it changes nothing.
    """
    CALL_TRACKER.notices.no_longer("litellm")  # its span code counts for nothing from now on
    for name in FUNCTIONS:
        function = getattr(litellm, name)
        if not hasattr(function, "otel_budget"):
            setattr(litellm, name, budgeted(function, monitor))
    litellm_threads.install()


def budgeted(
    function: Callable[..., Any], monitor: HasUsageSink | None = None
) -> Callable[..., Any]:
    """Return a function of litellm that is counted, and raises StoppedByBudget instead of a call
    that may not be made. monitor: of the run, by default that of the context of each call.
    """
    parameters = tuple(inspect.signature(function).parameters)
    operation = "embeddings" if "embedding" in function.__name__ else "chat"

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        reported = _begin(monitor, dict(zip(parameters, args, strict=False)), kwargs)
        try:
            with reported.around():
                result = function(*args, **kwargs)
        except BaseException as exc:
            _close_unanswered(reported, exc)
            raise
        return _counted(reported, result, operation, kwargs)

    @functools.wraps(function)
    async def call_async(*args: Any, **kwargs: Any) -> Any:
        reported = _begin(monitor, dict(zip(parameters, args, strict=False)), kwargs)
        try:
            with reported.around():
                result = await function(*args, **kwargs)
        except BaseException as exc:
            _close_unanswered(reported, exc)
            raise
        return _counted(reported, result, operation, kwargs)

    wrapper = call_async if inspect.iscoroutinefunction(function) else call
    vars(wrapper)["otel_budget"] = True  # the mark that install() looks for
    return wrapper


def _begin(
    monitor: HasUsageSink | None, args: dict[str, Any], kwargs: dict[str, Any]
) -> ReportedCall:
    """Begin a call with arguments, of which those by position are named. Raises StoppedByBudget."""
    handed_on = kwargs.pop(litellm_threads.SINK, None)
    model = kwargs.get("model", args.get("model"))
    try:
        tier = kwargs.get("service_tier")
        return ReportedCall(SCOPE, monitor, sink=handed_on, model=model, service_tier=tier)
    except BudgetExceeded as exc:
        raise StoppedByBudget(exc.verdict) from None


def _close_unanswered(reported: ReportedCall, exc: BaseException) -> None:
    """Count a call without an answer. One that was cancelled may be answered all the same.

    Raises StoppedByBudget if a call inside it was refused, whatever litellm's fallbacks made of it.
    """
    refusal = None if isinstance(exc, BudgetExceeded) else reported.refusal_inside()
    reported.close(failed=isinstance(exc, Exception))
    if refusal is not None:
        raise StoppedByBudget(refusal.verdict) from exc


class CountingStream:
    """What a stream of litellm does besides, while its call is open: count it when it ends.

    The stream stays the object it is, and an instance of its class: routers look at that.
    """

    _reported: ReportedCall
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
        self._reported.close(**_unfinished(self._said))

    def _seen(self, chunk: Any) -> Any:
        said = said_by(getattr(chunk, "response", None) or chunk)
        extras = said["extras"] | self._said.get("extras", {})
        self._said |= {name: value for name, value in said.items() if value is not None}
        self._said["extras"] = extras
        return chunk

    def _end(self, exc: BaseException, ended: type[BaseException]) -> None:
        if isinstance(exc, ended):
            self._reported.close(**self._said)
        else:
            failed = isinstance(exc, Exception)
            self._reported.close(failed=failed, **_unfinished(self._said))


@functools.cache
def _counting(kind: type) -> type:
    return type(kind.__name__, (CountingStream, kind), {})


def _count_at_its_end(reported: ReportedCall, stream: Any) -> None:
    try:
        stream.__class__ = _counting(stream.__class__)
    except TypeError:  # a generator: what it puts out nobody gets to know
        reported.close()
        return
    stream._reported, stream._said = reported, {}  # noqa: SLF001 - it is ours now


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


def _counted(reported: ReportedCall, result: Any, operation: str, kwargs: dict[str, Any]) -> Any:
    if (getattr(result, "_hidden_params", None) or {}).get("cache_hit"):
        reported.cancel()  # litellm's own cache: nobody was asked
    elif hasattr(result, "__next__") or hasattr(result, "__anext__"):
        _count_at_its_end(reported, result)
    else:
        said = said_by(result)
        if said["charge"] is None and any(name.endswith(_OWN_PRICES) for name in kwargs):
            said["charge"] = result._hidden_params.get("response_cost")  # noqa: SLF001 - as litellm has it
        reported.close(operation=operation, **said)
    return result
