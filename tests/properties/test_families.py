"""Families over random histories: what was used counts once above each run, whatever happens."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from otel_budget import semconv
from otel_budget.core.observation import Observation, RunAttributes, RunObservation, shared_labels
from otel_budget.ledger.families import DEPTH_MOST
from otel_budget.ledger.ledger import Ledger
from otel_budget.sidecar.storage import codec

NAMES = "abcdef"
LABELS = shared_labels({})


@st.composite
def histories(
    draw: st.DrawFn, *, in_order: bool = False
) -> list[list[tuple[str, int, str | None]]]:
    """Return readings: each some runs, how much more each used, and the parent that it names.

    in_order: a run names only those as its parent that are before it in the alphabet: none comes to
    be above what it was below.
    """

    def parent_of(name: str) -> str | None:
        known = NAMES[: NAMES.index(name)] if in_order else NAMES
        found: str | None = draw(st.sampled_from([None, *known, "nobody"]))
        return found

    fixed = draw(st.booleans())
    parents = {each: parent_of(each) for each in NAMES}
    readings = []
    for _ in range(draw(st.integers(1, 6))):
        seen = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
        if not fixed:
            other = draw(st.sampled_from(NAMES))
            parents[other] = parent_of(other)
        readings.append([(each, draw(st.integers(0, 50)), parents[each]) for each in seen])
    return readings


def show(
    ledger: Ledger, reading: list[tuple[str, int, str | None]], counts: Counter[str], at: float
) -> None:
    runs = []
    for name, more, parent in reading:
        counts[name] += more
        attributes = RunAttributes(
            started_at=1.0, incarnation_at=1.0, state=semconv.RUNNING, labels=LABELS,
            duration=at - 1.0, parent=parent,
        )  # fmt: skip
        runs.append(RunObservation(name, "a", at, {(semconv.TOKENS, ""): counts[name]}, attributes))
    ledger.apply(Observation("scrape", at, tuple(runs)))
    ledger.settle_families(at)


def tokens(ledger: Ledger, name: str, at: float) -> int:
    used = ledger.snapshot(ledger.runs[name], at).used[semconv.TOKENS]
    assert isinstance(used, int)
    return used


def restarted(ledger: Ledger, at: float) -> Ledger:
    """Return a ledger that was read from what this one stores."""
    again = Ledger()
    for run in ledger.runs.values():
        again.adopt(codec.from_json(codec.to_json(run)), at)
    again.settle_families(at)
    return again


@given(histories(in_order=True))
def test_what_a_run_used_counts_once_however_often_it_changes_its_parent(
    history: list[list[tuple[str, int, str | None]]],
) -> None:
    ledger, counts = Ledger(), Counter[str]()
    for number, reading in enumerate(history):
        at = 10.0 + number
        show(ledger, reading, counts, at)
        roots = [name for name in ledger.runs if not ledger.families.ancestors(name)]
        assert all(tokens(ledger, name, at) <= sum(counts.values()) for name in roots)


@given(histories(), st.sampled_from([False, True]))
def test_what_was_used_under_a_run_is_never_taken_back(
    history: list[list[tuple[str, int, str | None]]],
    restarts: bool,  # noqa: FBT001 - an argument of the property
) -> None:
    ledger, counts, before = Ledger(), Counter[str](), dict[str, int]()
    for number, reading in enumerate(history):
        at = 10.0 + number
        show(ledger, reading, counts, at)
        if restarts:
            ledger = restarted(ledger, at)
        now = {name: tokens(ledger, name, at) for name in ledger.runs}
        for name, used in now.items():
            assert used >= max(counts[name], before.get(name, 0))
            lineage = [one.session_id for one in ledger.families.ancestors(name)]
            assert name not in lineage
            assert len(lineage) == len(set(lineage)) < DEPTH_MOST
        before = now


@given(histories())
def test_where_nobody_changes_its_parent_a_sum_is_that_of_all_below(
    history: list[list[tuple[str, int, str | None]]],
) -> None:
    said: dict[str, str | None] = {}
    for reading in history:
        for name, _, parent in reading:
            said.setdefault(name, parent)
    ledger, counts, at = Ledger(), Counter[str](), 10.0
    for at, reading in enumerate(history, 10):
        show(ledger, [(name, more, said[name]) for name, more, _ in reading], counts, float(at))
    for name in ledger.runs:
        below = [*ledger.families.descendants(name)]
        assert tokens(ledger, name, float(at)) == sum(counts[one] for one in (name, *below))


@given(histories(), st.permutations(NAMES))
def test_a_forgotten_run_changes_no_sum_above_it(
    history: list[list[tuple[str, int, str | None]]], order: list[str]
) -> None:
    ledger, counts, at = Ledger(), Counter[str](), 10.0
    for number, reading in enumerate(history):
        at = 10.0 + number
        show(ledger, reading, counts, at)
    for name in order:
        run = ledger.runs.get(name)
        if run is None or ledger.families.keeps(run):
            continue
        before = {one: tokens(ledger, one, at) for one in ledger.runs if one != name}
        del ledger.runs[name]
        ledger.families.forget(run)
        assert {one: tokens(ledger, one, at) for one in ledger.runs} == before
    assert restarted(ledger, at).families.members.keys() <= set(NAMES) | {"nobody"}
