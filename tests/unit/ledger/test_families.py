"""Runs that belong together: whose descendant a run is, and what counts where."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.core.budget import Budget, Window, WindowKind
from otel_budget.core.observation import Observation, RunAttributes, RunObservation, shared_labels
from otel_budget.core.quantities import Number
from otel_budget.ledger.attributes import filled, strictest
from otel_budget.ledger.families import DEPTH_MOST, UNKNOWN_AFTER
from otel_budget.ledger.findings import FindingKind
from otel_budget.ledger.ledger import Ledger
from otel_budget.sidecar.storage import codec

NOBODYS = shared_labels({})


def run(
    session_id: str,
    tokens: int,
    at: float = 10.0,
    parent: str | None = None,
    *,
    began: float = 1.0,
    **attributes: Any,
) -> RunObservation:
    stated = RunAttributes(
        started_at=began, incarnation_at=began, state=semconv.RUNNING, duration=at - began,
        labels=NOBODYS, parent=parent,
    )  # fmt: skip
    counters: dict[tuple[str, str], Number] = {
        (semconv.TOKENS, ""): tokens,
        (semconv.COST, ""): Decimal(tokens) / 100,
    }
    return RunObservation(session_id, "a", at, counters, stated._replace(**attributes))


def take(ledger: Ledger, *runs: RunObservation, at: float | None = None) -> None:
    now = runs[0].sampled_at if at is None else at
    ledger.apply(Observation("scrape", now, runs))
    ledger.settle_families(now)


def used(ledger: Ledger, session_id: str, now: float = 10.0) -> int:
    """Return the tokens that a run's limits are held against."""
    tokens = ledger.snapshot(ledger.runs[session_id], now).used[semconv.TOKENS]
    assert isinstance(tokens, int)
    return tokens


def said(ledger: Ledger) -> list[tuple[FindingKind, str, str]]:
    return [(each.kind, each.session_id, each.said) for each in ledger.findings]


def test_what_a_run_used_counts_once_at_every_run_above_it() -> None:
    ledger = Ledger()
    take(ledger, run("a", 1), run("b", 10, parent="a"), run("c", 100, parent="b"))
    assert [used(ledger, each) for each in "abc"] == [111, 110, 100]
    take(ledger, run("c", 250, 11.0, parent="b"))
    assert [used(ledger, each, 11.0) for each in "abc"] == [261, 260, 250]
    snapshot = ledger.snapshot(ledger.runs["a"], 11.0)
    assert snapshot.used[semconv.COST] == Decimal("2.61")
    assert (snapshot.descendants, ledger.snapshot(ledger.runs["c"], 11.0).descendants) == (2, 0)
    assert snapshot.used[semconv.DURATION] == 10.0, "the time is its own"


def test_a_parent_that_is_seen_after_its_child_is_linked_then() -> None:
    ledger = Ledger()
    take(ledger, run("c", 100, parent="a"))
    assert not ledger.findings
    take(ledger, run("a", 1, 11.0))
    assert used(ledger, "a", 11.0) == 101
    assert [one.session_id for one in ledger.families.ancestors("c")] == ["a"]
    assert not ledger.findings


def test_a_parent_that_nobody_shows_is_said_once_and_after_a_while() -> None:
    ledger = Ledger()
    for at in (10.0, 10.0 + UNKNOWN_AFTER, 11.0 + UNKNOWN_AFTER):
        take(ledger, run("c", 100, at, parent="gone"))
        ledger.settle_families(at)
    assert said(ledger) == [(FindingKind.PARENT_UNKNOWN, "c", "gone")]
    assert used(ledger, "c") == 100


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_run_that_is_its_own_descendant_is_said_once_and_has_no_such_parent(length: int) -> None:
    ledger = Ledger()
    names = "abc"[:length]
    for at in (10.0, 11.0):
        row = [run(each, 1, at, names[(i + 1) % length]) for i, each in enumerate(names)]
        take(ledger, *row)
    assert [kind for kind, _, _ in said(ledger)] == [FindingKind.OWN_DESCENDANT]
    assert sorted(used(ledger, each, 11.0) for each in names) == list(range(1, length + 1))


