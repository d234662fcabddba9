"""The sidecar's tick over pages of many runs, beside the parser alone, and how it grows."""

from __future__ import annotations

import asyncio
import gc
import math
import statistics
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.machine import resident_mib
from benchmarks.pages import Fleet
from benchmarks.report import Goal, Report
from benchmarks.rounds import steps
from otel_budget.model.reading import Reading
from otel_budget.policy.judge import Rules
from otel_budget.publish.hub import Hub
from otel_budget.sidecar.book import Book
from otel_budget.sidecar.loop import Loop, Settings
from otel_budget.sidecar.store import open_store
from otel_budget.sidecar.telemetry import Telemetry
from otel_budget.sidecar.wiring import GC_THRESHOLDS
from otel_budget.sources.pages import SessionPages
from otel_budget.sources.parse import PageLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_budget.sidecar.store import Store

_PER_TARGET, _BEGAN = 10_000, 2_000_000_000.0
_LIMITS = PageLimits(samples=1_000_000)
_SIZES = (10, 100, 1000, 10_000, 100_000)


class _Source:
    """Gives the page that is ready of each target, as the scrape does once it has arrived."""

    reads_runs = False

    def __init__(self) -> None:
        self.now, self.bodies = _BEGAN, list[bytes]()
        self._pages: list[SessionPages] = []

    async def read(self) -> Reading:
        while len(self._pages) < len(self.bodies):
            self._pages.append(SessionPages(f"http://{len(self._pages)}/metrics", _LIMITS, 3600.0))
        found = [
            await asyncio.to_thread(pages.read, body, "text/plain", self.now)
            for pages, body in zip(self._pages, self.bodies, strict=True)
        ]
        sessions = tuple(session for page in found for session in page.sessions)
        return Reading("scrape", self.now, sessions)

    async def read_run(self, session_id: str) -> Reading | None:  # noqa: ARG002 - as Source has it
        return None

    async def close(self) -> None:
        pass


class _Measured(NamedTuple):
    """What came of one size and one share of changes. Seconds and MiB."""

    runs: int
    changing: float
    ticks: list[float]
    parser: list[float]
    store: float
    """Share of the ticks."""
    memory: float

    @property
    def ratio(self) -> float:
        return statistics.median(self.ticks) / statistics.median(self.parser)


def run(*, quick: bool) -> Report:
    """Measure ticks of each size."""
    gc.set_threshold(*GC_THRESHOLDS)
    sizes = _SIZES[:3] if quick else _SIZES
    plans = [(size, changing) for size in sizes for changing in (0.01, 1.0)]
    found = [_measure(*plans[number]) for number in steps(len(plans), "sizes")]
    rows = tuple(
        (
            f"{one.runs:,}", f"{one.changing:.0%}",
            f"{statistics.median(one.ticks) * 1e3:,.1f}", f"{max(one.ticks) * 1e3:,.1f}",
            f"{statistics.median(one.ticks) / one.runs * 1e6:.0f}", f"{one.ratio:.2f}",
            f"{one.store:.0%}", f"{one.memory * 1024 / one.runs:.1f}",
        )
        for one in found
    )  # fmt: skip
    goals = [
        Goal(f"tick over 10,000 runs, {one.changing:.0%} changing, of the parser alone",
             one.ratio, 0.5)
        for one in found if one.runs == _PER_TARGET
    ]  # fmt: skip
    goals += [
        Goal(f"share of the store, {one.changing:.0%} changing", one.store, 0.25)
        for one in found
        if one.runs == _PER_TARGET
    ]
    goals += [
        Goal(f"exponent of the growth, {share:.0%} changing",
             _exponent([one for one in found if one.changing == share]), 1.05)
        for share in (0.01, 1.0)
    ]  # fmt: skip
    return Report(
        title="The sidecar's tick, by the number of runs",
        about=(
            "Pages of 22 samples a run, at most 10,000 runs to a target, every run alive; the "
            "whole tick from the page that has arrived to the verdicts that are stored and "
            "published. Beside it prometheus_client.parser alone for the same text, in turns. "
            "Memory: what the process grew by, pages in hand included. The exponent is that of "
            "the line through all sizes from 100 on, both axes logarithmic."
        ),
        columns=("runs", "changing", "tick, ms", "slowest, ms", "µs a run", "of the parser",
                 "store", "KiB a run"),
        rows=rows,
        goals=tuple(goals),
    )  # fmt: skip


def _exponent(found: list[_Measured]) -> float:
    """Return the slope of log time over log size."""
    points = [
        (math.log(one.runs), math.log(statistics.median(one.ticks)))
        for one in found
        if one.runs >= 100
    ]
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def _measure(runs: int, changing: float) -> _Measured:
    gc.collect()
    before = resident_mib()
    source = _Source()
    with _loop(source) as (loop, store):
        fleets = [
            Fleet(min(_PER_TARGET, runs - first), changing, first)
            for first in range(0, runs, _PER_TARGET)
        ]
        ticks, parser = list[float](), list[float]()
        count = 8 if runs < _SIZES[-1] else 4
        for number in range(count + 2):
            source.now += 1
            source.bodies = [fleet.page(number) for fleet in fleets]
            took = _timed(loop)
            if number == 1:
                store.seconds = 0.0
            if number > 1:  # the first two build up what later ones go on from
                ticks.append(took)
            if number in (2, count):
                parser.append(_parse(source.bodies))
        memory = resident_mib() - before
        share = store.seconds / sum(ticks)
    return _Measured(runs, changing, ticks, parser, share, memory)


class _Timed:
    """A store whose transactions are timed."""

    def __init__(self, store: Store) -> None:
        self._commit, self.seconds = store.commit, 0.0
        store.commit = self._timed  # type: ignore[method-assign] # to be timed

    def _timed(self, changes: object) -> None:
        began = time.perf_counter()
        self._commit(changes)  # type: ignore[arg-type] # handed on
        self.seconds += time.perf_counter() - began


@contextmanager
def _loop(source: _Source) -> Iterator[tuple[Loop, _Timed]]:
    with tempfile.TemporaryDirectory() as folder:
        store, restored = open_store(str(Path(folder) / "bench.db"))

        def clock() -> float:
            return source.now

        loop = Loop(
            Settings("scrape", source, 1.0, Rules(), 900.0),
            book=Book(store, restored, source.now),
            hub=Hub(15.0),
            telemetry=Telemetry("1", clock, lambda: 0),
            clock=clock,
        )
        yield loop, _Timed(store)
        store.close()


def _timed(loop: Loop) -> float:
    began = time.perf_counter()
    asyncio.run(loop.tick())
    return time.perf_counter() - began


def _parse(bodies: list[bytes]) -> float:
    texts = [body.decode() for body in bodies]
    began = time.perf_counter()
    for text in texts:
        for _family in text_string_to_metric_families(text):
            pass
    return time.perf_counter() - began
