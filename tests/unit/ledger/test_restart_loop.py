"""Runs of one id that follow each other and do not complete, where their use adds up."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from otel_budget import semconv
from otel_budget.core.observation import Observation, RunAttributes, RunObservation
from otel_budget.core.reasons import Action
from otel_budget.ledger.ledger import Ledger
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot
from otel_budget.sidecar.storage import codec

RULES = Rules(ceilings=bounds_from({semconv.TOKENS: 1000}, {}, "sidecar"))


def show(ledger: Ledger, at: float, start: float, tokens: int, *where: str, **said: Any) -> None:
    """Let a run that began at ``start`` be seen at some targets."""
    attributes = RunAttributes(started_at=start, incarnation_at=start, state="running")._replace(
        **said
    )
    used: dict[tuple[str, str], Any] = {
        (semconv.TOKENS, ""): tokens,
        (semconv.COST, ""): Decimal("0.5"),
    }
    seen = [RunObservation("job", target, at, used, attributes) for target in where or ("a",)]
    ledger.apply(Observation("scrape", at, tuple(seen)))


def used(ledger: Ledger, now: float) -> Any:
    """Return what the run has used, as it is judged."""
    return ledger.snapshot(ledger.runs["job"], now).used


def adding() -> Ledger:
    """Return a ledger that adds up what such runs use."""
    ledger = Ledger()
    ledger.adds_restarts = True
    return ledger


def test_where_restarts_add_up_a_crash_loop_is_held_by_one_limit() -> None:
    """In tokens and in money, across a restart of the sidecar; its time is its own."""
    ledger = adding()
    show(ledger, 101, 100, 900)
    show(ledger, 102, 102, 60)
    again = adding()
    again.adopt(codec.from_json(codec.to_json(ledger.runs["job"])), 103)
    show(again, 103, 103, 40, state="failed")
    assert used(again, 103)[semconv.TOKENS] == 1000
    assert used(again, 103)[semconv.COST] == Decimal("1.5")
    assert used(again, 103)[semconv.DURATION] < 1
    assert (
        verdict_from_snapshot(again.snapshot(again.runs["job"], 103), RULES, 103).action
        is Action.STOP
    )
    assert not again.findings


def test_where_restarts_add_up_a_job_that_completed_or_is_run_later_begins_at_0() -> None:
    """As an honest rerun must."""
    ledger = adding()
    show(ledger, 101, 100, 900, state="completed")
    show(ledger, 102, 102, 60)
    assert used(ledger, 102)[semconv.TOKENS] == 60
    show(ledger, 86402, 86402, 70)
    assert used(ledger, 86402)[semconv.TOKENS] == 70


def test_where_restarts_add_up_one_that_ran_for_hours_is_added_as_well() -> None:
    """That it ran for long keeps it from looking like a loop, not from having used what it did."""
    ledger = adding()
    show(ledger, 100, 100, 1)
    show(ledger, 20000, 100, 900)
    show(ledger, 20001, 20001, 60)
    assert used(ledger, 20001)[semconv.TOKENS] == 960


def test_where_restarts_add_up_a_run_that_was_passed_over_wrongly_counts_once() -> None:
    """It was not over: both are counted together from then on, and nothing twice."""
    ledger = adding()
    show(ledger, 100, 100, 900)
    show(ledger, 110, 110, 60, "b")
    assert used(ledger, 110)[semconv.TOKENS] == 960
    for at in (111, 112, 113):
        show(ledger, at, 100, 900 + at, "a", duration=float(at))
        show(ledger, at, 110, 60, "b")
    assert used(ledger, 113)[semconv.TOKENS] == 900 + 113 + 60


def test_unless_it_is_set_each_begins_at_0() -> None:
    """However often."""
    ledger = Ledger()
    for at in range(101, 110):
        show(ledger, at, at, 900)
    assert used(ledger, 110)[semconv.TOKENS] == 900
