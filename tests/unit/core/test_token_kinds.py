"""Kinds of tokens are disjoint, and never more than there are tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otel_budget.core.token_kinds import TOKEN_KINDS, disjoint, with_parts


def test_parts_are_taken_out_of_their_wholes() -> None:
    shown = {"input": 1000, "cache_read": 700, "cache_write": 100, "output": 50, "reasoning": 20}
    assert disjoint(shown, 1050) == {
        "input": 200, "cache_read": 700, "cache_write": 100, "output": 30, "reasoning": 20,
    }  # fmt: skip


def test_what_is_not_told_apart_stays_in_its_whole_and_the_rest_is_of_no_kind() -> None:
    assert disjoint({"output": 50}, 1050) == {"output": 50}


def test_a_part_larger_than_its_whole_is_all_of_it() -> None:
    assert disjoint({"input": 100, "cache_read": 80, "cache_write": 90}, 100) == {
        "cache_read": 80, "cache_write": 20,
    }  # fmt: skip


def test_a_part_without_its_whole_is_known_all_the_same() -> None:
    """Who counts what was cached apart from everything else."""
    assert disjoint({"cache_read": 80}, 100) == {"cache_read": 80}


@given(st.dictionaries(st.sampled_from(TOKEN_KINDS), st.integers(0, 1000)), st.integers(0, 2000))
def test_they_never_add_up_to_more_than_there_are(shown: dict[str, int], tokens: int) -> None:
    found = disjoint(shown, tokens)
    assert sum(found.values()) <= tokens
    assert all(number > 0 for number in found.values())


def test_kinds_with_their_parts_are_read_as_the_same_kinds() -> None:
    """As a trace has them."""
    kinds = {"input": 5, "cache_read": 3, "cache_write": 1, "output": 2, "reasoning": 7}
    counted = with_parts(kinds)
    assert counted == {**kinds, "input": 9, "output": 9}
    assert disjoint(counted, 18) == kinds
    assert with_parts({"cache_read": 3}) == {"input": 3, "cache_read": 3}
