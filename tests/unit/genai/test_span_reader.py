"""What one span says: every spelling, parts inside their wholes, and nothing that cannot be."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget.core.validation import MAX_COUNT
from otel_budget.genai import attribute_names
from otel_budget.genai.span_reader import Kind, Usage, kind_of, read
from otel_budget.genai.values import as_count

CHAT: dict[str, object] = {"gen_ai.operation.name": "chat"}
IN, OUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"


@pytest.mark.parametrize(
    ("name", "scope", "seen", "kind"),
    [
        ("chat gpt-4o", "x", {"gen_ai.operation.name": "chat"}, Kind.INFERENCE),
        ("embeddings e", "x", {"gen_ai.operation.name": "embeddings"}, Kind.INFERENCE),
        ("litellm_request", "litellm", {"gen_ai.operation.name": "acompletion"}, Kind.INFERENCE),
        ("openai.chat", "x", {"llm.request.type": "chat"}, Kind.INFERENCE),
        ("ChatCompletion", "openinference.x", {"openinference.span.kind": "LLM"}, Kind.INFERENCE),
        ("agent", "openinference.x", {"openinference.span.kind": "AGENT"}, Kind.AGGREGATE),
        ("invoke_agent a", "x", {"gen_ai.operation.name": "invoke_agent"}, Kind.AGGREGATE),
        ("execute_tool t", "x", {"gen_ai.operation.name": "execute_tool"}, Kind.AGGREGATE),
        ("fetch", "x", {"gen_ai.operation.name": "fetch_response"}, Kind.OTHER),
        ("responses.retrieve", "x", {"gen_ai.operation.name": "chat"}, Kind.OTHER),
        ("messages.count_tokens", "x", {"openinference.span.kind": "LLM"}, Kind.OTHER),
        ("raw_gen_ai_request", "litellm", {"llm.request.type": "chat"}, Kind.OTHER),
        ("OpenAI API call to '/x'", "logfire.openai", {}, Kind.OTHER),
        ("streaming response from 'm'", "logfire.openai", CHAT, Kind.STREAM_RECORD),
        ("streaming response from 'm'", "somebody.else", CHAT, Kind.INFERENCE),
        ("GET /", "opentelemetry.instrumentation.httpx", {"http.method": "GET"}, Kind.OTHER),
        ("chat", "x", {"gen_ai.operation.name": 7}, Kind.OTHER),
        ("with usage alone", "x", {IN: 5}, Kind.OTHER),
    ],
)
def test_what_a_span_is_follows_from_its_operation(
    name: str, scope: str, seen: dict[str, object], kind: Kind
) -> None:
    assert kind_of(name, scope, seen) is kind


def test_a_span_that_lost_its_operation_to_the_sdks_limit_is_told_by_usage_or_name() -> None:
    assert kind_of("something", "x", {IN: 5}, evicted=True) is Kind.INFERENCE
    assert kind_of("openai.chat", "x", {}, evicted=True) is Kind.INFERENCE
    assert kind_of("chat gpt-4o", "x", {}, evicted=True) is Kind.INFERENCE
    assert kind_of("responses.retrieve", "x", {IN: 5}, evicted=True) is Kind.OTHER
    assert kind_of("GET /", "x", {}, evicted=True) is Kind.OTHER


@pytest.mark.parametrize(
    ("part", "spelling"),
    [
        (part, spelling)
        for part, spellings in attribute_names.USAGE.items()
        for spelling in spellings
    ],
)
def test_every_spelling_is_read(part: str, spelling: str) -> None:
    seen = {**CHAT, IN: 1000, OUT: 1000}
    if part in ("input", "output"):
        del seen[{"input": IN, "output": OUT}[part]]
    report = read("chat", "x", {**seen, spelling: 7})
    assert getattr(report.usage, part) == 7


def test_the_first_spelling_counts_and_totals_are_never_added() -> None:
    seen: dict[str, object] = {
        **CHAT, IN: 100, "gen_ai.usage.prompt_tokens": 100, "llm.token_count.prompt": 100, OUT: 10,
        "gen_ai.usage.completion_tokens": 10, "gen_ai.usage.total_tokens": 110,
        "gen_ai.aggregated_usage.input_tokens": 900,
    }  # fmt: skip
    assert read("chat", "x", seen).usage == Usage(100, 10)


def test_an_emitter_that_leaves_cached_tokens_out_of_the_input_is_corrected() -> None:
    cache = {"gen_ai.usage.cache_read.input_tokens": 600,
             "gen_ai.usage.cache_creation.input_tokens": 100}  # fmt: skip
    said: dict[str, object] = {**CHAT, IN: 300, OUT: 300, **cache}
    assert read("chat", "x", said).usage.input == 1000, "700 of 300 cannot be inside"
    known = {**said, IN: 800, "gen_ai.provider.name": "anthropic"}
    assert read("chat", "openlit.instrumentation.anthropic", known).usage.input == 1500
    of_openai = {**known, "gen_ai.provider.name": "openai"}
    assert read("chat", "openlit.instrumentation.openai", of_openai).usage.input == 800
    assert read("chat", "opentelemetry.x", known).usage.input == 800


def test_reasoning_larger_than_the_output_was_counted_beside_it() -> None:
    said: dict[str, object] = {**CHAT, IN: 1, OUT: 220, "gen_ai.usage.reasoning_tokens": 240}
    assert read("chat", "x", said).usage.output == 460


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (0, 0), (7, 7), (7.0, 7), (7.2, 8), ("7", 7), (" 12 ", 12), (MAX_COUNT, MAX_COUNT),
        (-1, None), (-0.5, None), (math.nan, None), (math.inf, None), (True, None), ("", None),
        ("1e3", None), ("1,000", None), ("-3", None), ("many", None), (None, None), ([3], None),
        ((3,), None), (MAX_COUNT + 1, None), (10**400, None), (1e300, None), (b"3", None),
        ("9" * 5000, None),
    ],
)  # fmt: skip
def test_only_what_can_be_a_count_is_one(value: object, count: int | None) -> None:
    assert as_count(value) == count


def test_what_cannot_be_a_count_is_named_and_leaves_the_rest() -> None:
    report = read("chat", "x", {**CHAT, IN: math.nan, OUT: 5})
    assert report.usage == Usage(0, 5)
    assert report.refused == (f"{IN}=nan",)


def test_a_number_too_long_to_be_written_is_refused() -> None:
    (refused,) = read("chat", "x", {**CHAT, IN: 10**5000, OUT: 5}).refused
    assert refused == f"{IN}=a number of very many digits"


def test_a_refused_value_does_not_hide_another_spelling_of_it() -> None:
    report = read("chat", "x", {**CHAT, IN: -1, "gen_ai.usage.prompt_tokens": 9, OUT: 1})
    assert report.usage.input == 9


def test_no_usage_and_zeroes_are_both_unknown() -> None:
    assert not read("chat", "x", CHAT).usage.known
    assert not read("chat", "x", {**CHAT, IN: 0, OUT: 0}).usage.known


def test_a_chat_that_says_no_output_is_partly_unknown_and_an_embedding_is_not() -> None:
    assert read("chat", "x", {**CHAT, IN: 5}).partly
    assert not read("chat", "x", {**CHAT, IN: 5, OUT: 0}).partly
    assert not read("e", "x", {"gen_ai.operation.name": "embeddings", IN: 5}).partly
    assert not read("e", "x", {"openinference.span.kind": "EMBEDDING", IN: 5}).partly


@pytest.mark.parametrize("attribute", attribute_names.RESPONSE_TEXT)
def test_the_response_id_is_found_in_the_text_of_the_response(attribute: str) -> None:
    long_answer = '{"choices": [{"content": "' + "x" * 100_000 + '"}], "id": "chatcmpl-abc123"}'
    for text in ('{"id":"chatcmpl-abc123","choices":[]}', long_answer):
        assert read("chat", "x", {**CHAT, attribute: text}).response_id == "chatcmpl-abc123"


def test_an_id_that_a_model_wrote_into_its_answer_is_not_taken_for_the_responses() -> None:
    text = '{"content": "{\\"id\\": \\"chatcmpl-of-another-call\\"}"}'
    assert read("chat", "x", {**CHAT, "output.value": text}).response_id is None


ANYTHING: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30),
    st.lists(st.integers(), max_size=3), st.tuples(st.text(max_size=3)), st.binary(max_size=5),
)  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(sorted(attribute_names.ALL)), ANYTHING), st.text(max_size=20)
)
def test_whatever_a_span_says_its_usage_can_be(seen: dict[str, object], name: str) -> None:
    report = read(name, "scope", seen)
    used = report.usage
    assert all(isinstance(value, int) and value >= 0 for value in used)
    assert used.cached + used.cache_write <= used.input
    assert used.reasoning <= used.output
    assert all(cost is None or cost >= 0 for cost in report.costs)
