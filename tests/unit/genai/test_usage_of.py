"""What a provider's answer says it used: every API, as objects and as mappings, nulls and gaps."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget import usage_of
from tests.support.monitors import Make
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")

NO_DETAILS = {"prompt_tokens_details": None, "completion_tokens_details": None}
CHAT = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
OPENAI = {
    "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": None},
    "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": 0},
}
RESPONSES = {
    "input_tokens": 100, "input_tokens_details": {"cached_tokens": 60},
    "output_tokens": 10, "output_tokens_details": {"reasoning_tokens": 4}, "total_tokens": 110,
}  # fmt: skip
ANTHROPIC = {
    "input_tokens": 10, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 30,
    "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
    "server_tool_use": {"web_search_requests": 2}, "output_tokens": 10, "service_tier": "batch",
}  # fmt: skip
GEMINI = {
    "prompt_token_count": 100, "candidates_token_count": 6, "thoughts_token_count": 4,
    "cached_content_token_count": 60, "total_token_count": 110,
    "prompt_tokens_details": [{"modality": "TEXT", "token_count": 70},
                              {"modality": "AUDIO", "token_count": 30}],
    "cache_tokens_details": [{"modality": "AUDIO", "token_count": 20}],
    "candidates_tokens_details": None,
}  # fmt: skip


def used(*counts: int) -> dict[str, int]:
    """Return input, output, and what of them was cached, written to a cache, and reasoning."""
    names = ("input", "output", "cache_read", "cache_write", "reasoning")
    return {f"{name}_tokens": count for name, count in zip(names, counts, strict=True)}


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ({"usage": CHAT, "model": "m"}, used(100, 10, 0, 0, 0) | {"model": "m"}),
        ({"usage": CHAT | NO_DETAILS}, used(100, 10, 0, 0, 0)),
        (CHAT, used(100, 10, 0, 0, 0)),  # the usage alone
        ({"usage": CHAT | OPENAI, "service_tier": "flex"},
         used(100, 10, 60, 0, 4) | {"service_tier": "flex"}),
        ({"usage": CHAT | {"cost": 0.0421, "is_byok": False}},
         used(100, 10, 0, 0, 0) | {"cost_usd": Decimal("0.0421")}),
        ({"usage": CHAT | {"cost": 0}}, used(100, 10, 0, 0, 0) | {"cost_usd": 0}),
        ({"usage": {"prompt_tokens": 8, "total_tokens": 8}}, used(8, 0, 0, 0, 0)),  # an embedding
        # reasoning that is counted beside the output is added up
        ({"usage": {"prompt_tokens": 100, "completion_tokens": 10,
                    "completion_tokens_details": {"reasoning_tokens": 40}}},
         used(100, 50, 0, 0, 40)),
        ({"usage": RESPONSES}, used(100, 10, 60, 0, 4)),
        ({"response": {"usage": RESPONSES}}, used(100, 10, 60, 0, 4)),  # a stream's last event
        ({"usage": RESPONSES, "output": [
            {"type": "web_search_call", "action": {"type": "search"}},
            {"type": "web_search_call", "action": {"type": "open_page"}},
            {"type": "code_interpreter_call"}, {"type": "message"}]},
         used(100, 10, 60, 0, 4) | {"extras": {"web_searches": 1, "code_executions": 1}}),
        ({"usage": ANTHROPIC, "content": [{"type": "server_tool_use", "name": "web_search"}]},
         used(100, 10, 60, 30, 0) | {"service_tier": "batch", "extras": {
             "web_searches": 2, "cache_write_1h_tokens": 20}}),
        ({"usage": {"input_tokens": 10, "output_tokens": 3, "cache_read_input_tokens": None,
                    "cache_creation_input_tokens": None, "cache_creation": None,
                    "server_tool_use": None, "inference_geo": "us"}},
         used(10, 3, 0, 0, 0) | {"extras": {"regional_calls": 1}}),
        ({"usage_metadata": GEMINI, "model_version": "gemini-2.5-flash", "candidates": [
            {"grounding_metadata": {"web_search_queries": ["a", "b"]}}]},
         used(100, 10, 60, 0, 4) | {"model": "gemini-2.5-flash", "extras": {
             "input_audio_tokens": 30, "cache_audio_read_tokens": 20, "web_searches": 1}}),
        ({"usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 10,
                            "trafficType": "ON_DEMAND_FLEX"}},
         used(100, 10, 0, 0, 0) | {"service_tier": "ON_DEMAND_FLEX"}),
        ({"usage": {"inputTokens": 40, "outputTokens": 10, "cacheReadInputTokens": 60}},
         used(100, 10, 60, 0, 0)),
        ({"usage": None, "model": "m"}, {"tokens": None, "model": "m"}),
        ({"usage": {"prompt_tokens": 0, "completion_tokens": 0}}, {"tokens": None}),
        ({}, {"tokens": None}),
        (None, {"tokens": None}),
        ("a text", {"tokens": None}),
    ],
)  # fmt: skip
def test_an_answer_says_what_it_used_in_every_api(
    make: Make, answer: Any, wanted: dict[str, Any]
) -> None:
    """As a mapping and as the SDK's object; what comes out is taken."""
    objects = json.loads(json.dumps(answer), object_hook=lambda pairs: SimpleNamespace(**pairs))
    for form in (answer, objects):
        assert usage_of(form) == wanted
        make().record_operation(api_call=True, **usage_of(form))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**60) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                sorted({*CHAT, *OPENAI, *RESPONSES, *ANTHROPIC, *GEMINI, "usage", "cost", "model",
                        "cached_tokens", "reasoning_tokens", "audio_tokens", "content", "type",
                        "usage_metadata", "candidates", "output", "response", "modality",
                        "ephemeral_1h_input_tokens", "web_search_requests"})
            ),
            inner, max_size=6,
        )
    ),
    max_leaves=30,
)  # fmt: skip


@given(JSON)
def test_whatever_an_answer_says_can_be_recorded(answer: Any) -> None:
    """A server that speaks an API badly does not crash the application."""
    from otel_budget import ResourceMonitor

    monitor = ResourceMonitor(session_id="any-answer")
    monitor.record_operation(api_call=True, **usage_of(answer))
    assert monitor.get_usage_report().api_calls == 1
    monitor.close(timeout=0)


def test_the_readmes_line_records_an_answer(make: Make) -> None:
    """With a price."""
    (line,) = re.findall(
        r"^monitor\.record_operation\(.*usage_of\(response\)\)$", README, re.MULTILINE
    )
    monitor = make()
    response = {"model": "gpt-5-mini", "usage": CHAT | NO_DETAILS}
    exec(line.strip(), {"monitor": monitor, "response": response, "usage_of": usage_of})  # noqa: S102 - our own page
    report = monitor.get_usage_report()
    assert (report.api_calls, report.tokens, report.unpriced_calls) == (1, 110, 0)
