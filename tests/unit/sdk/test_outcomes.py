"""How a run ends by what its block raised, and that spans never raise into it."""

from __future__ import annotations

import asyncio
import logging

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

from otel_budget import BudgetExceeded, ResourceMonitor
from otel_budget.sdk import tracing
from otel_budget.testing import stop_verdict
from tests.support.monitors import Make


class Broken(SpanProcessor):
    """Fails at the start or at the end of every span, while it is on."""

    def __init__(self) -> None:
        """Begin switched off."""
        self.fails_at = ""

    def on_start(self, _span: Span, parent_context: Context | None = None) -> None:
        """Fail if asked to."""
        if self.fails_at == "start":
            raise RuntimeError("no room in the queue")

    def on_end(self, _span: ReadableSpan) -> None:
        """Fail if asked to."""
        if self.fails_at == "end":
            raise RuntimeError("no room in the queue")


@pytest.fixture
def broken(process_provider: TracerProvider, monkeypatch: pytest.MonkeyPatch) -> Broken:
    """A span processor to be switched on."""
    processor = Broken()
    process_provider.add_span_processor(processor)
    monkeypatch.setattr(tracing, "_failed_before", set())
    return processor


def fail_in_an_operation(monitor: ResourceMonitor) -> None:
    """Use some tokens, then raise."""
    with monitor.operation() as operation:
        operation.record(tokens=7)
        raise KeyError("the caller's")


def end_with(monitor: ResourceMonitor, raised: BaseException | None, tokens: int = 1) -> None:
    """Raise at the end of a run's block."""
    with monitor:
        monitor.record_operation(tokens)
        monitor.should_continue(0.1)
        if raised is not None:
            raise raised


def wrapped(cause: BaseException) -> RuntimeError:
    """Raise as a framework does from what it caught."""
    error = RuntimeError("the response has already started")
    error.__cause__ = cause
    return error


def grouped(*exceptions: BaseException) -> BaseExceptionGroup[BaseException]:
    """Raise as a TaskGroup does."""
    return BaseExceptionGroup("of some tasks", exceptions)


def circular() -> RuntimeError:
    """Raise what is its own cause."""
    error = RuntimeError("round and round")
    error.__cause__ = error
    return error


@pytest.mark.parametrize("fails_at", ["start", "end"])
def test_a_span_processors_failure_is_not_the_runs(
    fails_at: str, broken: Broken, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """What was used is counted, the caller's own exception comes out, and one warning is enough."""
    broken.fails_at = fails_at
    monitor = make()
    with caplog.at_level(logging.DEBUG), monitor:
        with monitor.phase("one"), monitor.operation() as operation:
            operation.record(tokens=5)
        with pytest.raises(KeyError, match="the caller's"):
            fail_in_an_operation(monitor)
    assert monitor.get_usage_report().tokens == 12
    assert monitor.get_usage_report().failed_api_calls == 1
    assert monitor._record.state == "completed"
    said = [record for record in caplog.records if "no room in the queue" in record.getMessage()]
    assert [record.levelno for record in said] == [logging.WARNING, *[logging.DEBUG] * 3]
    assert not trace.get_current_span().get_span_context().is_valid, "a span was left open"


def test_a_span_that_takes_no_attributes_fails_no_run(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Another SDK's, say."""

    class Strange(trace.NonRecordingSpan):
        def set_attributes(self, *_: object) -> None:
            raise RuntimeError("read-only")

    tracing.annotate(Strange(trace.INVALID_SPAN_CONTEXT), {"a": 1})
    assert "read-only" in caplog.text


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [
        (None, "completed"),
        (ValueError("x"), "failed"),
        (SystemExit(), "stopped"),
        (SystemExit(0), "stopped"),
        (SystemExit(1), "failed"),
        (SystemExit("no such file"), "failed"),
        (KeyboardInterrupt(), "stopped"),
        (asyncio.CancelledError(), "stopped"),
        (GeneratorExit(), "stopped"),
        (BudgetExceeded(stop_verdict("outcome-own")), "stopped"),
        (BudgetExceeded(stop_verdict("outcome-another")), "failed"),
        (wrapped(BudgetExceeded(stop_verdict("outcome-own"))), "stopped"),
        (wrapped(BudgetExceeded(stop_verdict("outcome-another"))), "failed"),
        (wrapped(asyncio.CancelledError()), "failed"),  # asyncio's TimeoutError, say
        (grouped(BudgetExceeded(stop_verdict("outcome-own")), KeyboardInterrupt()), "stopped"),
        (grouped(BudgetExceeded(stop_verdict("outcome-own")), ValueError("x")), "failed"),
        (circular(), "failed"),
    ],
    ids=repr,
)
def test_a_block_ends_its_run_by_what_it_raised(
    raised: BaseException | None, outcome: str, make: Make
) -> None:
    """Somebody's word ends a run in order; another run's limit is this one's failure."""
    monitor = make(session_id="outcome-own")
    if raised is None:
        end_with(monitor, raised)
    else:
        with pytest.raises(type(raised)):
            end_with(monitor, raised)
    assert monitor._record.state == outcome


def test_a_run_that_was_told_to_stop_and_then_fails_has_failed(make: Make) -> None:
    """It went another way than in order."""
    monitor = make(max_tokens=10)
    with pytest.raises(ValueError, match="x"):
        end_with(monitor, ValueError("x"), tokens=10)
    assert monitor._guard.told_to_stop
    assert monitor._record.state == "failed"