def test_a_late_change_that_makes_a_circle_is_ignored_until_the_circle_is_broken() -> None:
    ledger = Ledger()
    take(ledger, run("a", 1), run("b", 10, parent="a"), run("c", 100, parent="b"))
    take(ledger, run("a", 1, 11.0, parent="c"))
    assert said(ledger) == [(FindingKind.OWN_DESCENDANT, "a", "c")]
    assert used(ledger, "a", 11.0) == 111
    take(ledger, run("b", 10, 12.0))
    assert [one.session_id for one in ledger.families.ancestors("a")] == ["c", "b"]


def test_a_parent_that_was_over_before_a_run_began_is_said_and_does_not_hold() -> None:
    ledger = Ledger()
    take(ledger, run("a", 1))
    take(ledger, run("a", 1, 12.0, state="completed", duration=10.0))
    take(ledger, run("late", 5, 13.0, parent="a", began=11.5), run("early", 7, 13.0, parent="a"))
    assert said(ledger) == [(FindingKind.PARENT_OVER, "late", "a")]
    assert used(ledger, "a", 13.0) == 8


def test_a_chain_that_gets_too_long_is_cut_and_said() -> None:
    ledger = Ledger()
    names = [f"r{i:02}" for i in range(DEPTH_MOST + 3)]
    take(ledger, *(run(n, 1, parent=p) for n, p in zip(names, [None, *names], strict=False)))
    assert {kind for kind, _, _ in said(ledger)} == {FindingKind.FAMILY_DEEP}
    depths = [len(ledger.families.ancestors(each)) for each in names]
    assert max(depths) == DEPTH_MOST - 1


def test_a_run_that_changes_its_parent_leaves_what_it_used_with_the_first() -> None:
    ledger = Ledger()
    take(ledger, run("a", 1), run("b", 2), run("c", 100, parent="a"))
    take(ledger, run("c", 130, 11.0, parent="b"))
    assert (used(ledger, "a", 11.0), used(ledger, "b", 11.0)) == (131, 2)
    take(ledger, run("c", 150, 12.0, parent="b"))
    assert (used(ledger, "a", 12.0), used(ledger, "b", 12.0)) == (131, 22)


def test_a_parent_is_not_forgotten_while_a_descendant_is_known() -> None:
    ledger = Ledger()
    take(ledger, run("a", 1, state="stopped"), run("b", 10, parent="a"))
    take(ledger, run("b", 10, 10_000.0, parent="a"))
    assert ledger.forget(10_000.0, 60.0) == []
    take(ledger, run("b", 10, 10_001.0, parent="a", state="completed"))
    assert [one.session_id for one in ledger.forget(20_000.0, 60.0)] == ["b"]
    assert [one.session_id for one in ledger.forget(20_001.0, 60.0)] == ["a"]
    assert not ledger.families.members


def test_what_a_forgotten_run_used_stays_with_its_parent_also_on_disk() -> None:
    ledger = Ledger()
    take(ledger, run("a", 1), run("b", 10, parent="a"), run("c", 100, parent="b", state="failed"))
    take(ledger, run("a", 1, 10_000.0), run("b", 10, 10_000.0, parent="a"))
    assert [one.session_id for one in ledger.forget(10_000.0, 60.0)] == ["c"]
    assert (used(ledger, "a", 10_000.0), used(ledger, "b", 10_000.0)) == (111, 110)
    again = Ledger()
    for each in ledger.runs.values():
        again.adopt(codec.from_json(codec.to_json(each)), 10_000.0)
    again.settle_families(10_000.0)
    assert (used(again, "a", 10_000.0), used(again, "b", 10_000.0)) == (111, 110)


def test_a_run_that_comes_back_from_the_archive_is_not_counted_twice() -> None:
    ledger = Ledger()
    take(ledger, run("a", 1), run("c", 100, parent="a", state="failed"))
    take(ledger, run("a", 1, 10_000.0))
    (gone,) = ledger.forget(10_000.0, 60.0)
    ledger.adopt(codec.from_json(codec.to_json(gone)), 10_001.0)
    ledger.settle_families(10_001.0)
    assert used(ledger, "a", 10_001.0) == 101
    take(ledger, run("c", 120, 10_002.0, parent="a"))
    assert used(ledger, "a", 10_002.0) == 121


