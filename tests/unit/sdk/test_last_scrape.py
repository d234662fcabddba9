"""What the end of a process waits for: whom it asks, for how long, and what it says."""

from __future__ import annotations

import logging
import multiprocessing
from typing import Any

import pytest

from otel_budget import ResourceLimits
from otel_budget.errors import InvalidValueError
from otel_budget.sdk.lifecycle.at_exit import ExitOrder
from otel_budget.sdk.metrics.collector import SCRAPER, RunCollector
from otel_budget.sdk.metrics.last_scrape import ENV_SCRAPE_WAIT, USUAL, Finish, LastScrape
from otel_budget.sdk.run_record import RunRecord
from otel_budget.testing import FakeClock


class Process:
    """A process that shows runs."""

    def __init__(self, clock: FakeClock) -> None:
        """Nobody scrapes it yet."""
        self.clock = clock
        self.sessions = RunCollector(clock.clock.monotonic)
        self.sessions.describe()
        self.order = ExitOrder()
        self.last = LastScrape(self.sessions, self.order, clock.clock.monotonic)
        self.asked: list[str] = []

    def ends(
        self,
        session_id: str,
        sidecar: str | None = None,
        *,
        looks: bool = True,
        handed_over: Finish | None = None,
    ) -> None:
        """Have a run begin and end. looks: its sidecar reads the page when asked to."""
        record = RunRecord(session_id, ResourceLimits(), self.clock.clock, labels={})
        self.sessions.add(record)
        record.close("completed")
        self.sessions.closed(record)

        def look(seconds: float) -> bool:
            assert 0 < seconds <= 2
            self.asked.append(session_id)
            self.clock.advance(0.1)
            if looks:
                self.scraped("sidecar")
            return looks

        self.last.ended(sidecar, look if sidecar else None, handed_over)

    def scraped(self, name: str) -> None:
        """Have somebody scrape it."""
        token = SCRAPER.set(name)
        list(self.sessions.collect())
        SCRAPER.reset(token)


