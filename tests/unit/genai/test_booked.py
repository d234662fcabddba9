"""What is booked of a call, in whose account; and that nothing of it is lost on the way."""

import pytest
from opentelemetry.context import Context, get_current
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace import set_span_in_context

from otel_budget import RecordingSampler
from otel_budget.genai import attribution, deduplication, sampling
from otel_budget.genai.attribution import Activation
from otel_budget.genai.call import Call
from otel_budget.genai.replay import CountingSink
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


@pytest.mark.parametrize(
    ("at_start", "at_end", "model"),
    [
        ({"gen_ai.request.model": "asked"}, {"gen_ai.response.model": "answered"}, "answered"),
        ({"gen_ai.request.model": "asked"}, {}, "asked"),
        ({}, {"llm.model_name": "late"}, "late"),
        ({"gen_ai.request.model": 7}, {"gen_ai.response.model": ""}, None),
        ({}, {}, None),
    ],
)
def test_the_model_is_what_answered_else_what_was_asked(
    stage: Stage, at_start: dict[str, object], at_end: dict[str, object], model: str | None
) -> None:
    end(stage.begin(attributes={"gen_ai.operation.name": "chat", **at_start}), usage() | at_end)
    assert [call.model for call in stage.tally.calls] == [model]


@pytest.mark.parametrize("spelling", ["gen_ai.provider.name", "gen_ai.system", "llm.provider"])
def test_the_provider_is_booked(stage: Stage, spelling: str) -> None:
    end(stage.begin(attributes={**CHAT, spelling: "anthropic"}), usage())
    assert [call.provider for call in stage.tally.calls] == ["anthropic"]


def test_a_never_ending_call_keeps_its_model(stage: Stage, clock: FakeClock) -> None:
    span = stage.begin()
    clock.advance(4_000)
    stage.begin(name="GET", attributes={})
    end(span, usage())
    span = stage.begin(name="again")
    assert [(call.model, call.is_call) for call in stage.tally.calls] == [
        ("gpt-4o-mini", True),
        ("gpt-4o-mini", False),
    ]


def test_a_run_that_ends_settles_its_own_calls_and_no_others(stage: Stage) -> None:
    one, other = CountingSink(), CountingSink()
    for tally in (one, other):
        with Activation(tally):
            outer = stage.begin(LANGCHAIN)
            end(stage.begin(context=set_span_in_context(outer)))  # held
            stage.begin()  # open
    stage.tracker.settle(one)
    assert one.counts["operations_ok_without_usage"] == 2
    assert not other.calls


def test_an_open_call_around_one_that_was_counted_is_that_one(stage: Stage) -> None:
    tally = CountingSink()
    with Activation(tally):
        outer = stage.begin(LANGCHAIN)
        end(stage.begin(context=set_span_in_context(outer)), usage())
    stage.tracker.settle(tally)
    assert tally.counts["operations_ok"] == 1


def test_a_callback_that_ends_the_process_loses_no_other_runs_call(stage: Stage) -> None:
    class Leaving(CountingSink):
        def add(self, _call: Call, _phase: object) -> None:
            raise SystemExit(3)

    leaving, other = Leaving(), CountingSink()
    for tally in (leaving, other):
        with Activation(tally):
            outer = stage.begin(LANGCHAIN)
            end(stage.begin(context=set_span_in_context(outer)))
    with pytest.raises(SystemExit):
        stage.processor.force_flush()
    assert other.counts["operations_ok"] == 1


def test_of_several_attempts_the_outer_call_is_the_last_and_the_others_failed(
    stage: Stage,
) -> None:
    outer = stage.begin("litellm", "litellm_request", attributes={})
    for _ in range(3):
        end(stage.begin(context=set_span_in_context(outer)), failed=True)
    end(outer, {**CHAT, **usage()})
    assert stage.counts == {**ONE_CALL, "operations_error": 2}


def test_a_guards_call_inside_a_call_is_another_one(stage: Stage) -> None:
    outer = stage.begin(LANGCHAIN, attributes={**CHAT, "gen_ai.request.model": "large"})
    guard = {**CHAT, "gen_ai.request.model": "small"}
    end(stage.begin(attributes=guard, context=set_span_in_context(outer)), usage(50, 1))
    end(outer, usage(5_000, 800))
    assert stage.counts["input"] == 5_050


