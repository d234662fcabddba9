"""The door: what instrument() takes, what it says, and that it never breaks the caller."""

import logging
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased

from otel_budget import (
    InvalidValueError,
    RecordingSampler,
    instrument,
)
from otel_budget.genai.call_tracker import CALL_TRACKER
from otel_budget.genai.notices import Notices
from otel_budget.genai.span_reader import NOTHING_REPORTED
from tests.support.monitors import Make
from tests.support.spans import CHAT, OPENAI, Call, calls_of, end, usage


def test_instrumenting_a_provider_again_changes_nothing(provider: TracerProvider) -> None:
    assert instrument(provider) is instrument(provider)
    assert len(provider._active_span_processor._span_processors) == 1


def test_a_provider_without_a_hash_is_fine() -> None:
    class Unhashable(TracerProvider):
        __hash__ = None  # type: ignore[assignment] # as some libraries' dataclasses have it

        def __eq__(self, other: object) -> bool:
            return self is other

    unhashable = Unhashable()
    assert instrument(unhashable) is instrument(unhashable)


@pytest.mark.parametrize("wrong", ["a text", 7, trace.NoOpTracerProvider()])
def test_what_takes_no_span_processors_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidValueError, match="tracer_provider"):
        instrument(wrong)


def test_one_scope_to_ignore_as_a_text_is_refused(provider: TracerProvider) -> None:
    with pytest.raises(InvalidValueError, match="ignore_scopes"):
        instrument(provider, ignore_scopes="litellm")


def test_a_sampler_that_drops_spans_is_said(caplog: pytest.LogCaptureFixture) -> None:
    for sampler in (TraceIdRatioBased(0.99), ALWAYS_OFF, ParentBased(TraceIdRatioBased(0.1))):
        caplog.clear()
        instrument(TracerProvider(sampler=sampler))
        assert "RecordingSampler" in caplog.text
    caplog.clear()
    instrument(TracerProvider())
    instrument(TracerProvider(sampler=RecordingSampler(ALWAYS_OFF)))
    assert not caplog.text


def test_with_the_recording_sampler_every_call_counts_and_few_are_exported(
    make: Make,
    process_provider: TracerProvider,
) -> None:
    """What is exported is chosen by trace: each call has one of its own."""
    exported = []

    class Exporter:
        def on_start(self, span: Any, parent_context: Any = None) -> None: ...
        def _on_ending(self, span: Any) -> None: ...
        def shutdown(self) -> None: ...
        def on_end(self, span: Any) -> None:
            if span.context.trace_flags.sampled:
                exported.append(span)

    provider = TracerProvider(sampler=RecordingSampler(TraceIdRatioBased(0.1)))
    instrument(provider)
    provider.add_span_processor(Exporter())  # type: ignore[arg-type] # all that is called, it has
    tracer = provider.get_tracer(OPENAI)
    with make() as monitor:
        assert trace.get_current_span().is_recording(), "the run has a span, which is no parent"
        for _ in range(500):
            alone = trace.set_span_in_context(trace.INVALID_SPAN)
            end(tracer.start_span("chat m", alone, attributes=CHAT), usage())  # type: ignore[arg-type] # the SDK's own
    assert calls_of(monitor) == 500
    assert 5 < len(exported) < 150


def test_a_defect_of_ours_never_reaches_the_callers_code(
    provider: TracerProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(CALL_TRACKER, "_failed_before", False)
    for method in ("start", "end", "settle"):
        with monkeypatch.context() as patch:
            patch.setattr(CALL_TRACKER._calls, method, broken)
            span = provider.get_tracer(OPENAI).start_span("chat m", attributes=CHAT)
            end(span, usage())  # type: ignore[arg-type] # the SDK's own
            CALL_TRACKER.close_call(CALL_TRACKER.open_call("adapter"), NOTHING_REPORTED)
            provider.force_flush()
    assert "please report this" in caplog.text


def test_a_broken_log_handler_costs_no_call(make: Make, provider: TracerProvider) -> None:
    class Broken(logging.Filter):
        def filter(self, _record: logging.LogRecord) -> bool:
            raise RuntimeError("a broken filter")

    broken = Broken()
    logging.getLogger("otel_budget").addFilter(broken)
    try:
        with make() as monitor:
            span = provider.get_tracer("a-new-scope").start_span("chat m", attributes=CHAT)
            span.end()
    finally:
        logging.getLogger("otel_budget").removeFilter(broken)
    assert monitor.get_usage_report().unknown_usage_calls == 1


def test_what_nobody_will_count_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_SDK_DISABLED", "true")
        instrument(TracerProvider())
    assert "no calls are counted" in caplog.text


def test_other_scopes_to_ignore_come_too_late_and_that_is_said(
    provider: TracerProvider, caplog: pytest.LogCaptureFixture
) -> None:
    instrument(provider, ignore_scopes=["litellm"])
    assert "is ignored" in caplog.text


def test_a_run_in_which_no_call_was_seen_is_said_once(
    make: Make, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(CALL_TRACKER, "notices", Notices(lambda text, *_: said.append(text)))
    with make():
        call()
    make().close(timeout=0)  # nobody made calls inside it
    assert said == []
    for _ in range(2):
        with make():
            pass
    assert len([text for text in said if "not one model call was seen" in text]) == 1
