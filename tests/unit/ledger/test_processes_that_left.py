"""Runs of programs that do not say when they began: their processes end, and others go on."""

from __future__ import annotations

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation, Problem, RunAttributes, RunObservation
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import Verdict
from otel_budget.ledger.findings import FindingKind
from otel_budget.ledger.ledger import Ledger
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot
from otel_budget.sidecar.storage.codec import from_json, to_json

HERE = "http://127.0.0.1:9464/metrics"
LIMITS = {semconv.TOKENS: 1000, semconv.DURATION: 10_000.0}
RULES = Rules(ceilings=bounds_from(LIMITS, {}, "sidecar"), hold=30.0)


def seen(at: float, tokens: int, since: float | None = None, run: str = "run") -> Observation:
    """Return a reading of a run at its target, of the process that was found at ``since``."""
    attributes = RunAttributes(incarnation_at=since)
    counters = {(semconv.TOKENS, ""): tokens}
    found = RunObservation(
        run, HERE, at, counters, attributes, process="localhost:9464/metrics",
        follows=since is not None,
    )  # fmt: skip
    return Observation("scrape", at, (found,), targets=frozenset({HERE}))


def refused(at: float, *, left: bool = True) -> Observation:
    """Return a reading in which nobody listens there."""
    problem = Problem(HERE, Reason.SOURCE_ERROR, "refused")
    gone = frozenset({HERE} if left else ())
    return Observation("scrape", at, problems=(problem,), targets=frozenset({HERE}), left=gone)


def ledger(*readings: Observation) -> Ledger:
    """Return a ledger that took these in, and was asked after each."""
    book = Ledger()
    for reading in readings:
        book.apply(reading)
        list(book.snapshots(reading.read_at))
    return book


def verdict(book: Ledger, now: float, run: str = "run") -> Verdict:
    """Judge it."""
    return verdict_from_snapshot(book.snapshot(book.runs[run], now), RULES, now)


def used(book: Ledger, run: str = "run") -> object:
    """Return the tokens of a run."""
    return book.runs[run].totals()[semconv.TOKENS]


@pytest.mark.parametrize("second", [40, 100, 260], ids=["lower", "equal", "higher"])
def test_what_the_next_process_counts_is_added_whole(second: int) -> None:
    """It began at 0, wherever it was by its first sample."""
    book = ledger(seen(1, 60), seen(2, 100), refused(3), seen(5, second, since=5))
    assert used(book) == 100 + second
    book.apply(seen(6, second + 7, since=5))
    assert used(book) == 100 + second + 7


def test_each_process_of_a_row_is_added() -> None:
    """A session may be resumed any number of times."""
    book = ledger(seen(1, 100))
    for began in range(10, 60, 10):
        for reading in (refused(began - 1), seen(began, 100, began), seen(began + 1, 150, began)):
            book.apply(reading)
    assert used(book) == 100 + 5 * 150


def test_a_sidecar_that_was_started_anew_goes_on_with_the_newest_process() -> None:
    """It did not see the gap, and the process is not named any more."""
    before = ledger(seen(1, 100), refused(3), seen(5, 40, since=5))
    book = Ledger()
    book.adopt(from_json(to_json(before.runs["run"])), 7)
    book.apply(seen(8, 60))
    assert used(book) == 160
    for reading in (refused(9), seen(10, 500, since=10)):
        book.apply(reading)
    assert used(book) == 660


def test_a_run_whose_process_ended_has_vanished_and_stands_still() -> None:
    """No more comes of it, so there is nothing to wait for: what was decided of it stays."""
    book = ledger(seen(1, 100), seen(101, 200), refused(102))
    for later in (103, 200, 5000):
        book.apply(refused(later))
        found = verdict(book, later)
        assert (found.action, found.run_state) == (Action.CONTINUE, semconv.VANISHED)
        assert found.resources[semconv.DURATION].used == 101
        assert found.resources[semconv.DURATION].exhaustion_seconds is None
        assert found.message.endswith("its process has ended")
    assert book.targets.vanished == ["run"]


