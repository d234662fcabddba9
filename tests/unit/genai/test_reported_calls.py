"""Calls that a framework tells of itself: asked for before, counted once after."""

import contextvars
import threading
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from otel_budget import BudgetExceeded
from otel_budget.genai import reported_call as seam
from otel_budget.genai.call_tracker import CALL_TRACKER
from otel_budget.genai.reported_call import ReportedCall
from tests.support.monitors import Make
from tests.support.spans import AGENT, CHAT, OPENAI, end, usage
from tests.support.stand_ins import counts

SCOPE = "otel_budget.langchain"
SAID: dict[str, Any] = {"input": 100, "output": 10, "model": "gpt-4o-mini"}


def test_a_call_counts_with_what_the_framework_says(make: Make) -> None:
    with make() as monitor:
        ReportedCall(SCOPE, None).close(**SAID, cached=60, cache_write=10, reasoning=4)
    report = monitor.get_usage_report()
    assert (report.api_calls, report.input_tokens, report.output_tokens) == (1, 100, 10)
    assert (report.cache_read_tokens, report.cache_write_tokens) == (60, 10)
    assert report.reasoning_tokens == 4


def test_parts_that_are_larger_than_their_whole_are_added_to_it(make: Make) -> None:
    with make() as monitor:
        ReportedCall(SCOPE, None).close(input=30, output=10, cached=60, reasoning=15)
    report = monitor.get_usage_report()
    assert (report.input_tokens, report.output_tokens) == (90, 25)


def test_a_run_that_must_stop_is_asked_before_the_call(make: Make) -> None:
    with make(max_api_calls=2) as monitor:
        for _ in range(2):
            ReportedCall(SCOPE, None).close(**SAID)
        with pytest.raises(BudgetExceeded, match="2 of 2") as stopped:
            ReportedCall(SCOPE, None)
    assert not stopped.value.verdict.should_continue
    assert counts(monitor) == (2, 0, 0, 220)


def test_the_run_that_is_handed_over_counts_and_not_that_of_the_context(make: Make) -> None:
    other = make(max_api_calls=1)
    with make() as monitor:
        ReportedCall(SCOPE, other).close(**SAID)
        with pytest.raises(BudgetExceeded):
            ReportedCall(SCOPE, other)
    assert (counts(other)[0], counts(monitor)[0]) == (1, 0)


def test_a_call_belongs_to_the_run_it_began_in_wherever_it_ends(make: Make) -> None:
    with make() as first:
        call = ReportedCall(SCOPE, None)
    with make() as second:
        thread = threading.Thread(target=lambda: call.close(**SAID))
        thread.start()
        thread.join()
    assert (counts(first)[3], counts(second)[0]) == (110, 0)


def test_a_call_that_is_closed_twice_counts_once(make: Make) -> None:
    with make() as monitor:
        call = ReportedCall(SCOPE, None)
        call.close(**SAID)
        call.close()
    assert counts(monitor) == (1, 0, 0, 110)


def test_a_call_without_usage_or_without_an_end_is_of_unknown_use(make: Make) -> None:
    with make() as monitor:
        ReportedCall(SCOPE, None).close(model="m")
        ReportedCall(SCOPE, None).close(input=0, output=0)
        ReportedCall(SCOPE, None)
    assert counts(monitor) == (3, 0, 3, 0)


def test_the_input_of_a_call_whose_output_is_not_known_counts(make: Make) -> None:
    with make() as monitor:
        ReportedCall(SCOPE, None).close(input=100)
    assert counts(monitor) == (1, 0, 1, 100)


def test_a_call_that_failed_is_a_call(make: Make) -> None:
    with make() as monitor:
        ReportedCall(SCOPE, None, model="m").close(failed=True)
    assert counts(monitor) == (1, 1, 0, 0)


def test_a_call_that_was_none_counts_nothing(make: Make) -> None:
    with make() as monitor:
        call = ReportedCall(SCOPE, None)
        call.cancel()
        call.close(**SAID)
    assert counts(monitor) == (0, 0, 0, 0)


@pytest.mark.parametrize("wrong", [-1, float("nan"), "many", [1]])
def test_what_cannot_be_a_count_is_unknown(make: Make, wrong: object) -> None:
    with make() as monitor:
        ReportedCall(SCOPE, None).close(input=wrong, output=10)
    assert counts(monitor) == (1, 0, 1, 10)


