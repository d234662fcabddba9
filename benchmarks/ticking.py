"""Ticks of the sidecar's own parts, timed: what ``tick`` and ``tick_prometheus`` have in common."""

from __future__ import annotations

import asyncio
import gc
import math
import statistics
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.machine import resident_mib
from benchmarks.pages import Fleet
from benchmarks.report import Goal
from benchmarks.rounds import steps
from otel_budget.policy.verdicts import Rules
from otel_budget.sidecar.api.broadcaster import VerdictBroadcaster
from otel_budget.sidecar.evaluator import Evaluator
from otel_budget.sidecar.loop import Loop
from otel_budget.sidecar.main import GC_THRESHOLDS
from otel_budget.sidecar.metrics import SidecarMetrics
from otel_budget.sidecar.settings import Settings
from otel_budget.sidecar.storage.sqlite.storage import open_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_budget.core.observation import Observation
    from otel_budget.sidecar.storage.sqlite.storage import SqliteStorage

PER_TARGET, BEGAN = 10_000, 2_000_000_000.0
SIZES = (10, 100, 1000, 10_000, 100_000)
COLUMNS = ("runs", "changing", "tick, ms", "slowest, ms", "µs a run", "beside", "store",
           "KiB a run")  # fmt: skip


class Prepared(ABC):
    """A source that gives what was made ready for it."""

    reads_runs = False

    def __init__(self) -> None:
        """Begin at some time."""
        self.now = BEGAN

    @abstractmethod
    def prepare(self, pages: list[bytes]) -> None:
        """Take the pages of all targets at ``now``."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The bytes that are prepared."""

    @abstractmethod
    def beside(self) -> float:
        """Do what the tick is held against with what was prepared; return the seconds."""

    @abstractmethod
    async def read(self) -> Observation:
        """Return what was prepared, as Source does."""

    async def read_late(self) -> Observation | None:
        """Return None: nothing is ever pending."""
        return None

    async def read_run(self, session_id: str) -> Observation | None:  # noqa: ARG002 - as Source has it
        """Return None."""
        return None

    async def close(self) -> None:  # noqa: B027 - there is nothing to close
        """Do nothing."""


class Measured(NamedTuple):
    """What came of one size and one share of changes. Seconds and MiB."""

    runs: int
    changing: float
    ticks: list[float]
    beside: list[float]
    storage: float
    """Share of the ticks."""
    memory: float
    """Beyond what was prepared."""

    @property
    def ratio(self) -> float:
        """How many times as long as what it is held against a tick takes."""
        return statistics.median(self.ticks) / statistics.median(self.beside)

    @property
    def row(self) -> tuple[str, ...]:
        """Return it as a row of ``COLUMNS``."""
        tick = statistics.median(self.ticks)
        return (
            f"{self.runs:,}", f"{self.changing:.0%}", f"{tick * 1e3:,.1f}",
            f"{max(self.ticks) * 1e3:,.1f}", f"{tick / self.runs * 1e6:.0f}", f"{self.ratio:.2f}",
            f"{self.storage:.0%}", f"{self.memory * 1024 / self.runs:.1f}",
        )  # fmt: skip


def measure_all(make: Callable[[], Prepared], *, quick: bool) -> list[Measured]:
    """Measure ticks of each size, with 1 % and with all of the runs changing."""
    gc.set_threshold(*GC_THRESHOLDS)
    sizes = SIZES[:3] if quick else SIZES
    plans = [(size, changing) for size in sizes for changing in (0.01, 1.0)]
    return [_measure(make(), *plans[number]) for number in steps(len(plans), "sizes")]


def common_goals(found: list[Measured]) -> tuple[Goal, ...]:
    """Return the goals for the store's share and for the growth."""
    shares = [
        Goal(
            f"share of the store, {one.runs:,} runs, {one.changing:.0%} changing", one.storage, 0.25
        )
        for one in found
        if one.runs == PER_TARGET
    ]
    growth = [
        Goal(f"exponent of the growth, {changing:.0%} changing",
             _exponent([one for one in found if one.changing == changing]), 1.05)
        for changing in (0.01, 1.0)
    ]  # fmt: skip
    return (*shares, *growth)


def _exponent(found: list[Measured]) -> float:
    """Return the slope of log time over log size."""
    points = [
        (math.log(one.runs), math.log(statistics.median(one.ticks)))
        for one in found
        if one.runs >= 100
    ]
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def _measure(source: Prepared, runs: int, changing: float) -> Measured:
    gc.collect()
    before = resident_mib()
    fleets = [
        Fleet(min(PER_TARGET, runs - first), changing, first)
        for first in range(0, runs, PER_TARGET)
    ]
    ticks, beside = list[float](), list[float]()
    count = 10 if runs < SIZES[-1] else 4
    with opened(source) as (loop, storage):
        for number in range(count):
            source.now += 1
            source.prepare([fleet.page(number) for fleet in fleets])
            if number == 2:  # the first two build up what later ones go on from
                storage.seconds = 0.0
            took = timed(loop)
            if number > 1:
                ticks.append(took)
            if number in (2, count - 1):
                beside.append(source.beside())
        memory = resident_mib() - before - source.size / 2**20
        share = storage.seconds / sum(ticks)
    return Measured(runs, changing, ticks, beside, share, memory)


class _Timed:
    """A store whose transactions are timed."""

    def __init__(self, storage: SqliteStorage) -> None:
        self._commit, self.seconds = storage.commit, 0.0
        storage.commit = self._timed  # type: ignore[method-assign] # to be timed

    def _timed(self, changes: object) -> None:
        began = time.perf_counter()
        self._commit(changes)  # type: ignore[arg-type] # handed on
        self.seconds += time.perf_counter() - began


@contextmanager
def opened(source: Prepared) -> Iterator[tuple[Loop, _Timed]]:
    """Put a sidecar's parts together around a source; yield the loop, and its store."""
    with tempfile.TemporaryDirectory() as folder:
        storage, restored = open_sqlite(str(Path(folder) / "bench.db"))

        def clock() -> float:
            return source.now

        loop = Loop(
            Settings("scrape", source, 1.0, Rules(), 900.0),
            evaluator=Evaluator(storage, restored, source.now),
            broadcaster=VerdictBroadcaster(15.0, clock),
            metrics=SidecarMetrics("1", clock, lambda: 0),
            clock=clock,
        )
        yield loop, _Timed(storage)
        storage.close()


def timed(loop: Loop) -> float:
    """Tick once; return the seconds."""
    began = time.perf_counter()
    asyncio.run(loop.tick())
    return time.perf_counter() - began
