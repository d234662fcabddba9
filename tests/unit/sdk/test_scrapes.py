"""How long runs stay on ``/metrics``, and the handshake between a run that ends and a scrape."""

from __future__ import annotations

import gc
import sys
import threading
import time

import pytest

from otel_budget import ResourceLimits, semconv
from otel_budget.sdk.metrics import collector as exposition
from otel_budget.sdk.metrics import run_group
from otel_budget.sdk.metrics.collector import LINGER, MAX_SCRAPED, MAX_UNSCRAPED
from otel_budget.sdk.metrics.collector import RunCollector as Collector
from otel_budget.sdk.run_record import RunRecord
from otel_budget.sdk.usage_arguments import OperationUsage
from otel_budget.testing import FakeClock


@pytest.fixture
def shown(clock: FakeClock) -> Collector:
    """An exposition of its own, under the test's clock."""
    collector = Collector(clock.clock.monotonic)
    collector.describe()  # as a registry does
    return collector


def opened(shown: Collector, clock: FakeClock, name: str, tokens: int = 1) -> RunRecord:
    """Open a run and use something."""
    record = RunRecord(name, ResourceLimits(), clock.clock, labels={})
    with record.lock:
        record.add(record.counters(None, None), OperationUsage(tokens=tokens))
    shown.add(record)
    return record


def close(shown: Collector, record: RunRecord) -> None:
    """End a run."""
    record.close("completed")
    shown.closed(record)


def scrape(shown: Collector) -> dict[str, float]:
    """Scrape; return tokens by session."""
    for metric in list(shown.collect()):
        if metric.name == semconv.SESSION_TOKENS.name.removesuffix("_total"):
            return {s.labels["session_id"]: s.value for s in metric.samples}
    return {}


def test_a_closed_run_stays_until_it_was_scraped_and_then_for_a_minute(
    shown: Collector, clock: FakeClock
) -> None:
    """However long nobody scrapes; with its final counts."""
    close(shown, opened(shown, clock, "a", 5))
    clock.advance(10_000)
    assert scrape(shown) == {"a": 5}
    clock.advance(LINGER)
    assert scrape(shown) == {"a": 5}
    clock.advance(0.1)
    assert scrape(shown) == {}
    assert len(shown) == 0


def test_a_run_that_closes_during_a_scrape_is_not_taken_for_seen(
    shown: Collector, clock: FakeClock
) -> None:
    """What that scrape read of it may be from before its end."""
    record = opened(shown, clock, "a")
    half = iter(shown.collect())
    next(half)
    close(shown, record)
    list(half)
    clock.advance(LINGER * 10)
    assert scrape(shown) == {"a": 1}


def test_a_scrape_that_is_broken_off_has_seen_nothing(shown: Collector, clock: FakeClock) -> None:
    """The scraper hung up."""
    close(shown, opened(shown, clock, "a"))
    half = shown.collect()
    next(half)
    del half
    clock.advance(LINGER * 10)
    assert scrape(shown) == {"a": 1}


def test_a_new_run_of_an_old_name_takes_its_place(shown: Collector, clock: FakeClock) -> None:
    """The old one's counts go, and its going does not take the new one along."""
    close(shown, opened(shown, clock, "a", 5))
    scrape(shown)
    record = opened(shown, clock, "a", 3)
    clock.advance(LINGER + 1)
    assert scrape(shown) == {"a": 3}
    close(shown, record)
    assert scrape(shown) == {"a": 3}


def test_runs_that_were_replaced_before_a_scrape_do_not_hold_others_back(
    shown: Collector, clock: FakeClock
) -> None:
    """They wait for nothing any more."""
    for _ in range(10):
        close(shown, opened(shown, clock, "same"))
        close(shown, opened(shown, clock, "other"))
    scrape(shown)
    clock.advance(LINGER + 1)
    scrape(shown)
    assert len(shown) == len(shown._unscraped) == len(shown._lingering) == 0


@pytest.mark.parametrize("every", [None, 10_000], ids=["without scrapes", "with scrapes"])
def test_memory_is_flat_over_a_hundred_thousand_sessions(
    every: int | None, shown: Collector, clock: FakeClock
) -> None:
    """And what they used is in the sums of the process to the last token."""
    blocks: list[int] = []
    total = 100_000
    for number in range(1, total + 1):
        close(shown, opened(shown, clock, f"s{number}"))
        clock.advance(0.01)
        if every is not None and number % every == 0:
            scrape(shown)
        if number % 20_000 == 0:
            gc.collect()
            blocks.append(sys.getallocatedblocks())
            assert len(shown) <= MAX_UNSCRAPED + MAX_SCRAPED
    assert max(blocks[1:]) < blocks[0] * 1.05
    ((_, tokens),) = shown.process.sums(semconv.USAGE_TOKENS)
    assert tokens == total


