"""Spans as libraries make them, for tests of what is counted of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Status, StatusCode

from otel_budget import ResourceMonitor, instrument
from otel_budget.genai.call_tracker import CallTracker
from otel_budget.genai.notices import Notices
from otel_budget.genai.processor import BudgetSpanProcessor
from otel_budget.genai.replay import CountingSink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span

    from otel_budget.testing import FakeClock

OPENAI = "opentelemetry.instrumentation.genai.openai"
TRACELOOP = "opentelemetry.instrumentation.openai.v1"
LANGCHAIN = "opentelemetry.instrumentation.langchain"
NATIVE = "com.anthropic.sdk.python"
LOGFIRE = "logfire.openai"
AGENT = {"gen_ai.operation.name": "invoke_agent"}
#: What ``usage()`` is counted as.
ONE_CALL = {"input": 100, "output": 10, "operations_ok": 1}
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini"}
#: Makes one model call of 100 and 10 tokens.
Call = Callable[..., None]
_numbers = itertools.count(1)


def usage(into: object = 100, out: object = 10, **parts: object) -> dict[str, Any]:
    """Return what a call says it used, in the standard's names."""
    names = {
        "cached": "gen_ai.usage.cache_read.input_tokens",
        "cache_write": "gen_ai.usage.cache_write.input_tokens",
        "reasoning": "gen_ai.usage.reasoning.output_tokens",
        "id": "gen_ai.response.id",
    }
    said = {"gen_ai.usage.input_tokens": into, "gen_ai.usage.output_tokens": out}
    return said | {names[key]: value for key, value in parts.items()}


class Stage:
    """A tracer provider of its own, whose spans are counted in a tally or in monitors."""

    def __init__(self, clock: FakeClock, ignore_scopes: Sequence[str] = ()) -> None:
        """Count nothing yet. What is said to the user is kept in ``said``."""
        self.said: list[str] = []
        self.tally = CountingSink()
        say: Callable[..., None] = lambda text, *args: self.said.append(text % args)  # noqa: E731 - one line
        self.tracker = CallTracker(Notices(say), lambda: clock.elapsed)
        self.tracker.unattributed = self.tally
        self.processor = BudgetSpanProcessor(self.tracker, ignore_scopes=ignore_scopes)
        self.provider = TracerProvider()
        self.provider.add_span_processor(self.processor)

    def begin(
        self,
        scope: str = OPENAI,
        name: str = "chat gpt-4o-mini",
        context: Context | None = None,
        **attributes: Any,
    ) -> Span:
        """Start a span. attributes: of the start, by default those of a chat."""
        tracer = self.provider.get_tracer(scope)
        started = attributes.get("attributes", CHAT)
        return tracer.start_span(name, context=context, attributes=started)  # type: ignore[return-value] # the SDK's own

    def call(self, scope: str = OPENAI, context: Context | None = None, **says: Any) -> None:
        """Make one call that says something."""
        end(self.begin(scope, context=context), says or usage(id=f"id-{next(_numbers)}"))

    @property
    def counts(self) -> dict[str, int]:
        """What was counted, without what is 0."""
        return {key: value for key, value in self.tally.counts.items() if value}


def end(span: Span, says: dict[str, Any] | None = None, *, failed: bool = False) -> None:
    """End a span."""
    span.set_attributes(says or {})
    if failed:
        span.set_status(Status(StatusCode.ERROR))
    span.end()


def calls_of(monitor: ResourceMonitor) -> int:
    """Return how many calls a run has made."""
    return monitor.get_usage_report().api_calls


@pytest.fixture
def stage(clock: FakeClock) -> Stage:
    """A tracer provider whose spans are counted in a tally."""
    return Stage(clock)


@pytest.fixture
def process_provider(monkeypatch: pytest.MonkeyPatch) -> TracerProvider:
    """The process's tracer provider while the test runs: spans of runs are made by it.

    None is left behind: where there is one, all that a run does is in one trace.
    """
    provider = TracerProvider()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)  # set_tracer_provider is for ever
    assert trace.get_tracer_provider() is provider
    return provider


@pytest.fixture
def provider() -> TracerProvider:
    """A tracer provider whose spans are counted in the runs of this process."""
    provider = TracerProvider()
    instrument(provider)
    return provider


@pytest.fixture
def call(provider: TracerProvider) -> Call:
    """Make one model call of 100 and 10 tokens."""
    tracer = provider.get_tracer(OPENAI)

    def make(context: Any = None) -> None:
        end(tracer.start_span("chat m", context=context, attributes=CHAT), usage())  # type: ignore[arg-type] # the SDK's own

    return make
