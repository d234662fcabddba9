"""Whose call it is: contexts, threads, tasks, nested runs, phases; and calls that are nobody's."""

import asyncio
import contextvars
import gc
import random
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import set_span_in_context

from otel_budget import (
    BudgetExceeded,
    ResourceMonitor,
    instrument,
    semconv,
    unattributed_usage,
)
from otel_budget.genai import attribution
from otel_budget.genai.call_tracker import CALL_TRACKER
from otel_budget.genai.notices import Notices
from otel_budget.sdk.metrics.collector import RUNS
from tests.support.monitors import Make
from tests.support.spans import CHAT, OPENAI, Call, calls_of, end, usage


@pytest.fixture(autouse=True)
def nothing_entered() -> Iterator[None]:
    """Check that no test leaves a run entered."""
    yield
    assert not attribution._entered


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
    sums = RUNS.process.sums(semconv.USAGE_TOKENS)
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
        counters_by_phase = {
            name: counters.read().api_calls
            for (name, _), counters in monitor._record.counters_by_phase.items()
        }
    assert counters_by_phase["search"] == 1
    assert counters_by_phase.get("write", 0) == 0


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
    monkeypatch.setattr(CALL_TRACKER, "notices", Notices(lambda text, *_: said.append(text)))
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
    assert sum("repeats calls" in text for text in said) == 1


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
            end(span, usage(id="resp_of_two_providers_1"))  # type: ignore[arg-type] # the SDK's own
    assert calls_of(monitor) == 1


# --- contexts that are left in another order ----------------------------------------------------
def test_runs_that_are_left_in_another_order_keep_their_calls(make: Make, call: Call) -> None:
    one, other = make(), make()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    call()
    other.__exit__(None, None, None)
    before = unattributed_usage().api_calls
    call()
    assert (calls_of(one), calls_of(other)) == (0, 1)
    assert unattributed_usage().api_calls - before == 1


def test_a_run_that_is_over_is_in_no_copy_of_its_context_any_more(make: Make, call: Call) -> None:
    with make() as outer:
        with make() as inner:
            copied = contextvars.copy_context()
        copied.run(call)
    assert (calls_of(outer), calls_of(inner)) == (1, 0)


def test_every_call_of_a_bare_thread_is_the_only_runs(make: Make, call: Call) -> None:
    def work() -> None:
        for _ in range(3):
            call()

    with make(max_cost_usd=1) as monitor:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert calls_of(monitor) == 3


def test_a_second_monitor_of_the_same_session_does_not_take_the_first_ones_name_away(
    make: Make, call: Call
) -> None:
    with make(session_id="twice") as first:
        carried = otel_context.get_current()
        with make(session_id="twice") as second:
            call()
        contextvars.Context().run(call, carried)
    assert (calls_of(first), calls_of(second)) == (1, 1)


def test_a_slow_callback_of_one_run_holds_up_no_other_runs_call(make: Make, call: Call) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def slow(_verdict: object) -> None:
        inside.set()
        go_on.wait(10)

    def use_up() -> None:
        with make(max_tokens=50, on_verdict=slow):
            call()

    thread = threading.Thread(target=use_up)
    thread.start()
    try:
        assert inside.wait(10)
        with make() as other:
            call()
            assert calls_of(other) == 1
    finally:
        go_on.set()
        thread.join()


def test_seeded_ids_that_come_twice_are_different_spans(make: Make, call: Call) -> None:
    state = random.getstate()
    tracer_provider = TracerProvider()
    instrument(tracer_provider)
    tracer = tracer_provider.get_tracer(OPENAI)
    try:
        with make() as monitor:
            spans = []
            for number in range(4):
                random.seed(42)
                spans.append(tracer.start_span("chat m", attributes=CHAT, start_time=number + 1))
            assert len({span.get_span_context().span_id for span in spans}) == 1
            for number, span in enumerate(spans):
                end(span, usage(100 * (number + 1), 0))  # type: ignore[arg-type] # the SDK's own
    finally:
        random.setstate(state)
    report = monitor.get_usage_report()
    assert (report.api_calls, report.input_tokens) == (4, 1_000)


def test_an_operation_counts_what_it_says_beyond_the_calls_inside_it(
    make: Make, call: Call
) -> None:
    with make() as monitor, monitor.operation("retrieve and ask") as operation:
        call()
        operation.record(input_tokens=1_000, output_tokens=100)
    report = monitor.get_usage_report()
    assert (report.api_calls, report.tokens) == (1, 1_100)


def test_an_operation_is_not_one_with_the_calls_of_another_run_inside_it(
    make: Make, call: Call
) -> None:
    monitor = make()
    with monitor.operation("delegate") as operation:
        with make() as other:
            call()
        operation.record(tokens=1_000)
    assert (calls_of(monitor), calls_of(other)) == (1, 1)
    assert monitor.get_usage_report().tokens == 1_000