def test_three_records_above_each_other_that_say_nothing_are_one_call(stage: Stage) -> None:
    top = stage.begin(LANGCHAIN)
    middle = stage.begin(NATIVE, context=set_span_in_context(top))
    end(stage.begin(TRACELOOP, context=set_span_in_context(middle)))
    end(middle)
    assert stage.counts == {}
    end(top)
    assert stage.counts == {"operations_ok": 1, "operations_ok_without_usage": 1}


def test_an_outer_call_adds_to_one_that_was_counted_as_unknown(
    stage: Stage, clock: FakeClock
) -> None:
    outer = stage.begin(LANGCHAIN)
    end(stage.begin(context=set_span_in_context(outer)))
    clock.advance(200)
    stage.begin(name="GET", attributes={})
    end(outer, usage())
    assert stage.counts == {**ONE_CALL, "operations_ok_without_usage": 1}


def test_the_sixty_fifth_call_below_a_span_counts_like_the_first(stage: Stage) -> None:
    agent = stage.begin("my.app", "work", attributes={})
    for number in range(70):
        end(stage.begin(context=set_span_in_context(agent)), usage(id=f"below-{number}"))
    assert stage.counts["operations_ok"] == 70


def test_a_deep_tree_is_no_reason_to_count_twice(stage: Stage) -> None:
    agent = span = stage.begin("a", "invoke_agent", attributes=AGENT)
    for _ in range(40):
        span = stage.begin("app", "step", context=set_span_in_context(span), attributes={})
    end(stage.begin(context=set_span_in_context(span)), usage())
    end(agent, usage())
    assert stage.counts == ONE_CALL


# --- ids, streams and pairs -------------------------------------------------------------------
def test_ids_that_a_server_makes_of_small_numbers_hide_no_call(stage: Stage) -> None:
    for number in range(2_000):
        end(stage.begin(), usage(200, 1, id=f"chatcmpl-{number % 999}"))
    assert stage.counts["operations_ok"] == 2_000


def test_a_third_record_adds_nothing_to_what_the_second_said(stage: Stage) -> None:
    end(stage.begin(), {"gen_ai.response.id": "resp_0001"})
    for _ in range(2):
        stage.call(TRACELOOP, **usage(id="resp_0001"))
    assert [call.is_call for call in stage.tally.calls] == [True, False]
    assert stage.counts == {**ONE_CALL, "operations_ok_without_usage": 1}


def test_one_early_record_is_one_requests(stage: Stage) -> None:
    first = stage.begin(LOGFIRE, "Chat Completion with 'm'")
    second = stage.begin(LOGFIRE, "Chat Completion with 'm'")
    end(stage.begin(LOGFIRE, "streaming response from 'm' took 1s"), usage())
    end(first)
    end(second)
    stage.processor.force_flush()
    assert stage.counts == {**ONE_CALL, "operations_ok": 2, "operations_ok_without_usage": 1}


def test_a_failed_request_takes_its_record_with_it(stage: Stage) -> None:
    failed = stage.begin(LOGFIRE, "Chat Completion with 'm'")
    end(stage.begin(LOGFIRE, "streaming response from 'm' took 1s"), usage())
    end(failed, failed=True)
    end(stage.begin(LOGFIRE, "Chat Completion with 'm'"))
    stage.processor.force_flush()
    assert stage.counts["operations_ok_without_usage"] == 1


def test_one_inner_call_is_the_twin_of_one_outer_call(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deduplication, "CHANCES", 0)
    one, other = stage.begin(LANGCHAIN), stage.begin(LANGCHAIN)
    end(stage.begin(TRACELOOP), usage())
    end(one, usage())
    end(other, usage())
    assert stage.counts["operations_ok"] == 2


