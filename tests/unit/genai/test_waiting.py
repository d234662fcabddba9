"""What waits for what, what never comes, what comes half, and that all of it is bounded."""

import pytest
from opentelemetry.trace import set_span_in_context

from otel_budget.genai import response_ids, span_calls, span_tree
from otel_budget.testing import FakeClock
from tests.support.spans import (
    AGENT,
    CHAT,
    LANGCHAIN,
    LOGFIRE,
    NATIVE,
    ONE_CALL,
    OPENAI,
    TRACELOOP,
    Stage,
    end,
    usage,
)


# --- a stream in two records ------------------------------------------------------------------
def stream_record(stage: Stage, **says: object) -> None:
    end(stage.begin(LOGFIRE, "streaming response from 'm' took 1s"), dict(says))


def test_a_streams_usage_in_a_record_of_its_own_is_the_requests(stage: Stage) -> None:
    end(stage.begin(LOGFIRE, "Chat Completion with 'm'"))
    assert stage.counts == {}
    stream_record(stage, **usage())
    assert stage.counts == ONE_CALL


def test_a_record_that_comes_before_its_request_ends_is_the_requests(stage: Stage) -> None:
    request = stage.begin(LOGFIRE, "Chat Completion with 'm'")
    stream_record(stage, **usage())
    end(request)
    assert stage.counts == ONE_CALL


def test_a_stream_without_usage_in_its_record_is_unknown(stage: Stage) -> None:
    end(stage.begin(LOGFIRE, "Chat Completion with 'm'"))
    stream_record(stage)
    assert stage.counts == {"operations_ok": 1, "operations_ok_without_usage": 1}


def test_the_record_of_a_stream_that_another_library_counted_adds_nothing(stage: Stage) -> None:
    request = stage.begin(LOGFIRE, "Message with 'm'")
    native = stage.begin(NATIVE, context=set_span_in_context(request))
    end(request)
    end(native, usage(id="msg_9"))
    stream_record(stage, **usage())
    assert stage.counts == ONE_CALL


# --- two libraries that nothing links ---------------------------------------------------------
def pair(stage: Stage, *, failed: bool = False, **says: object) -> None:
    outer = stage.begin(LANGCHAIN)
    end(stage.begin(TRACELOOP), dict(says), failed=failed)
    end(outer, {k: v for k, v in says.items() if k != "gen_ai.response.id"}, failed=failed)


def test_two_coincidences_are_chance_and_the_third_is_not(stage: Stage) -> None:
    for number in range(5):
        pair(stage, **usage(id=f"resp_{number}"))
    assert stage.counts == {"input": 700, "output": 70, "operations_ok": 7}
    assert sum("both report" in text for text in stage.said) == 1


def test_libraries_known_to_report_the_same_calls_are_not_counted_twice_when_they_say_nothing(
    stage: Stage,
) -> None:
    for number in range(2):
        stage.call(TRACELOOP, **usage(id=f"r{number}"))
        stage.call(LANGCHAIN, **usage(id=f"r{number}"))
    pair(stage, failed=True)
    pair(stage)
    counts = stage.counts
    assert counts["operations_error"] == 1
    assert counts["operations_ok"] == 3


def test_calls_one_after_the_other_with_the_same_tokens_are_different_calls(stage: Stage) -> None:
    for number in range(6):
        stage.call((TRACELOOP, LANGCHAIN)[number % 2], **usage())
    assert stage.counts == {"input": 600, "output": 60, "operations_ok": 6}


def test_a_scope_that_is_to_be_ignored_counts_nothing_and_still_links(clock: FakeClock) -> None:
    stage = Stage(clock, ignore_scopes=[LANGCHAIN])
    for number in range(3):
        pair(stage, **usage(id=f"resp_{number}"))
    assert stage.counts == {"input": 300, "output": 30, "operations_ok": 3}


# --- what never comes -------------------------------------------------------------------------
def test_a_held_call_is_counted_after_a_while(stage: Stage, clock: FakeClock) -> None:
    outer = stage.begin(LANGCHAIN)
    end(stage.begin(OPENAI, context=set_span_in_context(outer)))
    clock.advance(span_calls.HOLD + 10)
    stage.call()
    assert stage.counts["operations_ok_without_usage"] == 1
    end(outer, usage())
    assert stage.counts == {
        "input": 200, "output": 20, "operations_ok": 2, "operations_ok_without_usage": 1
    }  # fmt: skip


def test_a_span_that_never_ends_is_a_call_of_unknown_use(stage: Stage, clock: FakeClock) -> None:
    span = stage.begin()
    clock.advance(span_calls.NEVER_ENDS + 10)
    stage.begin(name="GET", attributes={})
    assert stage.counts == {"operations_ok": 1, "operations_ok_without_usage": 1}
    end(span, usage())
    assert stage.counts == {**ONE_CALL, "operations_ok_without_usage": 1}, "late, not lost"