def test_a_name_shared_by_many_overlapping_runs_does_not_grow(
    shown: Collector, clock: FakeClock
) -> None:
    """One is always open, so none may leave the sum; those that are over are kept as one."""
    first = opened(shown, clock, "same", 7)
    latest = opened(shown, clock, "same", 1)
    for _ in range(1000):
        newer = opened(shown, clock, "same", 1)
        close(shown, latest)
        latest = newer
        clock.advance(1)
        assert len(shown._groups["same"].records) <= run_group.MAX_SHARED + 1
    assert scrape(shown) == {"same": 7 + 1001}
    assert shown._groups["same"].records[0] is first
    found = {m.name: m.samples for m in shown.collect()}
    parts = found[semconv.PHASE_TOKENS.name.removesuffix("_total")]
    assert sum(sample.value for sample in parts) == 1008
    assert found[semconv.DURATION_SECONDS.name][0].value == 1000
    close(shown, latest)
    close(shown, first)
    scrape(shown)
    clock.advance(LINGER + 1)
    assert scrape(shown) == {}


def test_nobody_scrapes_so_nothing_is_waited_for(shown: Collector, clock: FakeClock) -> None:
    """Nor when the last scrape is long ago."""
    close(shown, opened(shown, clock, "a"))
    assert shown.wait_scraped(30)
    scrape(shown)
    clock.advance(exposition.SCRAPED_LATELY + 1)
    close(shown, opened(shown, clock, "b"))
    assert shown.wait_scraped(30)
    assert shown.wait_scraped(0.01, in_any_case=True) is False


def test_a_scrape_that_began_before_is_not_the_one_waited_for(
    shown: Collector, clock: FakeClock
) -> None:
    """Only one that begins after the run has ended has seen its end."""
    record = opened(shown, clock, "a")
    scrape(shown)
    before = shown.collect()
    next(before)
    close(shown, record)
    answers: list[bool] = []
    waiter = threading.Thread(target=lambda: answers.append(shown.wait_scraped(30)))
    waiter.start()
    while not shown._scraped._waiters:  # type: ignore[attr-defined] # it waits from here on
        pass
    list(before)
    assert not answers
    scrape(shown)
    waiter.join(20)
    assert answers == [True]


def test_a_look_by_hand_is_waited_for_once_at_most(shown: Collector, clock: FakeClock) -> None:
    """One scrape long ago is no reason to hold up every run that ends."""
    scrape(shown)
    close(shown, opened(shown, clock, "looked-at"))
    assert shown.wait_scraped(0.05) is False
    began = time.monotonic()
    assert shown.wait_scraped(30) is False
    assert time.monotonic() - began < 5


def test_a_scrape_that_is_not_due_in_time_is_not_waited_for(
    shown: Collector, clock: FakeClock
) -> None:
    """Scraped every 60 seconds, the next one is not to be had within 5."""
    opened(shown, clock, "seldom-seen")
    scrape(shown)
    clock.advance(60)
    scrape(shown)
    close(shown, opened(shown, clock, "ended"))
    began = time.monotonic()
    assert shown.wait_scraped(30) is False
    assert time.monotonic() - began < 5


def test_a_wait_for_a_scrape_ends_in_time(shown: Collector, clock: FakeClock) -> None:
    """And says that there was none."""
    scrape(shown)
    close(shown, opened(shown, clock, "a"))
    assert not shown.wait_scraped(0)
    assert not shown.wait_scraped(0.01)


def scrape_as(shown: Collector, name: str) -> None:
    """Scrape, as somebody who is known by a name."""
    token = exposition.SCRAPER.set(name)
    try:
        scrape(shown)
    finally:
        exposition.SCRAPER.reset(token)


def test_each_of_those_who_scrape_is_waited_for_by_its_own_interval(
    shown: Collector, clock: FakeClock
) -> None:
    """A sidecar every second does not stand for a Prometheus every 15 seconds."""
    for second in range(46):
        if second % 15 == 0:
            scrape_as(shown, "prometheus")
        scrape_as(shown, "sidecar")
        clock.advance(1)
    close(shown, opened(shown, clock, "a"))
    scrape_as(shown, "sidecar")
    assert shown.unseen()
    assert shown.wait_scraped(5) is False, "it is not due for 14 seconds"
    assert shown.wait_scraped(0.01, in_any_case=True) is False
    scrape_as(shown, "prometheus")
    assert not shown.unseen()
    assert shown.wait_scraped(5, in_any_case=True)


def test_who_asks_under_ever_new_names_does_not_make_scrapers_many(
    shown: Collector, clock: FakeClock
) -> None:
    """The page is open to everybody."""
    for number in range(1000):
        scrape_as(shown, f"somebody {number}")
    assert len(shown._scrapers) == exposition.MAX_SCRAPERS
    assert not shown.unseen()