def test_a_defect_in_reading_costs_neither_the_answer_nor_the_call(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(CALL_TRACKER, "_failed_before", False)
    monkeypatch.setattr(seam, "read", broken)
    with make() as monitor:
        ReportedCall(SCOPE, None).close(**SAID)
    assert counts(monitor) == (1, 0, 1, 0)
    assert "please report this" in caplog.text
    CALL_TRACKER._failed_before = False


def test_a_span_inside_the_call_is_that_call(make: Make, provider: TracerProvider) -> None:
    tracer = provider.get_tracer(OPENAI)
    for said in (usage(), {}):
        with make() as monitor:
            call = ReportedCall(SCOPE, None)
            with call.around():
                span = tracer.start_span("chat m", attributes=CHAT)
            end(span, said)  # type: ignore[arg-type] # the SDK's own
            call.close(**SAID)
        assert counts(monitor) == (1, 0, 0, 110)


def test_a_span_around_the_call_is_that_call(make: Make, provider: TracerProvider) -> None:
    with make() as monitor:
        with provider.get_tracer(OPENAI).start_as_current_span("chat m", attributes=CHAT) as span:
            ReportedCall(SCOPE, None).close(**SAID)
            span.set_attributes(usage())
        ReportedCall(SCOPE, None).close(**SAID)
    assert counts(monitor) == (2, 0, 0, 220)


def test_spans_after_its_release_are_calls_of_their_own(
    make: Make, provider: TracerProvider
) -> None:
    with make() as monitor:
        call = ReportedCall(SCOPE, None)
        call.enclose()
        call.release()
        tracer = provider.get_tracer("a library that was never seen inside a call of the framework")
        end(tracer.start_span("chat m", attributes=CHAT))  # type: ignore[arg-type] # the SDK's own
        call.close(**SAID)
    assert counts(monitor) == (2, 0, 1, 110)


def test_a_call_can_be_released_in_another_context(make: Make) -> None:
    with make() as monitor:
        call = ReportedCall(SCOPE, None)
        call.enclose()
        contextvars.copy_context().run(call.close, **SAID)
    assert counts(monitor) == (1, 0, 0, 110)


def test_a_call_that_is_made_by_another_function_of_the_framework_is_one(make: Make) -> None:
    with make() as monitor:
        outer = ReportedCall(SCOPE, None)
        with outer.around():
            ReportedCall(SCOPE, None).close(failed=True)
            ReportedCall(SCOPE, None).close(**SAID, response_id="inner")
        outer.close(input=100, output=11, response_id="outer")
    assert counts(monitor) == (2, 1, 0, 110)


def test_a_span_that_fails_of_a_refusal_is_no_call(make: Make, provider: TracerProvider) -> None:
    tracer = provider.get_tracer(OPENAI)
    agent = tracer.start_as_current_span("agent", attributes=AGENT)
    with make(max_api_calls=1) as monitor, agent:
        ReportedCall(SCOPE, None).close(**SAID)
        with pytest.raises(BudgetExceeded), tracer.start_as_current_span("chat m", attributes=CHAT):
            ReportedCall(SCOPE, None)
    assert counts(monitor) == (1, 0, 0, 110)


def test_a_span_that_never_ends_after_a_refusal_is_no_call(
    make: Make, provider: TracerProvider
) -> None:
    with make(max_api_calls=0) as monitor:
        span = provider.get_tracer(OPENAI).start_span("chat m", attributes=CHAT)
        with trace.use_span(span), pytest.raises(BudgetExceeded):
            ReportedCall(SCOPE, None)
    assert counts(monitor) == (0, 0, 0, 0)


def test_a_span_that_ends_as_if_nothing_were_after_a_refusal_is_no_call(
    make: Make, provider: TracerProvider
) -> None:
    """So end those of streams that are cancelled, because nobody will read them."""
    tracer = provider.get_tracer(OPENAI)
    with make(max_api_calls=0) as monitor:
        with (
            tracer.start_as_current_span("chat m", attributes=CHAT),
            pytest.raises(BudgetExceeded),
        ):
            ReportedCall(SCOPE, None)
        tracer.start_span("chat m", attributes=CHAT).end()
    assert counts(monitor) == (1, 0, 1, 0)


def test_a_span_that_says_what_was_used_after_a_refusal_inside_it_is_a_call(
    make: Make, provider: TracerProvider
) -> None:
    with (
        make(max_api_calls=0) as monitor,
        provider.get_tracer(OPENAI).start_as_current_span("chat m", attributes=CHAT) as span,
    ):
        with pytest.raises(BudgetExceeded):
            ReportedCall(SCOPE, None)
        span.set_attributes(usage())
    assert counts(monitor) == (1, 0, 0, 110)


def test_an_adapter_tells_each_call_once_whatever_id_its_server_gives_it(make: Make) -> None:
    """A server on one's own hardware may give the same one each time."""
    with make() as monitor:
        for _ in range(3):
            ReportedCall(SCOPE, None).close(**SAID | {"response_id": "resp_0123456789abcdef"})
    assert counts(monitor) == (3, 0, 0, 330)