def test_shutting_down_counts_what_is_held_and_goes_on_counting(stage: Stage) -> None:
    outer = stage.begin(LANGCHAIN)
    end(stage.begin(OPENAI, context=set_span_in_context(outer)))
    stage.processor.shutdown()
    assert stage.counts == {"operations_ok": 1, "operations_ok_without_usage": 1}
    stage.call()
    assert stage.counts["operations_ok"] == 2


def test_the_same_span_twice_is_one_call(stage: Stage) -> None:
    span = stage.begin()
    end(span, usage())
    stage.processor.on_end(span._readable_span())
    assert stage.counts == ONE_CALL


def test_an_end_without_a_start_is_counted_once(stage: Stage) -> None:
    provider = Stage(FakeClock()).provider
    span = provider.get_tracer(OPENAI).start_span("chat m", attributes=CHAT)
    end(span, usage())  # type: ignore[arg-type] # the SDK's own
    for _ in range(2):
        stage.processor.on_end(span._readable_span())  # type: ignore[attr-defined] # as above
    assert stage.counts == ONE_CALL


def test_a_clock_that_runs_backwards_changes_nothing(stage: Stage, clock: FakeClock) -> None:
    span = stage.begin()
    clock.elapsed -= 1e6
    end(span, usage())
    stage.call()
    assert stage.counts["operations_ok"] == 2


def test_what_the_sdk_evicts_from_a_span_is_remembered_from_its_start(stage: Stage) -> None:
    span = stage.begin()
    end(span, {f"gen_ai.prompt.{n}": "x" for n in range(200)} | usage())
    assert "gen_ai.operation.name" not in (span.attributes or {})
    assert stage.counts == ONE_CALL


def test_a_span_that_never_had_its_operation_when_it_was_evicted_is_told_by_its_usage(
    stage: Stage,
) -> None:
    span = stage.begin(LANGCHAIN, "ChatOpenAI.chat", attributes={})
    late = {f"gen_ai.prompt.{n}": "x" for n in range(200)}
    end(span, {"gen_ai.operation.name": "chat", **late, **usage()})
    assert stage.counts == ONE_CALL


def test_ten_megabytes_of_messages_are_carried_and_not_kept(stage: Stage) -> None:
    span = stage.begin()
    end(span, {"gen_ai.input.messages": "x" * 10_000_000} | usage())
    assert stage.counts == ONE_CALL


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "many", True, (1, 2), -0.5])
def test_a_count_that_cannot_be_is_unknown_and_said(stage: Stage, value: object) -> None:
    end(stage.begin(), usage(into=value))
    assert stage.counts["operations_ok"] == 1
    assert [call.unknown for call in stage.tally.calls] == [True]
    assert any("cannot be a count" in text for text in stage.said)


def test_unknown_usage_is_said_once_for_a_model_and_library_with_what_to_do(stage: Stage) -> None:
    for scope in (OPENAI, OPENAI, LANGCHAIN):
        end(stage.begin(scope))
    said = [text for text in stage.said if "without usage" in text]
    assert len(said) == 2
    assert "stream_options={'include_usage': True}" in said[0]
    assert "a call of gpt-4o-mini without usage" in said[0]
    assert "cancelled, abandoned midway or runs in the background has no usage" in said[0]
    assert "stream_usage=True" in said[1]


# --- bounded ----------------------------------------------------------------------------------
def test_spans_that_never_end_are_bounded_and_counted(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_calls, "MAX_OPEN", 50)
    for _ in range(200):
        stage.begin()
    assert len(stage.tracker._calls.tree.open) == 50
    assert stage.counts == {"operations_ok": 150, "operations_ok_without_usage": 150}


def test_a_chain_of_spans_without_end_is_not_kept_whole(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_tree, "MAX_ENDED", 20)
    last = stage.begin()
    for _ in range(300):
        following = stage.begin(context=set_span_in_context(last))
        end(last, usage())
        last = following
    node = stage.tracker._calls.tree.newest(last.get_span_context().span_id)
    depth = 0
    while node is not None:
        node, depth = node.parent, depth + 1
    assert depth < 30


def test_everything_that_is_remembered_is_bounded(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_ids, "MAX_IDS", 10)
    for number in range(100):
        stage.call((OPENAI, TRACELOOP)[number % 2], **usage(number + 1, id=f"r{number}"))
        end(stage.begin(LOGFIRE, attributes={**CHAT, "gen_ai.request.model": f"m{number}"}))
    engine = stage.tracker._calls
    assert len(engine._ids) <= 10
    assert all(len(recent) <= 64 for recent in engine._unlinked._recent.values())


def test_what_litellm_writes_onto_another_span_is_at_least_and_said(stage: Stage) -> None:
    span = stage.begin("my.app", "workflow", attributes={})
    end(span, {**CHAT, **usage(), "litellm.provider.model": "openai/gpt-4o-mini"})
    assert stage.counts == ONE_CALL
    assert [call.unknown for call in stage.tally.calls] == [True]
    assert any("the last call overwrites the others" in text for text in stage.said)


