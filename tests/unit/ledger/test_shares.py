"""How many runs begin in one step, and that a flood of them holds up nobody."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from otel_budget.core.observation import Observation, Problem, RunObservation
from otel_budget.core.reasons import Reason
from otel_budget.ledger.admission import BEGIN_AT_ONCE, split_new_runs
from tests.support.sidecar_fixtures import START, TARGET, reading, session, sidecar


def shown(**runs: int) -> Observation:
    """Return a reading in which targets show so many runs."""
    sessions = tuple(
        RunObservation(f"{target}-{number}", target, START, {})
        for target, many in runs.items()
        for number in range(many)
    )
    problems = (Problem("a", Reason.PARTIAL_DATA, "of a"),)
    return Observation("scrape", START, sessions, problems, {"type": 3}, targets=frozenset(runs))


@pytest.mark.parametrize(
    ("runs", "begun"),
    [
        ({"a": 4, "b": 6}, {"a": 4, "b": 6}),
        ({"a": 100, "b": 1}, {"a": 9, "b": 1}),
        ({"a": 100, "b": 4, "c": 100}, {"a": 3, "b": 3, "c": 3}),
        ({"a": 100, "b": 2, "c": 100}, {"a": 4, "b": 2, "c": 4}),
        ({f"t{n}": 2 for n in range(20)}, {f"t{n}": 1 for n in range(20)}),
    ],
)
def test_each_target_begins_as_many_runs_and_what_one_leaves_others_have(
    runs: dict[str, int], begun: dict[str, int]
) -> None:
    whole = shown(**runs)
    now, rest = split_new_runs(whole, set(), 10)
    assert Counter(s.target for s in now.sessions) == begun
    later = () if rest is None else rest.sessions
    assert sorted((*now.sessions, *later)) == sorted(whole.sessions)
    assert now.problems == whole.problems
    if rest is not None:  # says nothing a second time, and nothing of whom it does not show
        assert (rest.problems, rest.dropped, rest.asked) == ((), {}, frozenset())


def test_runs_that_are_known_never_wait() -> None:
    whole = shown(a=100, b=100)
    known = {s.session_id for s in whole.sessions if s.target == "b"}
    now, rest = split_new_runs(whole, known, 10)
    assert Counter(s.target for s in now.sessions) == {"a": 10, "b": 100}
    assert rest is not None
    assert len(rest.sessions) == 90


def test_all_of_a_large_fleet_begin_before_the_next_reading_and_none_of_them_twice(
    tmp_path: Path,
) -> None:
    many = 2 * BEGIN_AT_ONCE + 5
    fleet = reading(*(session(f"run-{number}", tokens=5) for number in range(many)))
    parts = sidecar(tmp_path, fleet)
    asyncio.run(parts.loop.tick())
    assert parts.evaluator.run_count == many
    published, _ = parts.broadcaster.page(limit=many)
    assert {one.verdict.resources["tokens"].used for one in published} == {5}
    parts.storage.close()


def test_what_cannot_begin_before_the_next_reading_waits_and_the_run_of_another_target_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flood = [session(f"new-{number}", tokens=1) for number in range(3 * BEGIN_AT_ONCE)]
    honest = session("honest", tokens=5000)._replace(target="http://h/metrics")
    parts = sidecar(tmp_path, reading(*flood, honest))
    stepping = parts.evaluator.tick

    def slow(*arguments: object) -> object:
        parts.clock.advance(0.7)
        return stepping(*arguments)  # type: ignore[arg-type]

    parts.evaluator.tick = slow  # type: ignore[method-assign, assignment]
    asyncio.run(parts.loop.tick())
    assert parts.broadcaster.get("honest") is not None
    assert BEGIN_AT_ONCE < parts.evaluator.run_count < 3 * BEGIN_AT_ONCE
    assert caplog.text.count(f"some of those at {TARGET} are not judged yet") == 1
    parts.storage.close()
