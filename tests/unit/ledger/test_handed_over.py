"""The last word of a process that ends: whose run it ends, and that it counts once."""

from __future__ import annotations

from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.core.bindings import UNBOUND, Bindings
from otel_budget.core.observation import (
    HANDED_OVER,
    HANDOVER,
    Observation,
    RunAttributes,
    RunObservation,
)
from otel_budget.ledger.findings import FindingKind
from otel_budget.ledger.ledger import Ledger
from otel_budget.ledger.owners import is_shown_at

PLACE = f"{HANDED_OVER}127.0.0.1"
START = 1000.0


def seen(
    at: float, tokens: int, target: str = "a", *, start: float = START, **said: Any
) -> RunObservation:
    """Return a sample of the run, of a process that began when the run did."""
    stated = RunAttributes(started_at=start, incarnation_at=start, state="running", duration=at)
    counters = {(semconv.TOKENS, ""): tokens}
    return RunObservation("run", target, START + at, counters, stated._replace(**said))


def over(at: float, tokens: int, **said: Any) -> RunObservation:
    """Return what its process hands over at its end."""
    return seen(at, tokens, PLACE, **{"state": "completed", **said})


def scraped(ledger: Ledger, *runs: RunObservation, by: Bindings = UNBOUND, **more: Any) -> None:
    """Let the ledger take in one reading of pages."""
    at = max((run.sampled_at for run in runs), default=START)
    ledger.apply(Observation("scrape", more.pop("at", at), runs, bindings=by, **more))


def handed(ledger: Ledger, run: RunObservation) -> bool:
    """Let the ledger take in what is handed over; return whether it was taken."""
    asked = frozenset({run.target})
    ledger.apply(Observation(HANDOVER, run.sampled_at, (run,), asked=asked))
    known = ledger.runs.get("run")
    return known is not None and is_shown_at(known, run)


def tokens(ledger: Ledger) -> Any:
    """Return what the run used."""
    return ledger.runs["run"].totals()[semconv.TOKENS]


def test_a_run_that_no_scrape_saw_is_complete_by_what_it_hands_over() -> None:
    """It has ended, and needs no page."""
    ledger = Ledger()
    assert handed(ledger, over(20, 3000))
    assert tokens(ledger) == 3000
    assert ledger.runs["run"].ended_at == START + 20
    scraped(ledger, targets=frozenset(), at=START + 60)
    assert ledger.snapshot(ledger.runs["run"], START + 60).ended
    assert not ledger.targets.vanished
    assert not ledger.findings


@pytest.mark.parametrize("first_owns", [False, True])
def test_it_is_one_more_view_of_a_process_that_was_scraped(*, first_owns: bool) -> None:
    """The larger sum counts once, whatever is read of the page before and after."""
    ledger, rule = Ledger(), Bindings(first_owns=first_owns)
    scraped(ledger, seen(15, 1000), by=rule)
    assert handed(ledger, over(20, 3000))
    scraped(ledger, seen(18, 2500), by=rule)
    assert ledger.runs["run"].ended_at == START + 20, "a sample from before its end"
    scraped(ledger, over(30, 3000, duration=20.0)._replace(target="a"), by=rule)
    assert tokens(ledger) == 3000
    assert ledger.runs["run"].attributes.state == "completed"
    assert not ledger.findings
    assert not ledger.dropped


def test_a_run_is_ended_by_its_own_process_alone() -> None:
    """One that is not known ends nothing that goes on, and adds nothing to it."""
    ledger = Ledger()
    scraped(ledger, seen(15, 1000))
    assert not handed(ledger, over(16, 9000, incarnation_at=START + 1))
    assert not handed(ledger, over(16, 9000, start=START + 2))
    assert tokens(ledger) == 1000
    assert ledger.runs["run"].ended_at is None
    assert [flag.kind for flag in ledger.findings] == [FindingKind.CARRIED_ELSEWHERE]
    assert ledger.dropped[semconv.CARRIED_ELSEWHERE] == 2
    assert handed(ledger, over(20, 3000)), "its own is taken all the same"


def test_a_run_that_is_over_may_be_followed_by_one_that_no_scrape_sees() -> None:
    """A job of the same name each night, or one that was resumed."""
    ledger = Ledger()
    assert handed(ledger, over(20, 3000))
    resumed = over(60, 500, incarnation_at=START + 50, carried_over={semconv.TOKENS: 3000})
    assert handed(ledger, resumed)
    assert tokens(ledger) == 3500
    assert handed(ledger, over(90, 10, start=START + 70))
    assert tokens(ledger) == 10


def test_a_bound_run_is_ended_by_a_process_that_its_target_showed() -> None:
    """Of one that it never showed it is not known whether it may speak for the run."""
    ledger, rule = Ledger(), Bindings({"run": ["a"]})
    ledger.bind(rule)
    assert not handed(ledger, over(14, 9000))
    assert [flag.kind for flag in ledger.findings] == [FindingKind.BOUND_ELSEWHERE]
    scraped(ledger, seen(15, 1000), by=rule)
    assert handed(ledger, over(20, 3000))
    assert ledger.runs["run"].ended_at is not None
    ledger.bind(Bindings({"run": ["b"]}))
    assert tokens(ledger) == 3000, "what was taken stays"


@pytest.mark.parametrize(
    ("read_at", "lasted", "ended"),
    [
        (20.3, 19.9, True),  # made before the end, read just after
        (20.3, 20.0, True),
        (21.3, 21.0, False),  # it goes on
        (35.0, 19.9, False),  # no page is read for so long
    ],
)
def test_a_page_that_was_made_before_the_end_and_read_after_it_is_no_news(
    *, read_at: float, lasted: float, ended: bool
) -> None:
    """Its process may be gone by the next scrape: it would be known as vanished for ever."""
    ledger = Ledger()
    scraped(ledger, seen(15, 2500))
    assert handed(ledger, over(20, 3000))
    scraped(ledger, seen(read_at, 3000, duration=lasted))
    assert (ledger.runs["run"].ended_at is not None) is ended
    assert tokens(ledger) == 3000