def test_what_was_exceeded_stays_stopped_without_a_process() -> None:
    """Only its next budget is another one."""
    book = ledger(seen(1, 2000), refused(2))
    assert verdict(book, 500).action is Action.STOP


def test_a_run_goes_on_with_its_next_process() -> None:
    """It can be talked to again: the time in between counts, as downtime does."""
    book = ledger(seen(1, 100), refused(2), refused(500), seen(600, 50, since=600))
    found = verdict(book, 600)
    assert (found.action, found.run_state) == (Action.CONTINUE, None)
    assert found.resources[semconv.DURATION].used == 599
    assert found.resources[semconv.TOKENS].used == 150


def test_a_run_that_was_told_of_is_not_gone_until_nobody_listens_still() -> None:
    """A hook of the next process comes before its page does; neither stops it."""
    book = ledger(seen(1, 100), refused(2))
    book.apply(Observation("otlp", 50, asked=frozenset(), told={"run": semconv.RUNNING}))
    assert verdict(book, 51).action is Action.CONTINUE
    book.apply(refused(52))
    assert verdict(book, 100).action is Action.CONTINUE


def test_what_is_not_certain_is_missed_as_before() -> None:
    """A target that gives nothing may have a process that goes on."""
    book = ledger(seen(1, 100), refused(2, left=False))
    assert verdict(book, 3).run_state is None
    found = verdict(book, 500)
    assert (found.action, found.reason) == (Action.STOP, Reason.SOURCE_ERROR)


def test_a_nudge_that_finds_nobody_says_so_of_its_target_alone() -> None:
    """What is known of the others stays."""
    book = ledger(seen(1, 100))
    reading = Observation("scrape", 2, asked=frozenset({HERE}), left=frozenset({HERE}))
    book.apply(reading)
    assert verdict(book, 2).run_state == semconv.VANISHED
    book.apply(Observation("scrape", 3, asked=frozenset({"http://other"})))
    assert verdict(book, 3).run_state == semconv.VANISHED


def test_that_a_process_has_ended_is_stored() -> None:
    """A new sidecar does not wait for it either."""
    before = ledger(seen(1, 100), refused(2))
    run = from_json(to_json(before.runs["run"]))
    assert (run.has_left, run.vanished_at) == (True, 2)
    book = Ledger()
    book.adopt(run, 1000)
    assert verdict(book, 1001).action is Action.CONTINUE
    assert verdict(book, 2000).action is Action.CONTINUE


def pushed(at: float, tokens: int, since: float | None = None) -> Observation:
    """Return what is pushed of the run. since: when its process began, if that says it."""
    attributes = RunAttributes(idle_after=1800.0, incarnation_at=since)
    counters = {(semconv.TOKENS, ""): tokens}
    target = 'otlp://127.0.0.1{signal="metrics"}'
    found = RunObservation("run", target, at, counters, attributes, process="otlp://127.0.0.1")
    return Observation("otlp", at, (found,), asked=frozenset({target}))


@pytest.mark.parametrize("first", ["scraped", "pushed"])
def test_a_run_that_is_scraped_and_pushed_is_flagged_once(first: str) -> None:
    """It counts twice, as it may be two processes; whoever set it up so is to know."""
    ways = [[seen(at, 100), pushed(at + 1, 100)] for at in (1, 3, 5)]
    book = ledger(*(one for way in ways for one in (way if first == "scraped" else way[::-1])))
    assert used(book) == 200
    (found,) = book.findings
    assert found.kind is FindingKind.PUSHED_TOO
    assert found.targets == (HERE, 'otlp://127.0.0.1{signal="metrics"}')


def test_one_that_goes_on_by_the_other_way_is_not() -> None:
    """Its processes follow one another; nor is one that says which process it is."""
    book = ledger(seen(1, 100), refused(2), pushed(500, 50), pushed(501, 60))
    assert (used(book), book.findings) == (160, [])
    own = ledger(pushed(1, 100, since=1.0))
    scraped = seen(2, 100, since=1.0).sessions[0]._replace(follows=False)
    own.apply(Observation("scrape", 2, (scraped,), targets=frozenset({HERE})))
    assert used(own) == 100
    assert FindingKind.PUSHED_TOO not in {found.kind for found in own.findings}
