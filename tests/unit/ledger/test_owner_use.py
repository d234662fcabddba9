"""What the runs of each owner used."""

from decimal import Decimal
from typing import Any

from otel_budget import semconv
from otel_budget.core.observation import RunAttributes, RunObservation
from otel_budget.core.quantities import Number
from otel_budget.ledger.ledger import Ledger
from otel_budget.ledger.owner_use import OwnerUse, use_by
from tests.support.sidecar_fixtures import START, TARGET, reading


def ledger(*runs: RunObservation) -> Ledger:
    """Return a ledger that saw runs once."""
    made = Ledger()
    made.apply(reading(*runs))
    made.settle_families(START)
    return made


def run(
    session_id: str, tokens: int, *, cost: str | None = "0", parent: str | None = None,
    state: str = "running", **labels: str,
) -> RunObservation:  # fmt: skip
    """Return a run with its labels."""
    counters: dict[Any, Number] = {(semconv.TOKENS, ""): tokens, (semconv.API_CALLS, ""): 1}
    if cost is not None:
        counters[semconv.COST, ""] = Decimal(cost)
    attributes = RunAttributes(
        started_at=START - 10, incarnation_at=START - 10, state=state, labels=labels, parent=parent
    )
    return RunObservation(
        session_id=session_id, target=TARGET, sampled_at=START, counters=counters,
        attributes=attributes,
    )  # fmt: skip


def used(of: Ledger, label: str = "user", stopped: tuple[str, ...] = ()) -> list[OwnerUse]:
    """Return what each owner used."""
    return use_by(label, of.runs.values(), of.families.ancestors, stopped)


def test_the_use_of_each_owner_is_added_up_the_most_first() -> None:
    seen = ledger(
        run("a", 5, user="ann", cost="1.5"),
        run("b", 7, user="ann", cost="0.25", state="completed"),
        run("c", 100, user="bob"),
        run("d", 1),
    )
    found = used(seen, stopped=("a", "b"))
    assert [one.value for one in found] == ["bob", "ann", ""]
    assert found[1] == OwnerUse(
        "ann", 2, 1, 1,
        {semconv.TOKENS: 12, semconv.API_CALLS: 2, semconv.COST: Decimal("1.75")}, frozenset(),
    )  # fmt: skip


def test_what_a_run_does_not_say_makes_the_sum_a_least() -> None:
    seen = ledger(run("a", 5, user="ann", cost=None), run("b", 5, user="ann", cost="1.0"))
    (found,) = used(seen)
    assert found.used[semconv.COST] == Decimal("1.0")
    assert found.at_least == {semconv.COST}
    (nothing,) = used(ledger(run("a", 5, cost=None)))
    assert semconv.COST not in nothing.used


def test_a_run_without_the_label_has_that_of_the_run_that_started_it() -> None:
    seen = ledger(
        run("root", 5, user="ann"), run("child", 7, parent="root"),
        run("grandchild", 1, parent="child"), run("other", 2, parent="root", user="bob"),
    )  # fmt: skip
    found = {one.value: one.used[semconv.TOKENS] for one in used(seen)}
    assert found == {"ann": 13, "bob": 2}


def test_no_run_is_no_owner() -> None:
    assert used(ledger()) == []
