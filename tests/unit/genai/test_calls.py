"""Each call once: by id, by ancestry, by what was seen of two libraries; what waits for what."""

import pytest
from opentelemetry.trace import set_span_in_context

from tests.support.spans import (
    AGENT,
    LANGCHAIN,
    NATIVE,
    ONE_CALL,
    OPENAI,
    TRACELOOP,
    Stage,
    end,
    usage,
)


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
    stage.call(NATIVE, **usage(id="msg_01XFDUDYJgAACzvnptvVoYEL"))
    stage.call(TRACELOOP, **usage(out=11, id="msg_01XFDUDYJgAACzvnptvVoYEL"))
    stage.call(NATIVE, **usage(id="msg_01XFDUDYJgAACzvnptvVoYEL"))
    assert stage.counts == ONE_CALL
    (said,) = [text for text in stage.said if "both report" in text]
    assert said == (
        "Traceloop's spans and anthropic's own spans both report the same calls: each call is "
        "counted once (said once). Switch one of them off, or name it in "
        "instrument(ignore_scopes=[...]): "
        f"{TRACELOOP!r}, {NATIVE!r}"
    )


@pytest.mark.parametrize("made_up", ["0", "x", "unknown", "chatcmpl-local", "chatcmpl-77"])
def test_an_id_that_stands_for_none_hides_no_call_of_its_library(
    stage: Stage, made_up: str
) -> None:
    """Some servers give each answer the same one."""
    for _ in range(3):
        stage.call(TRACELOOP, **usage(id=made_up))
    assert stage.counts["operations_ok"] == 3


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


def test_usage_on_a_span_of_an_unknown_kind_is_not_counted_and_said(stage: Stage) -> None:
    for _ in range(2):
        odd = {"gen_ai.operation.name": "ponder"}
        end(stage.begin("semantic_kernel", "call_llm", attributes=odd), usage())
    assert stage.counts == {}
    assert len([text for text in stage.said if "'ponder'" in text]) == 1


def test_a_third_record_of_a_call_does_not_count_for_what_its_inner_one_did_not_say(
    stage: Stage,
) -> None:
    stage.call(NATIVE, **usage(id="msg_3"))
    outer = stage.begin(LANGCHAIN, "ChatAnthropic.chat")
    end(stage.begin(TRACELOOP, context=set_span_in_context(outer)), usage(0, 0))
    end(outer, usage(id="msg_3"))
    stage.processor.force_flush()
    assert stage.counts == ONE_CALL
