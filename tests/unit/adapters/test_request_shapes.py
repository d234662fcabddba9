"""Requests of three APIs: a text put last, tools withheld, and what they may use."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from otel_budget.adapters import request_shapes
from otel_budget.adapters.request_shapes import CHAT, MESSAGES, RESPONSES, expected_of
from otel_budget.genai.expected import Expected

USER = {"role": "user", "content": "hi"}
SAID = {"role": "user", "content": "answer now"}
TEXT = {"type": "text", "text": "answer now"}
USE = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": "3"}


@pytest.mark.parametrize(
    ("shape", "body", "wanted"),
    [
        (CHAT, {"messages": [USER]}, {"messages": [USER, SAID]}),
        (CHAT, {"messages": [USER], "tools": [1], "tool_choice": "auto", "functions": [1],
                "function_call": "auto", "parallel_tool_calls": True, "model": "m"},
         {"messages": [USER, SAID], "model": "m"}),
        (RESPONSES, {"input": "hi", "tools": [1], "tool_choice": "auto", "max_tool_calls": 3},
         {"input": [USER, SAID]}),
        (RESPONSES, {"input": [USER]}, {"input": [USER, SAID]}),
        (RESPONSES, {"previous_response_id": "r"}, {"previous_response_id": "r", "input": [SAID]}),
        (MESSAGES, {"messages": [USER], "tools": [1], "tool_choice": {"type": "any"}},
         {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}, TEXT]}]}),
        (MESSAGES, {"messages": [USER, {"role": "assistant", "content": "I"}]},
         {"messages": [USER, {"role": "assistant", "content": "I"}, SAID]}),
        (MESSAGES, {"messages": []}, {"messages": [SAID]}),
    ],
)  # fmt: skip
def test_a_last_request_offers_no_tools_and_ends_with_the_instruction(
    shape: request_shapes.Shape, body: dict[str, Any], wanted: dict[str, Any]
) -> None:
    """The application's own request stays as it is."""
    before = copy.deepcopy(body)
    assert shape.last(body, "answer now") == wanted
    assert body == before


def test_results_of_tools_stay_first_and_their_tools_are_named_but_may_not_be_called() -> None:
    """Anthropic's API refuses a conversation with calls of tools that comes without tools."""
    turn = {"role": "user", "content": [RESULT]}
    body = {"messages": [USER, USE, turn], "tools": [{"name": "f"}], "tool_choice": {"type": "any"}}
    last = MESSAGES.last(body, "answer now")
    assert last["messages"][-1] == {"role": "user", "content": [RESULT, TEXT]}
    assert last["tools"] == [{"name": "f"}]
    assert last["tool_choice"] == {"type": "none"}


def test_a_briefing_does_not_come_between_the_beginning_of_an_answer_and_its_rest() -> None:
    prefilled = {"messages": [USER, {"role": "assistant", "content": "{"}]}
    assert CHAT.briefed(prefilled, "23 calls remain") == prefilled
    assert MESSAGES.briefed(prefilled, "23 calls remain") == prefilled
    assert CHAT.briefed({"messages": [USER]}, "x")["messages"][-1]["content"] == "x"


def test_what_a_request_may_use_is_guessed_by_its_text_and_the_bound_of_its_answer() -> None:
    small = expected_of({"messages": [USER], "max_tokens": 256})
    large = expected_of(
        {"messages": [{"role": "user", "content": "word " * 3_000}], "max_tokens": 9}
    )
    assert small.output_tokens == 256
    assert small.input_tokens is not None
    assert large.input_tokens is not None
    assert large.input_tokens > 3_000 > small.input_tokens
    assert expected_of({"input": "hi", "max_output_tokens": 7}).output_tokens == 7
    assert expected_of({"input": ["hi"]}, answers=False).output_tokens == 0


def test_nothing_is_guessed_of_an_answer_that_nothing_bounds() -> None:
    """Calls at once would each hold next to nothing, and all be made."""
    assert expected_of({"messages": [USER]}) == Expected()
