"""Whose a run is: what its processes say of that, put together."""

from __future__ import annotations

from itertools import permutations

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation, RunAttributes, RunObservation, shared_labels
from otel_budget.ledger.attributes import filled, strictest
from otel_budget.ledger.ledger import Ledger

A, B = shared_labels({"workflow": "a"}), shared_labels({"team": "x", "workflow": "b"})


def seen(
    ledger: Ledger, at: float, process: float, target: str, labels: dict[str, str] | None
) -> None:
    attributes = RunAttributes(
        started_at=1.0, incarnation_at=process, state=semconv.RUNNING,
        labels=None if labels is None else shared_labels(labels),
    )  # fmt: skip
    reading = RunObservation("run", target, at, {(semconv.TOKENS, ""): 5}, attributes)
    ledger.apply(Observation("scrape", at, (reading,)))


def test_labels_that_a_reading_leaves_out_stay_and_those_of_one_reading_go_together() -> None:
    known = RunAttributes(labels=B)
    assert filled(RunAttributes(), known, whole=True).labels is B
    assert filled(RunAttributes(), known, whole=False).labels is B
    assert filled(RunAttributes(labels=A), known, whole=True).labels == {"workflow": "a"}


def test_labels_of_processes_that_cannot_be_put_in_order_do_not_depend_on_it() -> None:
    every = [RunAttributes(labels=labels) for labels in (A, B, None)]
    found = {id(strictest(strictest(x, y), z).labels) for x, y, z in permutations(every)}
    assert len(found) == 1


@pytest.mark.parametrize("later", [{"workflow": "a"}, {"workflow": "z"}])
def test_the_newest_process_says_whose_the_run_is(later: dict[str, str]) -> None:
    ledger = Ledger()
    for at in (2.0, 3.0, 4.0):
        seen(ledger, at, 1.0, "one", {"workflow": "m"})
        if at > 2.0:
            seen(ledger, at, 3.0, "two", later)
    assert ledger.runs["run"].attributes.labels == later


def test_other_labels_are_worth_storing() -> None:
    ledger = Ledger()
    seen(ledger, 2.0, 1.0, "one", {"workflow": "m"})
    before = ledger.runs["run"].revision
    seen(ledger, 3.0, 1.0, "one", {"workflow": "n"})
    assert ledger.runs["run"].revision > before
