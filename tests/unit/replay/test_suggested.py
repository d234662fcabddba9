"""Limits that are suggested by runs that ended earlier in the trace, as a sidecar would have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.suggestion import Suggesting
from otel_budget.policy.verdicts import Rules
from otel_budget.replay.changes import VerdictChange
from otel_budget.replay.engine import Replay
from otel_budget.replay.trace import TraceLine, Use

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 100_000
RULES = Rules(
    ceilings=bounds_from({semconv.TOKENS: MOST}, {}, "sidecar"),
    suggesting=Suggesting({semconv.TOKENS: MOST}),
)
NIGHTLY = {"workflow": "nightly"}


def line(at: float, session_id: str, tokens: int | None = None, end: str | None = None,
         *, resolved: bool | None = None, begins: bool = False) -> TraceLine:  # fmt: skip
    used = None if tokens is None else Use({semconv.TOKENS: tokens, semconv.API_CALLS: 1})
    labels = NIGHTLY if begins else {}
    return TraceLine(
        at, session_id, f"t:{at}", start=begins, labels=labels, use=used, end=end, resolved=resolved
    )


def runs(
    number: int, tokens: int, *, begin: float = 0.0, resolved: bool | None = None
) -> Iterator[TraceLine]:
    """Yield the lines of runs that completed, one after the other."""
    for each in range(number):
        at = begin + 3.0 * each
        yield line(at, f"r{at}", begins=True)
        yield line(at + 1, f"r{at}", tokens)
        yield line(at + 2, f"r{at}", end=semconv.COMPLETED, resolved=resolved)


def stops(*lines: TraceLine, rules: Rules = RULES) -> list[tuple[float, str, str | None]]:
    replay = Replay(rules)
    found = [change for each in lines for change in replay.take(each)]
    return [
        (change.at, change.verdict.session_id, change.verdict.limit_from)
        for change in found
        if isinstance(change, VerdictChange) and not change.verdict.should_continue
    ]


def test_the_eleventh_run_is_stopped_by_what_ten_before_it_used() -> None:
    after = [line(100, "next", begins=True), line(101, "next", 1299), line(102, "next", 1)]
    assert stops(*runs(10, 1000), *after) == [(102, "next", "suggested")]
    assert stops(*runs(9, 1000), *after) == []


def test_a_run_that_is_open_is_judged_again_when_the_suggestion_begins() -> None:
    opened = [line(0.0, "open", begins=True), line(0.5, "open", 2000)]
    assert stops(*opened, *runs(10, 1000, begin=1.0)) == [(30.0, "open", "suggested")]


def test_runs_that_were_judged_a_failure_suggest_nothing() -> None:
    after = [line(100, "next", begins=True), line(101, "next", 5000)]
    assert stops(*runs(10, 1000, resolved=False), *after) == []
    assert stops(*runs(10, 1000, resolved=True), *after) == [(101, "next", "suggested")]


def test_runs_that_a_suggestion_stopped_do_not_ratchet_it_down() -> None:
    lines = [*runs(10, 1000), *runs(30, 1350, begin=100.0)]
    found = stops(*lines, line(500, "last", begins=True), line(501, "last", 1299))
    assert len(found) == 30
    assert {origin for _, _, origin in found} == {"suggested"}
