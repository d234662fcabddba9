"""The sidecar's tick over pages of many runs, beside the parser alone, and how it grows."""

from __future__ import annotations

import asyncio
import time

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.report import Goal, Report
from benchmarks.ticking import COLUMNS, PER_TARGET, Prepared, common_goals, measure_all
from otel_budget.core.observation import Observation
from otel_budget.sources.exposition import PageLimits
from otel_budget.sources.incremental.scrape_page import ScrapePage

_LIMITS = PageLimits(samples=1_000_000)


class _Source(Prepared):
    """Gives the page that is ready of each target, as the scrape does once it has arrived."""

    def __init__(self) -> None:
        super().__init__()
        self._bodies: list[bytes] = []
        self._pages: list[ScrapePage] = []

    def prepare(self, pages: list[bytes]) -> None:
        self._bodies = pages

    @property
    def size(self) -> int:
        return sum(map(len, self._bodies))

    def beside(self) -> float:
        texts = [body.decode() for body in self._bodies]
        began = time.perf_counter()
        for text in texts:
            for _family in text_string_to_metric_families(text):
                pass
        return time.perf_counter() - began

    async def read(self) -> Observation:
        while len(self._pages) < len(self._bodies):
            self._pages.append(ScrapePage(f"http://{len(self._pages)}/metrics", _LIMITS, 3600.0))
        found = [
            await asyncio.to_thread(pages.read, body, "text/plain", self.now)
            for pages, body in zip(self._pages, self._bodies, strict=True)
        ]
        sessions = tuple(session for page in found for session in page.sessions)
        return Observation("scrape", self.now, sessions)


def run(*, quick: bool) -> Report:
    """Measure ticks of each size."""
    found = measure_all(_Source, quick=quick)
    goals = tuple(
        Goal(f"tick over 10,000 runs, {one.changing:.0%} changing, of the parser", one.ratio, 0.5)
        for one in found
        if one.runs == PER_TARGET
    )
    return Report(
        title="The sidecar's tick, scraping",
        about=(
            "Pages of 22 samples a run, at most 10,000 runs to a target, every run alive; the "
            "whole tick from the page that has arrived to the verdicts that are stored and "
            "published. Beside it prometheus_client.parser alone for the same text. Memory: what "
            "the process grew by, beyond the pages in hand. The exponent is that of the line "
            "through all sizes from 100 on, both axes logarithmic."
        ),
        columns=COLUMNS,
        rows=tuple(one.row for one in found),
        goals=(*goals, *common_goals(found)),
    )