def test_another_run_of_the_same_id_adds_to_what_the_first_one_used() -> None:
    ledger = Ledger()
    take(ledger, run("a", 1), run("b", 100, parent="a", state="failed"))
    take(ledger, run("b", 7, 20.0, parent="a", began=15.0))
    assert (used(ledger, "a", 20.0), used(ledger, "b", 20.0)) == (108, 7)


def test_calls_of_a_descendant_that_have_no_price_are_unpriced_above_it_too() -> None:
    ledger = Ledger()
    take(ledger, run("a", 1, unpriced_calls=1.0), run("b", 10, parent="a", unpriced_calls=2.0))
    assert ledger.snapshot(ledger.runs["a"], 10.0).uncertainty.unpriced_calls == 3


def test_a_progress_is_of_what_the_family_had_used_when_it_was_reported() -> None:
    ledger = Ledger()
    at: dict[str, Any] = {"progress": 0.5, "progress_tokens": 1.0}
    take(ledger, run("a", 1, **at), run("b", 10, parent="a"))
    take(ledger, run("a", 1, 11.0, **at), run("b", 40, 11.0, parent="a"))
    assert ledger.snapshot(ledger.runs["a"], 11.0).used_at_progress[semconv.TOKENS] == 11
    take(ledger, run("a", 1, 12.0, progress=0.6, progress_tokens=1.0))
    assert ledger.snapshot(ledger.runs["a"], 12.0).used_at_progress[semconv.TOKENS] == 41


def test_runs_without_a_family_leave_nothing_behind() -> None:
    ledger = Ledger()
    take(ledger, run("a", 1), run("b", 10))
    assert not ledger.families.members
    assert not ledger.families.moved


def test_a_parent_that_is_left_out_with_the_labels_stays() -> None:
    """One that is said to have none, with the labels, has none."""
    known = RunAttributes(labels=NOBODYS, parent="a")
    assert filled(RunAttributes(), known, whole=True).parent == "a"
    assert filled(RunAttributes(labels=NOBODYS), known, whole=True).parent is None
    assert strictest(RunAttributes(parent="b"), RunAttributes()).parent == "b"
    assert strictest(RunAttributes(parent="b"), RunAttributes(parent="a")).parent == "a"


def test_a_parent_is_stored_with_its_run_and_one_that_is_none_is_refused() -> None:
    ledger = Ledger()
    take(ledger, run("b", 10, parent="a"))
    text = codec.to_json(ledger.runs["b"])
    assert codec.from_json(text).attributes.parent == "a"
    harmed = json.dumps(json.loads(text) | {"parent": "no/id"})
    with pytest.raises(ValueError, match="session_id"):
        codec.from_json(harmed)


def test_what_a_descendant_uses_counts_once_in_every_budget_that_matches_it_or_one_above() -> None:
    """From its first sample on, which is read together with that of its parent."""
    window = Window(WindowKind.TOTAL)
    limits = {semconv.TOKENS: 1000}
    research = Budget("research", window, limits, match={"team": ("research",)})
    ann = Budget("ann", window, limits, match={"user": ("ann",)}, per=("user",))
    ledger = Ledger()
    ledger.use_budgets((ann, research), 1.0)
    team, user = shared_labels({"team": "research"}), shared_labels({"user": "ann"})
    take(
        ledger, run("lead", 1, labels=team), run("b", 10, parent="lead", labels=user),
        run("c", 100, parent="b", labels=team), run("other", 7),
    )  # fmt: skip
    in_research = ledger.books.use_of("research", ())
    of_ann = ledger.books.use_of("ann", ("ann",))
    assert (in_research.used[semconv.TOKENS], of_ann.used[semconv.TOKENS]) == (111, 110)


def test_a_whole_family_may_change_in_one_reading() -> None:
    ledger = Ledger()
    take(ledger, run("a", 1), run("b", 10, parent="a"), run("c", 100, parent="b"))
    ledger.apply(Observation("scrape", 11.0, (run("b", 10, 11.0), run("c", 100, 11.0))))
    again = run("a", 1, 12.0, parent="x"), run("b", 10, 12.0, parent="a")
    ledger.apply(Observation("scrape", 12.0, again))
    for each in ledger.runs.values():
        ledger.families.note(each)
    ledger.settle_families(12.0)
    assert [one.session_id for one in ledger.families.ancestors("b")] == ["a"]
    assert ledger.snapshot(ledger.runs["a"], 12.0).descendants == 1
