"""Who it is for whom a server cannot answer: found by asking for fewer, within a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from otel_budget.sources.faulty_targets import find, only, without


def looked_for(
    instances: list[str], *culprits: str, together: int = 10**9
) -> tuple[list[str], int]:
    """Return who was found, and after how many queries.

    together: so many instances are too many in one query.
    """
    asked = 0

    async def works(part: Collection[str]) -> bool:
        nonlocal asked
        asked += 1
        return len(part) <= together and not set(culprits) & set(part)

    return sorted(asyncio.run(find(instances, works))), asked


@pytest.mark.parametrize("number", [1, 2, 3, 100, 101, 2000, 10_000])
def test_one_of_many_is_found_within_some_queries(number: int) -> None:
    names = [f"h{place}" for place in range(number)]
    for culprit in (names[0], names[number // 2], names[-1]):
        found, asked = looked_for(names, culprit)
        assert found == [culprit]
        assert asked <= 40


def test_several_are_found() -> None:
    names = [f"h{place}" for place in range(300)]
    assert looked_for(names, "h0", "h7", "h299")[0] == ["h0", "h299", "h7"]


def test_nobody_is_at_fault_where_it_is_all_of_them_together() -> None:
    assert looked_for([f"h{place}" for place in range(300)], together=200) == ([], 3)


def test_more_than_some_are_not_left_out_and_the_queries_have_an_end() -> None:
    """A server that refuses everything is not the fault of its targets."""
    names = [f"h{place}" for place in range(5000)]
    found, asked = looked_for(names, *names)
    assert found == []
    assert asked <= 64


def test_instances_are_quoted_for_an_expression_in_a_query() -> None:
    assert only(['a.b:1"', "[::1]:2"]) == r'instance=~"a\\.b:1\"|\\[::1\\]:2"'
    assert without(["a"]) == ('instance!~"a"',)
    assert without([]) == ()
