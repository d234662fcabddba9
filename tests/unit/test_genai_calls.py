"""Each call once: by id, by ancestry, by what was seen of two libraries; what waits for what."""

import pytest
from opentelemetry.trace import set_span_in_context

from otel_budget.instrumentation.genai import calls, tree
from otel_budget.testing import FakeClock
from tests.spans import CHAT, OPENAI, Stage, end, usage

TRACELOOP = "opentelemetry.instrumentation.openai.v1"
LANGCHAIN = "opentelemetry.instrumentation.langchain"
NATIVE = "com.anthropic.sdk.python"
LOGFIRE = "logfire.openai"
AGENT = {"gen_ai.operation.name": "invoke_agent"}
ONE_CALL = {"input": 100, "output": 10, "operations_ok": 1}


@pytest.fixture
def stage(clock: FakeClock) -> Stage:
    """A tracer provider of the test's own."""
    return Stage(clock)


def test_a_call_is_counted_when_its_span_ends(stage: Stage) -> None:
    span = stage.begin()
    assert stage.counts == {}
    end(span, usage(cached=60, cache_write=5, reasoning=4))
    assert stage.counts == {**ONE_CALL, "cached": 60, "cache_write": 5, "reasoning": 4}


def test_a_failed_call_is_a_call(stage: Stage) -> None:
    end(stage.begin(), failed=True)
    assert stage.counts == {"operations_error": 1}


def test_spans_that_are_no_calls_count_nothing_whatever_they_carry(stage: Stage) -> None:
    end(stage.begin(name="GET", attributes={"http.method": "GET"}), usage())
    end(stage.begin(name="fetch", attributes={"gen_ai.operation.name": "fetch_response"}), usage())
    assert stage.counts == {}


def test_the_same_response_id_is_the_same_call_whoever_reports_it(stage: Stage) -> None:
    stage.call(NATIVE, **usage(id="msg_1"))
    stage.call(TRACELOOP, **usage(out=11, id="msg_1"))
    stage.call(NATIVE, **usage(id="msg_1"))
    assert stage.counts == ONE_CALL
    (said,) = [text for text in stage.said if "both report" in text]
    assert said == (
        "Traceloop's spans and anthropic's own spans both report the same calls; counting one "
        "(said once). Switch one of them off, or name it in instrument(ignore_scopes=[...]): "
        f"{TRACELOOP!r}, {NATIVE!r}"
    )


def test_an_id_that_one_library_gives_to_two_different_calls_does_not_hide_the_second(
    stage: Stage,
) -> None:
    stage.call(OPENAI, **usage(100, 10, id="chatcmpl-7"))
    stage.call(OPENAI, **usage(50, 5, id="chatcmpl-7"))
    assert stage.counts == {"input": 150, "output": 15, "operations_ok": 2}


def test_the_second_record_adds_what_the_first_did_not_say(stage: Stage) -> None:
    end(stage.begin(TRACELOOP), {"gen_ai.response.id": "r1"})
    stage.call(OPENAI, **usage(id="r1"))
    assert stage.counts == {**ONE_CALL, "operations_ok_without_usage": 1}


def test_of_two_calls_inside_each_other_the_inner_one_counts(stage: Stage) -> None:
    outer = stage.begin(LANGCHAIN)
    end(stage.begin(OPENAI, context=set_span_in_context(outer)), usage(id="r2"))
    assert stage.counts == ONE_CALL, "at once, not when the outer one ends"
    end(outer, usage())
    assert stage.counts == ONE_CALL


def test_calls_with_ids_of_their_own_inside_each_other_are_two(stage: Stage) -> None:
    outer = stage.begin(LANGCHAIN)
    end(stage.begin(OPENAI, context=set_span_in_context(outer)), usage(id="guard"))
    end(outer, usage(id="answer"))
    assert stage.counts == {"input": 200, "output": 20, "operations_ok": 2}


@pytest.mark.parametrize("failed", [False, True])
def test_an_inner_call_that_says_nothing_gives_way_to_the_outer_one(
    stage: Stage,
    failed: bool,  # noqa: FBT001 - pytest's parameter
) -> None:
    outer = stage.begin(LANGCHAIN)
    end(stage.begin(OPENAI, context=set_span_in_context(outer)), failed=failed)
    assert stage.counts == {}
    end(outer, usage())
    assert stage.counts == ONE_CALL


def test_two_records_that_say_nothing_are_one_call_of_unknown_use(stage: Stage) -> None:
    outer = stage.begin(LANGCHAIN)
    end(stage.begin(OPENAI, context=set_span_in_context(outer)))
    end(outer)
    assert stage.counts == {"operations_ok": 1, "operations_ok_without_usage": 1}


