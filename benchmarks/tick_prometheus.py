"""The sidecar's tick over a Prometheus' answer on many runs, beside the fastest JSON decoder."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from importlib import import_module
from typing import TYPE_CHECKING

from benchmarks.pages import Fleet, answer
from benchmarks.report import Goal, Report
from benchmarks.ticking import (
    COLUMNS,
    PER_TARGET,
    SIZES,
    Measured,
    Prepared,
    common_goals,
    measure_all,
)
from otel_budget.core.observation import Observation
from otel_budget.sources.prometheus import PrometheusSettings, PrometheusSource

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_KIB = 2.0


class Answers(Prepared):
    """Gives the answer that is ready, as the source does once it has arrived."""

    def __init__(self) -> None:
        super().__init__()
        self._body = b""
        settings = PrometheusSettings("http://127.0.0.1", session_limit=1_000_000)
        self._prometheus = PrometheusSource(settings, lambda: self.now)
        # Not an import statement: the static checks run without the bench extra.
        self._decode: Callable[[bytes], object] = import_module("orjson").loads

    def prepare(self, pages: list[bytes]) -> None:
        """Take the pages to make an answer of."""
        self._body = answer(pages, self.now)

    def forget(self) -> None:
        """Let go of the answer."""
        self._body = b""

    @property
    def size(self) -> int:
        """Return the bytes of the answer."""
        return len(self._body)

    def beside(self) -> float:
        """Decode the answer."""
        began = time.perf_counter()
        self._decode(self._body)
        return time.perf_counter() - began

    async def read(self) -> Observation:
        """Take the answer."""
        found, _ = await asyncio.to_thread(self._prometheus.read_answer, self._body, self.now)
        return Observation("prometheus", self.now, tuple(found.sessions), dropped=found.dropped)


def _without_collector(runs: int) -> float:
    """Return the seconds that the decoder takes with the garbage collector off."""
    source = Answers()
    fleets = [Fleet(min(PER_TARGET, runs - n), 1.0, n) for n in range(0, runs, PER_TARGET)]
    source.prepare([fleet.page(1) for fleet in fleets])
    gc.disable()
    try:
        return statistics.median(source.beside() for _ in range(3))
    finally:
        gc.enable()


def _goals(largest: list[Measured]) -> list[Goal]:
    times = [
        Goal(f"tick over {one.runs:,} runs, {one.changing:.0%} changing, of orjson alone",
             one.ratio, 2.0)
        for one in largest
    ]  # fmt: skip
    return times + [
        Goal(f"KiB a run, {one.runs:,} runs, {one.changing:.0%} changing",
             one.memory * 1024 / one.runs, _MOST_KIB, 1)
        for one in largest
    ]  # fmt: skip


def run(*, quick: bool) -> Report:
    """Measure ticks of each size."""
    found = measure_all(Answers, quick=quick)
    most = SIZES[2] if quick else SIZES[-1]
    largest = [one for one in found if one.runs == most]
    quiet = _without_collector(most)
    times = " and ".join(
        f"{statistics.median(one.ticks) / quiet:.1f} times that with {one.changing:.0%} changing"
        for one in largest
    )
    return Report(
        title="The sidecar's tick, through a Prometheus",
        about=(
            "The answer to the sidecar's query, 21 rows a run (the raw series and when each run "
            "was sampled), as Prometheus writes it; the whole tick from the answer that has "
            "arrived to the verdicts that are stored and published. Beside it orjson alone for "
            "the same answer, its garbage collection included, as in any program that decodes it; "
            f"with the collector off, orjson takes {quiet / most * 1e6:.0f} µs a run of "
            f"{most:,}, and a tick {times}. Memory: what the process grew by, beyond the answer in "
            "hand, with all that a tick needs at its height; its parts are in the next table."
        ),
        columns=COLUMNS,
        rows=tuple(one.row for one in found),
        goals=(*_goals(largest), *common_goals(found)),
    )
