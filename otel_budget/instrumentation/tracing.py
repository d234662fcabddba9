"""Spans of a run, its phases and its operations, and the events on them.

Only the OpenTelemetry API is used: without an SDK everything here costs next to nothing and does
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace

from otel_budget import semconv
from otel_budget._version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from opentelemetry.trace import Span

    from otel_budget.instrumentation.record import Amounts
    from otel_budget.model.usage import ResourceUsage
    from otel_budget.model.verdict import ResourceState, Verdict

Attributes = dict[str, str | int | float | bool]


def start_span(name: str, attributes: Attributes) -> AbstractContextManager[Span]:
    """Return a context manager that opens a span and makes it the current one."""
    tracer = trace.get_tracer(semconv.SCOPE_NAME, __version__)
    return tracer.start_as_current_span(name, attributes=attributes)


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
    }


def operation_attributes(amounts: Amounts, outcome: str) -> Attributes:
    """Return what one operation used; what is not known is absent, not 0."""
    attributes: Attributes = {semconv.ATTR_OUTCOME: outcome}
    if amounts.usage_unknown:
        attributes[semconv.ATTR_USAGE_UNKNOWN] = True
    else:
        attributes[semconv.ATTR_TOKENS] = amounts.tokens
    for key, value in (
        (semconv.ATTR_INPUT_TOKENS, amounts.input_tokens),
        (semconv.ATTR_OUTPUT_TOKENS, amounts.output_tokens),
        (semconv.ATTR_CACHE_READ_TOKENS, amounts.cache_read_tokens),
        (semconv.ATTR_CACHE_WRITE_TOKENS, amounts.cache_write_tokens),
        (semconv.ATTR_REASONING_TOKENS, amounts.reasoning_tokens),
    ):
        if value:
            attributes[key] = value
    if amounts.cost_usd is not None:
        attributes[semconv.ATTR_COST_USD] = float(amounts.cost_usd)
    return attributes


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