@pytest.mark.parametrize("model", ["gpt-4o-mini-2024-07-18", "openai/gpt-4o-mini", ""])
def test_a_models_name_may_have_a_date_or_a_provider_in_one_of_two_records(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr(deduplication, "CHANCES", 0)
    outer = stage.begin(LANGCHAIN, attributes={**CHAT, "gen_ai.request.model": model})
    end(stage.begin(TRACELOOP), usage())
    end(outer, usage())
    assert stage.counts == ONE_CALL


def test_an_agent_elsewhere_that_says_nonsense_is_a_call_of_unknown_use(stage: Stage) -> None:
    end(stage.begin("remote", "invoke_agent far", attributes=AGENT), usage(-1, "x"))
    assert stage.counts == {"operations_ok": 1, "operations_ok_without_usage": 1}


def test_cached_tokens_without_an_input_are_at_least(stage: Stage) -> None:
    said = {"gen_ai.usage.cache_read.input_tokens": 600, "gen_ai.usage.output_tokens": 10}
    end(stage.begin(), said)
    assert [(call.usage.input, call.unknown) for call in stage.tally.calls] == [(600, True)]


# --- contexts and samplers ---------------------------------------------------------------------
def test_a_context_that_names_another_run_goes_before_the_codes_own(stage: Stage) -> None:
    class Named(CountingSink):
        session_id = "named"

    named, here = Named(), CountingSink()
    with Activation(named), Activation(here):
        pass
    with Activation(named):
        carried = get_current()
        with Activation(here):
            stage.call(context=carried)
            stage.call(context=Context())
    assert (len(named.calls), len(here.calls)) == (1, 1)
    assert attribution.current() is None


@pytest.mark.parametrize(
    ("sampler", "drops"),
    [
        (ALWAYS_ON, False),
        (ParentBased(ALWAYS_ON), False),
        (RecordingSampler(ALWAYS_OFF), False),
        (RecordingSampler(ParentBased(ALWAYS_OFF)), False),
        (ParentBased(RecordingSampler(ALWAYS_OFF)), True),
        (ParentBased(RecordingSampler(TraceIdRatioBased(0.5))), True),
        (TraceIdRatioBased(0.999), True),
        (ALWAYS_OFF, True),
        ("no sampler", False),
    ],
)
def test_a_sampler_that_drops_spans_of_a_run_is_told(
    sampler: object,
    drops: bool,  # noqa: FBT001 - pytest's parameter
) -> None:
    assert (sampling.drops(sampler) is not None) == drops


def test_other_peoples_spans_inside_other_scopes_cost_no_more_than_their_number(
    stage: Stage,
) -> None:
    for number in range(300):
        stage.call(f"scope-{number}", **usage(id=f"scoped-{number}"))
        stage.call(OPENAI, **usage(id=f"scoped-{number}"))
    assert stage.counts["operations_ok"] == 300
    assert len(stage.tracker._calls._unlinked._scopes) <= deduplication.MAX_SCOPES


@pytest.mark.parametrize("outer_ends_first", [False, True])
def test_of_two_libraries_that_are_known_the_one_that_says_what_was_used_is_believed(
    stage: Stage,
    outer_ends_first: bool,  # noqa: FBT001 - pytest's parameter
) -> None:
    for number in range(2):
        stage.call(NATIVE, **usage(id=f"known-{number}"))
        stage.call(TRACELOOP, **usage(id=f"known-{number}"))
    outer, native = stage.begin(TRACELOOP), stage.begin(NATIVE)
    if outer_ends_first:
        end(outer)
        end(native, usage(id="msg"))
    else:
        end(native, usage(id="msg"))
        end(outer)
    counts = stage.counts
    assert (counts["input"], counts["operations_ok"]) == (300, 3)


def test_a_span_that_never_ends_is_no_call_if_a_library_that_is_known_reported_it(
    stage: Stage,
) -> None:
    for number in range(2):
        stage.call(NATIVE, **usage(id=f"known-{number}"))
        stage.call(TRACELOOP, **usage(id=f"known-{number}"))
    tally = CountingSink()
    with Activation(tally):
        for number in range(2):
            pair = (stage.begin(TRACELOOP), stage.begin(NATIVE))
            end(pair[1], usage(id=f"both-{number}"))
        for number in range(2):
            stage.call(NATIVE, **usage(id=f"tally-{number}"))
    stage.tracker.settle(tally)
    assert tally.counts["operations_ok"] == 4
