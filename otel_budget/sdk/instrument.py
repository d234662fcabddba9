"""The public door: count what the spans of LLM libraries report, by two lines of code."""

from __future__ import annotations

import importlib
import os
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.environment_variables import OTEL_SDK_DISABLED
from opentelemetry.sdk.trace import TracerProvider

from otel_budget.adapters.ending import INSTRUCTION
from otel_budget.adapters.sdk_clients.door import guard_all
from otel_budget.errors import InvalidValueError
from otel_budget.genai import sampling
from otel_budget.genai.call_tracker import CALL_TRACKER
from otel_budget.genai.processor import BudgetSpanProcessor
from otel_budget.logs.logger import logger
from otel_budget.runtime.fork import ProcessLock
from otel_budget.sdk.usage_sinks import UNATTRIBUTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_budget.adapters.ending import OnStop
    from otel_budget.core.usage import ResourceUsage

_lock = ProcessLock()
#: Not by hash: some libraries' providers have none.
_installed: list[tuple[weakref.ref[TracerProvider], BudgetSpanProcessor]] = []


def instrument(
    tracer_provider: trace.TracerProvider | None = None,
    *,
    ignore_scopes: Sequence[str] = (),
    guard: bool = False,
    on_stop: OnStop = "raise",
    instruction: str = INSTRUCTION,
    brief: bool = False,
) -> BudgetSpanProcessor:
    """Book every model call that a span reports into the monitor of the run it is made in.

    tracer_provider: the application's; by default the global one, and if there is none yet, a new
    one is made that exports nothing. Call this after your own set-up. ignore_scopes: beginnings of
    the names of instrumentation scopes whose calls are not to be counted. guard: every client of
    OpenAI's and Anthropic's SDKs asks before each call, those that were made before, too; on_stop,
    instruction, brief: as for ``guard_client``. It imports those of the two that are installed.

    The run is that of ``with monitor:`` around the call. Calls outside of every run are counted in
    ``unattributed_usage()``. Called again for the same provider it changes nothing and returns the
    same processor. Raises InvalidValueError for a provider that takes no span processors.
    """
    if isinstance(ignore_scopes, str):
        raise InvalidValueError("ignore_scopes", ignore_scopes, "a list of names")
    if guard:
        guard_all(on_stop=on_stop, instruction=instruction, brief=brief)
    with _lock:
        provider = _provider(tracer_provider)
        for known, processor in _installed:
            if known() is provider:
                if not processor.ignores(ignore_scopes):
                    logger.warning(
                        "instrument() was already called for this provider: ignore_scopes=%r is "
                        "ignored", list(ignore_scopes),
                    )  # fmt: skip
                return processor
        processor = BudgetSpanProcessor(ignore_scopes=ignore_scopes)
        provider.add_span_processor(processor)
        _installed[:] = [(known, its) for known, its in _installed if known() is not None]
        _installed.append((weakref.ref(provider), processor))
    if os.environ.get(OTEL_SDK_DISABLED, "").strip().lower() == "true":
        logger.warning("%s is set: no spans are made, so no calls are counted", OTEL_SDK_DISABLED)
    CALL_TRACKER.listens |= tracer_provider is None
    _look_at_sampler(provider)
    with suppress(ImportError):  # now, not in the middle of the first call
        importlib.import_module("otel_budget.sdk.pricing.bundled")
    return processor


def unattributed_usage() -> ResourceUsage:
    """Return what the calls used that were made outside of every run of this process."""
    return UNATTRIBUTED.usage()


def _provider(given: trace.TracerProvider | None) -> TracerProvider:
    provider = trace.get_tracer_provider() if given is None else given
    if given is None and isinstance(provider, trace.ProxyTracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
        logger.info(
            "no tracer provider was set up: otel-budget made one, which counts calls and exports "
            "nothing. If your application sets its own, call instrument() after that"
        )
    if not callable(getattr(provider, "add_span_processor", None)):
        raise InvalidValueError(
            "tracer_provider", provider, "a TracerProvider of the OpenTelemetry SDK: it takes span "
            "processors",
        )  # fmt: skip
    return provider  # type: ignore[return-value] # others than the SDK's own take processors, too


def _look_at_sampler(provider: TracerProvider) -> None:
    dropping = sampling.drops(getattr(provider, "sampler", None))
    if dropping is not None:
        logger.warning(
            "the sampler %s drops spans, and the model calls in them are not counted: wrap it, as "
            "in TracerProvider(sampler=RecordingSampler(...)); the same spans are exported as now",
            dropping,
        )  # fmt: skip
