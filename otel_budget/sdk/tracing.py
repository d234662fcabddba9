"""Spans of a run, its phases and its operations, and the events on them.

Only the OpenTelemetry API is used: without an SDK everything here costs next to nothing and does
nothing.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode

from otel_budget import semconv
from otel_budget._version import __version__
from otel_budget.core.resources import FURTHER
from otel_budget.genai.attached_context import AttachedContext
from otel_budget.logs.logger import logger

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from opentelemetry.trace import Span

    from otel_budget.core.usage import ResourceUsage
    from otel_budget.core.verdict import ResourceState, Verdict
    from otel_budget.sdk.usage_arguments import OperationUsage

Attributes = dict[str, str | int | float | bool]

_failed_before: set[str] = set()


class GuardedSpan(AbstractContextManager["Span"]):
    """A span that never raises into the run it is about, whatever its processors do."""

    def __init__(self, name: str, attributes: Attributes) -> None:
        self._name, self._attributes = name, attributes
        self._open: Span | None = None
        self._attached: AttachedContext | None = None

    def __enter__(self) -> Span:
        """Open the span and make it the current one; if that fails, go on with one that is none."""
        try:
            tracer = trace.get_tracer(semconv.SCOPE_NAME, __version__)
            span = tracer.start_span(self._name, attributes=self._attributes)
            self._attached = AttachedContext(trace.set_span_in_context(span))
        except Exception as exc:  # noqa: BLE001 - a span processor's failure is not the run's
            _failed("started", self._name, exc)
            return trace.INVALID_SPAN
        self._open = span
        return span

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        exc: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """End the span, with the run's own exception on it."""
        span, self._open = self._open, None
        if span is None:
            return
        if self._attached is not None:
            self._attached.detach()
        try:
            if isinstance(exc, Exception) and span.is_recording():
                span.record_exception(exc)
                words = f"{type(exc).__name__}: {exc}"
                span.set_status(Status(StatusCode.ERROR, words))
            span.end()
        except Exception as problem:  # noqa: BLE001 - as above
            _failed("ended", self._name, problem)


def start_span(name: str, attributes: Attributes) -> AbstractContextManager[Span]:
    """Return a context manager that opens a span and makes it the current one."""
    return GuardedSpan(name, attributes)


def annotate(span: Span, attributes: Attributes) -> None:
    """Put attributes on a span; never raises."""
    try:
        span.set_attributes(attributes)
    except Exception as exc:  # noqa: BLE001 - as above
        _failed("described", "of an operation", exc)


def _failed(what: str, name: str, exc: Exception) -> None:
    """Say so, aloud the first time only: a broken processor breaks every span."""
    level = logging.DEBUG if what in _failed_before else logging.WARNING
    _failed_before.add(what)
    logger.log(
        level, "the span %s could not be %s: %s: %s; the run goes on (said once)",
        name, what, type(exc).__name__, exc,
    )  # fmt: skip


def run_attributes(session_id: str, labels: Mapping[str, str], *, resumed: bool) -> Attributes:
    """Return what is known of a run when it begins."""
    scope = {f"{semconv.SCOPE_NAME}.{name}": value for name, value in labels.items() if value}
    return {semconv.ATTR_SESSION_ID: session_id, semconv.ATTR_RESUMED: resumed, **scope}


def usage_attributes(usage: ResourceUsage) -> Attributes:
    """Return what a run used, for the end of its span."""
    return {
        semconv.ATTR_TOKENS: usage.tokens,
        semconv.ATTR_INPUT_TOKENS: usage.input_tokens,
        semconv.ATTR_OUTPUT_TOKENS: usage.output_tokens,
        semconv.ATTR_CACHE_READ_TOKENS: usage.cache_read_tokens,
        semconv.ATTR_CACHE_WRITE_TOKENS: usage.cache_write_tokens,
        semconv.ATTR_REASONING_TOKENS: usage.reasoning_tokens,
        semconv.ATTR_API_CALLS: usage.api_calls,
        semconv.ATTR_FAILED_API_CALLS: usage.failed_api_calls,
        semconv.ATTR_COST_USD: float(usage.cost_usd),
        semconv.ATTR_DURATION: usage.duration_seconds,
        **{row.attribute: getattr(usage, row.usage_key) for row in FURTHER.values()},
    }


def operation_attributes(usage: OperationUsage, outcome: str) -> Attributes:
    """Return what one operation used; what is not known is absent, not 0."""
    attributes: Attributes = {semconv.ATTR_OUTCOME: outcome}
    if usage.usage_unknown:
        attributes[semconv.ATTR_USAGE_UNKNOWN] = True
    else:
        attributes[semconv.ATTR_TOKENS] = usage.tokens
    for key, value in (
        (semconv.ATTR_INPUT_TOKENS, usage.input_tokens),
        (semconv.ATTR_OUTPUT_TOKENS, usage.output_tokens),
        (semconv.ATTR_CACHE_READ_TOKENS, usage.cache_read_tokens),
        (semconv.ATTR_CACHE_WRITE_TOKENS, usage.cache_write_tokens),
        (semconv.ATTR_REASONING_TOKENS, usage.reasoning_tokens),
    ):
        if value:
            attributes[key] = value
    for name, number in usage.further.items():
        attributes[FURTHER[name].attribute] = number
    if usage.cost_usd is not None:
        attributes[semconv.ATTR_COST_USD] = float(usage.cost_usd)
    return attributes


def add_event(name: str, attributes: Attributes) -> None:
    """Put an event on the current span. Never raises: a processor's failure is not the run's."""
    with suppress(Exception):
        trace.get_current_span().add_event(name, attributes)


def verdict_attributes(verdict: Verdict) -> Attributes:
    """Return the verdict, for an event or the end of a run's span."""
    attributes: Attributes = {
        semconv.ATTR_ACTION: str(verdict.action),
        semconv.ATTR_STATUS: str(verdict.status),
        semconv.ATTR_REASON: str(verdict.reason),
        semconv.ATTR_MESSAGE: verdict.message,
        semconv.ATTR_DECISION_ID: verdict.decision_id,
        semconv.ATTR_LIMIT_FROM: "session" if verdict.lease_seconds is None else "sidecar",
    }
    if verdict.progress is not None:
        attributes[semconv.ATTR_PROGRESS] = verdict.progress
    return attributes


def status_attributes(resource: str, state: ResourceState) -> Attributes:
    """Return one resource whose status changed, for an event."""
    attributes: Attributes = {
        semconv.ATTR_RESOURCE: resource,
        semconv.ATTR_STATUS: str(state.status),
        semconv.ATTR_USED: float(state.used),
    }
    if state.limit is not None:
        attributes[semconv.ATTR_LIMIT] = float(state.limit)
    return attributes
