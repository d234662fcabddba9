"""Spans of a run, its phases and its operations, with what happened as events on them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_budget import BudgetExceeded, ResourceMonitor, semconv
from otel_budget.testing import FakeClock, stop_verdict
from tests.support.monitors import Make


@pytest.fixture
def spans(process_provider: TracerProvider) -> InMemorySpanExporter:
    """What ends up in a backend."""
    exporter = InMemorySpanExporter()
    process_provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


def by_name(spans: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """Return the spans that ended, by name; the last of each."""
    return {span.name: span for span in spans.get_finished_spans()}


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Return a span's attributes, all of which are ours."""
    found = dict(span.attributes or {})
    assert all(name.startswith("otel_budget.") for name in found)
    return found


def events(span: ReadableSpan) -> list[tuple[str, dict[str, Any]]]:
    """Return a span's events."""
    return [(event.name, dict(event.attributes or {})) for event in span.events]


def test_run_phase_and_operation_are_spans_inside_each_other(
    spans: InMemorySpanExporter, make: Make, clock: FakeClock
) -> None:
    """With what is known at the start of each, and what was used at its end."""
    monitor = make(session_id="spans", workflow="w", scope={"team": "t"})
    with monitor, monitor.phase("plan"):
        with monitor.operation("ask", model="m", provider="p") as operation:
            operation.record(input_tokens=10, output_tokens=5, cache_read_tokens=4, cost_usd=0.5)
        clock.advance(2)
    found = by_name(spans)
    run, phase = found[semconv.SPAN_RUN], found[semconv.SPAN_PHASE]
    ask = found[semconv.SPAN_OPERATION]
    assert run.parent is None
    assert phase.parent == run.context
    assert ask.parent == phase.context
    assert attributes(ask) == {
        "otel_budget.session_id": "spans", "otel_budget.operation": "ask",
        "otel_budget.model": "m", "otel_budget.provider": "p", "otel_budget.outcome": "ok",
        "otel_budget.tokens": 15, "otel_budget.input_tokens": 10, "otel_budget.output_tokens": 5,
        "otel_budget.cache_read_tokens": 4, "otel_budget.cost_usd": 0.5,
    }  # fmt: skip
    assert attributes(phase) == {
        "otel_budget.session_id": "spans", "otel_budget.phase": "plan",
    }  # fmt: skip
    ended = attributes(run)
    assert {ended[f"otel_budget.{name}"] for name in ("workflow", "team")} == {"w", "t"}
    assert ended["otel_budget.resumed"] is False
    assert ended["otel_budget.tokens"] == 15
    assert ended["otel_budget.duration_seconds"] == 2
    assert ended["otel_budget.outcome"] == "completed"
    assert ended["otel_budget.action"] == "continue"
    assert ended["otel_budget.reason"] == "within_limits"


def test_unknown_usage_is_said_and_is_not_zero(spans: InMemorySpanExporter, make: Make) -> None:
    """An operation that said nothing has no tokens on its span."""
    with make().operation():
        pass
    found = attributes(by_name(spans)[semconv.SPAN_OPERATION])
    assert found["otel_budget.usage_unknown"] is True
    assert "otel_budget.tokens" not in found


@pytest.mark.parametrize("call", ["a call", "no call"])
def test_an_operation_that_raised_is_an_error_on_its_span(
    call: str, spans: InMemorySpanExporter, make: Make
) -> None:
    """Whether it was a call or not."""
    with suppress(RuntimeError), make().operation(api_call=call == "a call"):
        raise RuntimeError("overloaded")
    span = by_name(spans)[semconv.SPAN_OPERATION]
    assert attributes(span)["otel_budget.outcome"] == "error"
    assert not span.status.is_ok
    assert [event.name for event in span.events] == ["exception"]


def test_recording_without_a_block_makes_no_span(spans: InMemorySpanExporter, make: Make) -> None:
    """It costs a lock and an addition."""
    make().record_operation(5, api_call=True)
    assert spans.get_finished_spans() == ()


