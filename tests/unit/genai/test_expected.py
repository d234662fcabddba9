"""What a request is taken to use, by its text."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from otel_budget.genai.expected import Expected, text_size


@pytest.mark.parametrize(
    "request_",
    [
        "x" * 300,
        [{"role": "user", "content": "x" * 300}],
        [{"role": "user", "content": [{"type": "text", "text": "x" * 300}]}],
        [SimpleNamespace(content="x" * 300)],
        [SimpleNamespace(parts=[SimpleNamespace(content="x" * 300)])],
    ],
)
def test_a_text_counts_alike_however_it_is_wrapped(request_: object) -> None:
    assert 100 <= text_size(request_) <= 125


def test_what_has_no_text_is_one_token_and_what_refers_to_itself_ends() -> None:
    around: list[object] = []
    around.append(around)
    assert text_size(None) == text_size(7) == text_size([]) == 1
    assert text_size(around) < 100


def test_a_request_of_any_size_is_looked_at_for_a_bounded_time() -> None:
    assert text_size([["x"] * 100_000] * 100_000) < 200_000


def test_an_object_that_fails_when_it_is_asked_counts_nothing() -> None:
    class Failing:
        @property
        def content(self) -> str:
            raise RuntimeError

    assert text_size([Failing()]) >= 1


def test_an_unknown_input_or_an_answer_that_nothing_bounds_makes_the_whole_unknown() -> None:
    assert Expected(output_tokens=5).tokens is None
    assert Expected(10).tokens is None
    assert Expected(10, 0).tokens == 10
    assert Expected(10, 5).tokens == 15