@pytest.fixture
def process(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Process:
    """A process that nobody scrapes yet."""
    monkeypatch.delenv(ENV_SCRAPE_WAIT, raising=False)
    return Process(clock)


def test_one_look_of_each_sidecar_does_for_all_runs(process: Process) -> None:
    """Of each the run that ended last is named; a second end of the process asks nobody."""
    for number in range(3):
        process.ends(f"a-{number}", "http://a")
    process.order.run()
    assert process.asked == ["a-2"]
    process.order.run()
    assert process.asked == ["a-2"]


def test_a_run_that_waits_in_place_has_its_sidecar_look_first(process: Process) -> None:
    """Its process may end by ``os._exit``."""
    process.ends("a", "http://a")
    assert process.last.wait_here(2)
    assert process.asked == ["a"]
    process.order.run()
    assert process.asked == ["a"]


def test_runs_that_end_at_once_are_handed_over_in_any_order(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one's thread comes last: what it knows is less, and takes nothing back."""
    process.scraped("prometheus")

    def meanwhile(_seconds: float) -> bool:
        process.ends("second", handed_over=lambda _: True)
        assert process.last.wait_here(5)
        return True

    process.ends("first", handed_over=meanwhile)
    assert process.last.wait_here(5)
    assert process.sessions.unseen()
    waited: list[float] = []
    monkeypatch.setattr(process.sessions, "wait_scraped", waited.append)
    process.last.wait()
    assert not waited, "all was handed over, so there is no scrape to wait for"


def test_what_could_not_be_handed_over_is_not_heard_because_the_next_run_was(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sidecar was away for a moment: it is on the page alone, and a scrape is waited for."""
    process.scraped("sidecar")
    process.ends("first", "sidecar", looks=False, handed_over=lambda _: False)
    assert not process.last.wait_here(0.01)
    process.ends("second", "sidecar", looks=False, handed_over=lambda _: True)
    process.last.wait_here(0.01)
    waited: list[float] = []
    monkeypatch.setattr(
        process.sessions, "wait_scraped", lambda seconds, **_: waited.append(seconds)
    )
    process.last.wait()
    assert waited == [USUAL]


def test_what_could_not_be_handed_over_is_heard_once_it_was_scraped(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.scraped("sidecar")
    process.ends("first", "sidecar", looks=False, handed_over=lambda _: False)
    assert not process.last.wait_here(0.01)
    process.scraped("sidecar")
    process.ends("second", "sidecar", handed_over=lambda _: True)
    waited: list[float] = []
    monkeypatch.setattr(process.sessions, "wait_scraped", waited.append)
    process.last.wait()
    assert not waited


def test_nobody_is_asked_where_the_ends_were_seen(process: Process) -> None:
    """As in a server that ends long after its last request."""
    process.ends("a", "http://a")
    process.scraped("sidecar")
    process.order.run()
    assert process.asked == []


def test_a_page_that_no_registry_has_is_waited_for_by_nobody(process: Process) -> None:
    process.sessions.registered = False
    process.last.ask(5)
    process.ends("a", "http://a", looks=False)
    process.order.run()
    assert process.asked == []


def test_a_scrape_wait_that_was_in_vain_is_said_with_what_to_do(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    """Also by a process that was never scraped, and after a sidecar that cannot be hastened."""
    caplog.set_level(logging.DEBUG)
    process.last.wait_for = 0.01
    process.ends("a", "http://a", looks=False)
    process.order.run()
    assert process.asked == ["a"]
    assert "no scrape came within 0.01 s" in caplog.text
    assert "scrape_wait has to be longer than the scrape interval" in caplog.text


def test_the_environment_says_how_long_unless_the_caller_does(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.last.ask(None)
    said = [process.last.wait_for]
    monkeypatch.setenv(ENV_SCRAPE_WAIT, "20")
    for asked in (None, 3, None):
        process.last.ask(asked)
        said.append(process.last.wait_for)
    assert said == [None, 20, 3, 3]


@pytest.mark.parametrize("given", [-1, float("nan"), float("inf"), True, "5"])
def test_what_is_no_number_of_seconds_is_refused(process: Process, given: Any) -> None:
    with pytest.raises(InvalidValueError, match=r"scrape_wait.*0 or more"):
        process.last.ask(given)


def test_what_the_environment_says_is_checked_as_well(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("soon", "-1", "nan"):
        monkeypatch.setenv(ENV_SCRAPE_WAIT, text)
        with pytest.raises(InvalidValueError, match=ENV_SCRAPE_WAIT):
            process.last.ask(None)


def test_a_worker_that_its_parent_ends_by_a_signal_tells_its_sidecar_of_each_end(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with multiprocessing.Pool(): the worker's own end calls nothing."""
    process.ends("first", "one")
    process.last.look_if_pool_worker()
    assert process.asked == [], "this process ends by itself"
    monkeypatch.setattr(multiprocessing.current_process(), "name", "ForkPoolWorker-1")
    process.last.look_if_pool_worker()
    process.ends("soon after", "one")
    process.last.look_if_pool_worker()
    assert process.asked == ["first"], "it has more to do"
    process.clock.advance(1.0)
    process.ends("later", "one")
    process.last.look_if_pool_worker()
    assert process.asked == ["first", "later"]
    process.last.wait()
    assert process.asked == ["first", "later"], "all have been seen"


def test_a_sidecar_that_does_not_see_a_workers_runs_takes_a_tenth_of_its_time(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its page is among no targets, or the sidecar is down."""
    monkeypatch.setattr(multiprocessing.current_process(), "name", "ForkPoolWorker-1")
    for number in range(15):
        process.ends(f"run-{number}", "one", looks=False)
        process.last.look_if_pool_worker()
        process.clock.advance(0.1)
    assert len(process.asked) == 2, "0.1 s each, within 1.6 s"