def test_what_happens_to_a_run_are_events_on_its_span(
    spans: InMemorySpanExporter, make: Make, tmp_path: Path
) -> None:
    """Checkpoints, status changes, the verdict, a checkpoint that failed; in their order."""
    with make(session_id="events", max_tokens=100, project_root=tmp_path) as monitor:
        path = monitor.checkpoint()
        monitor.record_operation(85)
        assert not monitor.should_continue(0.5)
        monitor.checkpoint(object())
    run = by_name(spans)[semconv.SPAN_RUN]
    names = [name for name, _ in events(run)]
    assert names == [
        semconv.EVENT_CHECKPOINT, semconv.EVENT_STATUS_CHANGED, semconv.EVENT_VERDICT,
        semconv.EVENT_VERDICT, semconv.EVENT_CHECKPOINT_FAILED, semconv.EVENT_CHECKPOINT,
    ]  # fmt: skip
    said = [fields for _, fields in events(run)]
    assert said[0] == {"otel_budget.checkpoint.path": str(path)}
    assert said[1] == {
        "otel_budget.resource": "tokens", "otel_budget.status": "approaching",
        "otel_budget.used": 85.0, "otel_budget.limit": 100.0,
    }  # fmt: skip
    assert said[3]["otel_budget.action"] == "stop"
    assert said[3]["otel_budget.progress"] == 0.5
    assert said[3]["otel_budget.limit_from"] == "session"
    assert said[3]["otel_budget.decision_id"]
    assert "not JSON serializable" in said[4]["otel_budget.checkpoint.error"]
    assert attributes(run)["otel_budget.outcome"] == "stopped"


def test_the_sidecars_word_is_an_event_too(spans: InMemorySpanExporter, make: Make) -> None:
    """Its verdict, and whether it answers; from whichever thread they come."""
    with make(session_id="word", sidecar="http://127.0.0.1:9") as monitor:
        monitor._run._client.stop()  # type: ignore[union-attr] # nothing else is to be heard
        monitor._run._reachability_changed(reachable=False)
        monitor._run._receive(stop_verdict("word", started_at=monitor._record.started_at))
        monitor._run._reachability_changed(reachable=True)
    names = [name for name, _ in events(by_name(spans)[semconv.SPAN_RUN])]
    assert [name for name in names if name != semconv.EVENT_SIDECAR_LOST] == [
        semconv.EVENT_VERDICT, semconv.EVENT_SIDECAR_FOUND,
    ]  # fmt: skip
    assert semconv.EVENT_SIDECAR_LOST in names


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(RuntimeError("broke"), "failed"), (KeyboardInterrupt(), "stopped"), (None, "completed")],
)
def test_the_outcome_of_a_run_is_how_its_block_ended(
    error: BaseException | None, outcome: str, spans: InMemorySpanExporter, make: Make
) -> None:
    """And the error goes on to whoever catches it."""
    monitor = make()
    went_on = False
    with suppress(RuntimeError, KeyboardInterrupt):
        with monitor:
            if error is not None:
                raise error
        went_on = True
    assert went_on is (error is None)
    assert attributes(by_name(spans)[semconv.SPAN_RUN])["otel_budget.outcome"] == outcome
    assert monitor._record.state == outcome


def test_a_run_that_ended_by_its_budget_was_stopped(
    spans: InMemorySpanExporter, make: Make
) -> None:
    """Raised or asked, that is no failure."""
    monitor = make(max_tokens=1)
    with suppress(BudgetExceeded), monitor:
        monitor.record_operation(1)
        monitor.raise_if_stopped()
    assert attributes(by_name(spans)[semconv.SPAN_RUN])["otel_budget.outcome"] == "stopped"


def test_a_run_in_a_coroutine_has_the_same_span(spans: InMemorySpanExporter, make: Make) -> None:
    """Its tasks' operations are inside it; a cancelled run was stopped, and its span ends."""

    async def run(monitor: ResourceMonitor, *, cancelled: bool) -> None:
        async with monitor:
            with monitor.operation() as operation:
                operation.record(tokens=1)
            if cancelled:
                raise asyncio.CancelledError

    asyncio.run(run(make(), cancelled=False))
    found = by_name(spans)
    assert found[semconv.SPAN_OPERATION].parent == found[semconv.SPAN_RUN].context
    spans.clear()
    with suppress(asyncio.CancelledError):
        asyncio.run(run(make(), cancelled=True))
    assert attributes(by_name(spans)[semconv.SPAN_RUN])["otel_budget.outcome"] == "stopped"


def test_what_comes_after_the_end_goes_on_no_span_that_has_ended(
    spans: InMemorySpanExporter, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK would warn of each."""
    with make(max_tokens=1) as monitor:
        pass
    monitor.record_operation(1)
    monitor.checkpoint()
    assert "ended span" not in caplog.text


def test_a_resumed_run_says_so(
    spans: InMemorySpanExporter, make: Make, tmp_path: Path, clock: FakeClock
) -> None:
    """Also one that was resumed in the moment it began."""
    make(session_id="again", project_root=tmp_path).checkpoint()
    with ResourceMonitor.resume("again", tmp_path, clock=clock.clock):
        pass
    assert attributes(by_name(spans)[semconv.SPAN_RUN])["otel_budget.resumed"] is True
