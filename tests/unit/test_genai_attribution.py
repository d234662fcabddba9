"""Whose call it is: contexts, threads, tasks, nested runs, phases; and calls that are nobody's."""

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import set_span_in_context

import otel_budget
from otel_budget import (
    BudgetExceeded,
    InvalidValueError,
    RecordingSampler,
    ResourceMonitor,
    instrument,
    semconv,
    unattributed_usage,
)
from otel_budget.instrumentation.exposition import SESSIONS
from otel_budget.instrumentation.genai import attribution
from otel_budget.instrumentation.genai.accounting import ACCOUNTING
from otel_budget.instrumentation.genai.notices import Notices
from tests.monitors import Make
from tests.spans import CHAT, OPENAI, end, usage

Call = Callable[..., None]


@pytest.fixture
def provider() -> TracerProvider:
    """A tracer provider whose spans are counted."""
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


@pytest.fixture(autouse=True)
def nothing_entered() -> Iterator[None]:
    """Check that no test leaves a run entered."""
    yield
    assert not attribution._entered


def calls_of(monitor: ResourceMonitor) -> int:
    return monitor.get_usage_report().api_calls


def test_a_call_inside_a_run_is_the_runs(make: Make, call: Call) -> None:
    with make() as monitor:
        call()
    report = monitor.get_usage_report()
    assert (report.api_calls, report.input_tokens, report.output_tokens) == (1, 100, 10)


def test_a_call_outside_of_every_run_is_in_the_processs_account_and_in_its_metrics(
    make: Make, call: Call
) -> None:
    monitor = make()
    before = unattributed_usage()
    call()
    after = unattributed_usage()
    assert calls_of(monitor) == 0
    assert (after.api_calls - before.api_calls, after.tokens - before.tokens) == (1, 110)
    sums = SESSIONS.process.sums(semconv.USAGE_TOKENS)
    ours = [value for labels, value in sums if labels.get("workflow") == semconv.UNATTRIBUTED]
    assert sum(ours) == after.tokens


def test_of_nested_runs_the_inner_one_has_the_call(make: Make, call: Call) -> None:
    with make() as outer:
        call()
        with make() as inner:
            call()
        call()
    assert (calls_of(outer), calls_of(inner)) == (2, 1)


def test_tasks_have_the_run_they_were_started_in(make: Make, call: Call) -> None:
    async def agent(monitor: ResourceMonitor, times: int) -> None:
        async with monitor:
            for _ in range(times):
                await asyncio.sleep(0)
                call()
                await asyncio.gather(*(asyncio.to_thread(call) for _ in range(2)))

    async def main() -> None:
        await asyncio.gather(*(agent(one, n) for n, one in enumerate(monitors, start=1)))

    monitors = [make() for _ in range(4)]
    asyncio.run(main())
    assert [calls_of(monitor) for monitor in monitors] == [3, 6, 9, 12]


def test_a_thread_that_was_handed_the_context_has_its_run(make: Make, call: Call) -> None:
    with make() as one, make() as other, ThreadPoolExecutor(2) as pool:
        context = contextvars.copy_context()
        pool.submit(context.run, call).result()
    assert (calls_of(one), calls_of(other)) == (0, 1)


def test_a_bare_thread_has_the_only_run_there_is(make: Make, call: Call) -> None:
    with make() as monitor:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert calls_of(monitor) == 1


def test_a_bare_thread_has_none_of_two_runs(make: Make, call: Call) -> None:
    before = unattributed_usage().api_calls
    with make() as one, make() as other:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert (calls_of(one), calls_of(other)) == (0, 0)
    assert unattributed_usage().api_calls - before == 1


def test_another_task_beside_the_only_run_is_not_the_runs(make: Make, call: Call) -> None:
    async def unrelated(entered: asyncio.Event) -> None:
        trace.get_tracer("x")
        token = otel_context.attach(baggage.set_baggage("tenant", "a"))  # any context at all
        await entered.wait()
        call()
        otel_context.detach(token)

    async def main() -> None:
        entered = asyncio.Event()
        task = asyncio.create_task(unrelated(entered))
        await asyncio.sleep(0)
        async with monitor:
            entered.set()
            await task

    monitor = make()
    asyncio.run(main())
    assert calls_of(monitor) == 0


def test_a_span_started_in_a_context_that_carries_a_run_is_that_runs(
    make: Make, call: Call
) -> None:
    with make() as one:
        carried = otel_context.get_current()
        with make() as other:
            call(carried)
    assert (calls_of(one), calls_of(other)) == (1, 0)


def test_a_child_of_a_runs_span_is_the_runs_even_without_any_context(
    make: Make, call: Call, provider: TracerProvider
) -> None:
    with make() as monitor:
        parent = provider.get_tracer("app").start_span("work")
    reopened = set_span_in_context(parent, otel_context.Context())
    contextvars.Context().run(call, reopened)
    assert calls_of(monitor) == 1


