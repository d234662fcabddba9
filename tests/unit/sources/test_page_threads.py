"""The order in which pages are read, and threads that nothing waits for."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

from otel_budget.runtime.workers import Workers
from otel_budget.sources.exposition import PageLimits
from otel_budget.sources.page_threads import COSTLY, PageCost, PageThreads
from otel_budget.sources.process_turns import ProcessTurns
from otel_budget.sources.scrape_target import ScrapeTarget, Target


def cost(seconds: float) -> PageCost:
    """Return what is known of a target whose pages take so long."""
    known = PageCost()
    known.note(seconds)
    return known


def test_cheap_pages_are_read_while_costly_ones_hang() -> None:
    """The cheapest first; and of the costly ones the one that has waited longest."""
    go, read = threading.Event(), list[str]()

    def hang(name: str) -> None:
        go.wait(10)
        read.append(name)

    async def trial() -> None:
        threads = PageThreads()
        costly = [
            asyncio.ensure_future(threads.run(partial(hang, name), cost(1.0), 1))
            for name in ("first", "second")
        ]
        await asyncio.sleep(0)
        for seconds in (0.01, 0.001):
            await threads.run(partial(read.append, str(seconds)), cost(seconds), 1)
        assert read == ["0.01", "0.001"]
        go.set()
        await asyncio.gather(*costly)
        threads.close()

    asyncio.run(trial())
    assert read == ["0.01", "0.001", "first", "second"]


def test_a_target_that_was_costly_once_is_not_taken_for_cheap_at_the_next_page() -> None:
    known = PageCost()
    assert known.expected(1000) < COSTLY <= known.expected(1_000_000), "a new page, by its length"
    known.note(1.0)
    known.note(0.001)
    assert (known.last, known.expected(1000) >= COSTLY) == (0.001, True)
    for _ in range(60):
        known.note(0.001)
    assert known.expected(1000) < COSTLY
    assert known.expected(50_000_000) >= COSTLY


def test_what_takes_no_part_of_the_processor_is_no_cost() -> None:
    known = PageCost()

    async def trial() -> None:
        threads = PageThreads()
        await threads.run(lambda: threading.Event().wait(0.1), known, 1)
        threads.close()
        assert await threads.run(lambda: "again", known, 1) == "again"
        threads.close()

    asyncio.run(trial())
    assert known.last < 0.05


def test_workers_have_threads_that_the_end_of_the_process_does_not_wait_for() -> None:
    """As many as they may have, by their name; they go on after what raised."""
    both, names = threading.Barrier(2, timeout=10), list[str]()

    def work() -> None:
        names.append(threading.current_thread().name)
        assert threading.current_thread().daemon
        both.wait()

    workers = Workers("names", 2)
    futures = [workers.submit(work) for _ in range(4)]
    failing = workers.submit(int, "x")
    assert isinstance(failing.exception(10), ValueError)
    for future in futures:
        future.result(10)
    assert sorted(set(names)) == ["names-1", "names-2"]
    assert workers.submit(int, "7").result(10) == 7
    workers.shutdown()
    assert workers.submit(int, "8").result(10) == 8, "as a source that is opened again"


def test_what_was_not_begun_is_cancelled_at_the_end() -> None:
    go = threading.Event()
    workers = Workers("one")
    begun, waiting = workers.submit(go.wait, 10), workers.submit(int)
    while not begun.running():
        pass
    workers.shutdown()
    go.set()
    assert (begun.result(10), waiting.cancelled()) == (True, True)


def test_a_page_that_waits_is_called_costly_only_if_it_is() -> None:
    """One that was never read waits for want of processor time."""
    target = Target(ScrapeTarget("http://a:1/metrics"), PageLimits(), 1.0, ProcessTurns())
    assert target.waits_for == "this sidecar gets too little processor time for all of its targets"
    target.cost.note(0.4)
    assert target.waits_for.endswith("its last one took 0.40 s")