def test_a_call_of_unknown_use_inside_a_users_own_span_does_not_wait_for_it(stage: Stage) -> None:
    workflow = stage.begin("my.app", "workflow", attributes={})
    end(stage.begin(OPENAI, context=set_span_in_context(workflow)))
    assert stage.counts == {"operations_ok": 1, "operations_ok_without_usage": 1}


def test_an_agents_usage_repeats_that_of_its_calls(stage: Stage) -> None:
    agent = stage.begin("pydantic-ai", "invoke_agent a", attributes=AGENT)
    end(stage.begin(OPENAI, context=set_span_in_context(agent)), usage(id="r3"))
    end(agent, usage())
    assert stage.counts == ONE_CALL


def test_an_agents_usage_repeats_that_of_calls_counted_by_another_library(stage: Stage) -> None:
    agent = stage.begin("pydantic-ai", "invoke_agent a", attributes=AGENT)
    stage.call(TRACELOOP, **usage(id="r4"))  # its span is nobody's child
    end(stage.begin("pydantic-ai", context=set_span_in_context(agent)), usage(id="r4"))
    end(agent, usage())
    assert stage.counts == ONE_CALL


def test_an_agent_elsewhere_without_calls_to_be_seen_counts_by_itself(stage: Stage) -> None:
    end(stage.begin("remote", "invoke_agent far", attributes=AGENT), usage())
    assert stage.counts == ONE_CALL


def test_an_agent_that_repeats_all_its_life_is_never_counted(stage: Stage) -> None:
    end(stage.begin("strands.telemetry.tracer", "invoke_agent", attributes=AGENT), usage())
    assert stage.counts == {}


def test_nested_agents_without_calls_to_be_seen_count_once(stage: Stage) -> None:
    outer = stage.begin("remote", "invoke_agent outer", attributes=AGENT)
    end(stage.begin("remote", "i", attributes=AGENT, context=set_span_in_context(outer)), usage())
    end(outer, usage())
    assert stage.counts == ONE_CALL


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
    clock.advance(calls.HOLD + 10)
    stage.call()
    assert stage.counts["operations_ok_without_usage"] == 1
    end(outer, usage())
    assert stage.counts == {
        "input": 200, "output": 20, "operations_ok": 2, "operations_ok_without_usage": 1
    }  # fmt: skip


def test_a_span_that_never_ends_is_a_call_of_unknown_use(stage: Stage, clock: FakeClock) -> None:
    span = stage.begin()
    clock.advance(calls.NEVER_ENDS + 10)
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
    assert "gpt-4o-mini" in said[0]
    assert "stream_usage=True" in said[1]


# --- bounded ----------------------------------------------------------------------------------
def test_spans_that_never_end_are_bounded_and_counted(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "MAX_OPEN", 50)
    for _ in range(200):
        stage.begin()
    assert len(stage.accounting._calls.tree.open) == 50
    assert stage.counts == {"operations_ok": 150, "operations_ok_without_usage": 150}


def test_a_chain_of_spans_without_end_is_not_kept_whole(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "MAX_ENDED", 20)
    last = stage.begin()
    for _ in range(300):
        following = stage.begin(context=set_span_in_context(last))
        end(last, usage())
        last = following
    node = stage.accounting.find(last.get_span_context().span_id)
    depth = 0
    while node is not None:
        node, depth = node.parent, depth + 1
    assert depth < 30


def test_everything_that_is_remembered_is_bounded(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "MAX_IDS", 10)
    for number in range(100):
        stage.call((OPENAI, TRACELOOP)[number % 2], **usage(number + 1, id=f"r{number}"))
        end(stage.begin(LOGFIRE, attributes={**CHAT, "gen_ai.request.model": f"m{number}"}))
    engine = stage.accounting._calls
    assert len(engine._by_id) <= 10
    assert all(len(recent) <= 64 for recent in engine._unlinked._recent.values())


def test_what_litellm_writes_onto_another_span_is_at_least_and_said(stage: Stage) -> None:
    span = stage.begin("my.app", "workflow", attributes={})
    end(span, {**CHAT, **usage(), "litellm.provider.model": "openai/gpt-4o-mini"})
    assert stage.counts == ONE_CALL
    assert [call.unknown for call in stage.tally.calls] == [True]
    assert any("the last call wins" in text for text in stage.said)


def test_a_call_that_says_late_what_it_is_and_never_ends_is_told_by_its_name(
    stage: Stage, clock: FakeClock
) -> None:
    stage.begin("openlit.instrumentation.openai", attributes={})
    clock.advance(calls.NEVER_ENDS + 10)
    stage.begin(name="GET", attributes={})
    assert stage.counts == {"operations_ok": 1, "operations_ok_without_usage": 1}