def test_a_call_belongs_to_the_run_it_began_in(make: Make, provider: TracerProvider) -> None:
    with make() as monitor:
        span = provider.get_tracer(OPENAI).start_span("chat m", attributes=CHAT)
        contextvars.Context().run(end, span, usage())  # type: ignore[arg-type] # the SDK's own
    assert calls_of(monitor) == 1


def test_a_call_belongs_to_the_phase_it_began_in(make: Make, provider: TracerProvider) -> None:
    with make(session_id="phased-calls") as monitor:
        with monitor.phase("search"):
            span = provider.get_tracer(OPENAI).start_span("chat m", attributes=CHAT)
        with monitor.phase("write"):
            end(span, usage())  # type: ignore[arg-type] # the SDK's own
        cells = {name: cell.api_calls for (name, _), cell in monitor._record.cells.items()}
    assert cells["search"] == 1
    assert cells.get("write", 0) == 0


def test_a_phase_or_an_operation_is_enough_to_say_whose_call_it_is(make: Make, call: Call) -> None:
    monitor = make()
    with monitor.phase("only"):
        call()
    with monitor.operation("ask"):
        call()
    assert calls_of(monitor) == 2


def test_an_operation_around_a_librarys_span_is_one_call(
    make: Make,
    call: Call,
    provider: TracerProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(ACCOUNTING, "notices", Notices(lambda text, *_: said.append(text)))
    tracer = provider.get_tracer("app")
    with make() as monitor, tracer.start_as_current_span("work"):
        with monitor.operation("ask"):
            call()
        for _ in range(2):
            with monitor.operation("ask") as operation:
                call()
                operation.record(input_tokens=100, output_tokens=10)
        with monitor.operation("ask") as operation:
            operation.record(input_tokens=1, output_tokens=1)
    report = monitor.get_usage_report()
    assert (report.api_calls, report.tokens) == (4, 332)
    assert sum("repeats a call" in text for text in said) == 1


def test_a_run_that_ends_counts_the_calls_that_did_not(
    make: Make, provider: TracerProvider
) -> None:
    tracer = provider.get_tracer(OPENAI)
    with make() as monitor:
        tracer.start_span("chat m", attributes=CHAT)
    report = monitor.get_usage_report()
    assert (report.api_calls, report.unknown_usage_calls) == (1, 1)


def test_a_run_that_nobody_holds_any_more_loses_no_call(provider: TracerProvider) -> None:
    monitor = ResourceMonitor(session_id="dropped-run")
    with monitor.phase("p"):
        span = provider.get_tracer(OPENAI).start_span("chat m", attributes=CHAT)
    gone = weakref.ref(monitor)
    before = unattributed_usage().api_calls
    del monitor
    gc.collect()
    assert gone() is None, "an open span does not keep a monitor alive"
    end(span, usage())  # type: ignore[arg-type] # the SDK's own
    assert unattributed_usage().api_calls - before == 1


def test_a_stopped_run_raises_before_the_next_call(make: Make, call: Call) -> None:
    with make(max_api_calls=2) as monitor:
        for _ in range(2):
            attribution.current().check()  # type: ignore[union-attr] # there is a run
            call()
        with pytest.raises(BudgetExceeded) as caught:
            attribution.current().check()  # type: ignore[union-attr] # as above
        assert caught.value.verdict.session_id == monitor.session_id
    assert attribution.current() is None


def test_one_response_reported_through_two_providers_is_one_call(make: Make) -> None:
    with make() as monitor:
        for _ in range(2):
            provider = TracerProvider()
            instrument(provider)
            span = provider.get_tracer(OPENAI).start_span("chat m", attributes=CHAT)
            end(span, usage(id="two-providers"))  # type: ignore[arg-type] # the SDK's own
    assert calls_of(monitor) == 1


# --- instrument() -----------------------------------------------------------------------------
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


def test_with_the_recording_sampler_every_call_counts_and_few_are_exported(make: Make) -> None:
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
        for _ in range(500):
            end(tracer.start_span("chat m", attributes=CHAT), usage())  # type: ignore[arg-type] # the SDK's own
    assert calls_of(monitor) == 500
    assert 5 < len(exported) < 150


def test_a_defect_of_ours_never_reaches_the_callers_code(
    provider: TracerProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    for method in ("begin", "end"):
        with monkeypatch.context() as patch:
            patch.setattr(ACCOUNTING, method, broken)
            span = provider.get_tracer(OPENAI).start_span("chat m", attributes=CHAT)
            end(span, usage())  # type: ignore[arg-type] # the SDK's own
            node = ACCOUNTING.open_call("adapter")
            ACCOUNTING.close_call(node, otel_budget.instrumentation.genai.reading.UNSAID)
    assert "please report it" in caplog.text
    ACCOUNTING._failed_before = False