def test_a_call_that_says_late_what_it_is_and_never_ends_is_told_by_its_name(
    stage: Stage, clock: FakeClock
) -> None:
    stage.begin("openlit.instrumentation.openai", attributes={})
    clock.advance(span_calls.NEVER_ENDS + 10)
    stage.begin(name="GET", attributes={})
    assert stage.counts == {"operations_ok": 1, "operations_ok_without_usage": 1}


# --- long, late and half ------------------------------------------------------------------------
def test_an_agent_that_works_for_days_still_repeats_its_calls(
    stage: Stage, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_tree, "MAX_ENDED", 50)
    agent = stage.begin("pydantic-ai", "invoke_agent a", attributes=AGENT)
    for number in range(200):
        clock.advance(600)
        end(stage.begin(context=set_span_in_context(agent)), usage(id=f"day-{number}"))
    end(agent, usage(20_000, 2_000))
    assert stage.counts == {"input": 20_000, "output": 2_000, "operations_ok": 200}


def test_an_agent_whose_start_nobody_saw_is_not_counted(stage: Stage) -> None:
    span = Stage(FakeClock()).begin("pydantic-ai", "invoke_agent a", attributes=AGENT)
    end(span, usage())
    stage.processor.on_end(span._readable_span())
    assert stage.counts == {}


def test_an_agents_usage_stands_in_for_calls_that_do_not_say_theirs(stage: Stage) -> None:
    agent = stage.begin("pydantic-ai", "invoke_agent a", attributes=AGENT)
    end(stage.begin(context=set_span_in_context(agent)))
    end(agent, usage())
    assert stage.counts == {**ONE_CALL, "operations_ok_without_usage": 1}


def test_calls_below_a_workflow_that_says_nothing_at_its_start_do_not_wait_for_it(
    stage: Stage,
) -> None:
    workflow = stage.begin(LANGCHAIN, "LangGraph.workflow", attributes={})
    end(stage.begin(LANGCHAIN, context=set_span_in_context(workflow)), failed=True)
    end(stage.begin(LANGCHAIN, context=set_span_in_context(workflow)))
    assert stage.counts == {
        "operations_ok": 1, "operations_error": 1, "operations_ok_without_usage": 1
    }  # fmt: skip


def test_a_record_without_usage_that_comes_first_leaves_its_request_unknown(stage: Stage) -> None:
    request = stage.begin(LOGFIRE, "Chat Completion with 'm'")
    stream_record(stage)
    end(request)
    stage.processor.force_flush()
    assert stage.counts == {"operations_ok": 1, "operations_ok_without_usage": 1}


def test_a_stream_record_that_says_half_is_at_least(stage: Stage) -> None:
    end(stage.begin(LOGFIRE, "Chat Completion with 'm'"))
    stream_record(stage, **{"gen_ai.usage.input_tokens": 100})
    assert [call.unknown for call in stage.tally.calls] == [True]


def test_calls_of_different_models_are_never_the_same_call(stage: Stage) -> None:
    for _ in range(10):
        outer = stage.begin("openinference.instrumentation.anthropic", attributes={
            "openinference.span.kind": "LLM", "llm.model_name": "claude-sonnet-4-5"})  # fmt: skip
        end(stage.begin(), usage())
        end(outer, {"llm.token_count.prompt": 100, "llm.token_count.completion": 10})
    assert stage.counts["operations_ok"] == 20


def test_an_id_with_another_input_is_another_call(stage: Stage) -> None:
    stage.call(OPENAI, **usage(200, 1, id="chatcmpl-5"))
    stage.call(LANGCHAIN, **usage(201, 1, id="chatcmpl-5"))
    assert stage.counts["operations_ok"] == 2


def test_a_text_that_a_model_wrote_has_no_response_id(stage: Stage) -> None:
    for scope, into in ((OPENAI, 100), (TRACELOOP, 100)):
        said = {"output.mime_type": "text/plain", "output.value": '{"id": "msg_12345"}'}
        end(stage.begin(scope), {**usage(into), **said})
    assert stage.counts["operations_ok"] == 2


@pytest.mark.parametrize("says", [usage(into=0), {"gen_ai.usage.output_tokens": 10}])
def test_a_call_without_input_is_at_least(stage: Stage, says: dict[str, object]) -> None:
    end(stage.begin(), says)
    assert [call.unknown for call in stage.tally.calls] == [True]


def test_a_span_that_a_signal_handler_makes_in_the_middle_of_another_is_counted_after_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_middle = iter([stage.call])

    def current_phase() -> None:
        for handler in in_the_middle:
            handler()

    monkeypatch.setattr(stage.tally, "current_phase", current_phase)
    stage.call()
    assert stage.counts == {"input": 200, "output": 20, "operations_ok": 2}
