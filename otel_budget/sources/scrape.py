"""Read ``/metrics`` of many targets at once.

A target that fails in whatever way is a problem in the reading, and costs the others nothing: each
has its own time, and none waits for another to begin.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from otel_budget.model.reading import Problem, Reading
from otel_budget.model.verdict import Reason
from otel_budget.sources.assemble import NEEDED, Assembled, assemble
from otel_budget.sources.fetch import Access, Fetcher, FetchError
from otel_budget.sources.file_sd import FileTargets
from otel_budget.sources.parse import ACCEPT, ExpositionError, PageReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_budget.sources.base import Clock
    from otel_budget.sources.fetch import Fetched

SOURCE: Final = "scrape"


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """One endpoint."""

    url: str
    access: Access = field(default_factory=Access)


@dataclass(frozen=True, slots=True)
class ScrapeSettings:
    """What to scrape, and how much of it to put up with."""

    targets: Sequence[ScrapeTarget] = ()
    file_sd: Sequence[str] = ()
    """Patterns of files in Prometheus' ``file_sd`` format."""
    interval: float = 1.0
    """Seconds between two reads, as whoever reads keeps it: this source has no timer."""
    timeout: float = 1.0
    """Seconds one scrape may take, and seconds of processor time its answer may take to parse."""
    body_size_limit: int = 50_000_000
    """Bytes per target, packed and unpacked."""
    sample_limit: int = 500_000
    """Samples per target."""


class ScrapeSource:
    """A source that asks the agents' own endpoints. Its target ids are their URLs."""

    def __init__(self, settings: ScrapeSettings, clock: Clock) -> None:
        """Open nothing yet."""
        self._settings, self._clock = settings, clock
        self._fetcher = Fetcher(clock, settings.timeout, settings.body_size_limit)
        self._files = FileTargets(settings.file_sd)
        self._readers: dict[str, PageReader] = {}

    async def read(self) -> Reading:
        """Scrape all targets at once; see Source.read."""
        targets, problems = await asyncio.to_thread(self._targets)
        outcomes = await asyncio.gather(*(self._outcome(target) for target in targets))
        dropped: Counter[str] = Counter()
        found: list[Assembled] = []
        for outcome in outcomes:
            if isinstance(outcome, Problem):
                problems.append(outcome)
            else:
                found.append(outcome)
                dropped.update(outcome.dropped)
        return Reading(
            source=SOURCE,
            read_at=self._clock(),
            sessions=tuple(session for assembled in found for session in assembled.sessions),
            problems=tuple(problems),
            dropped=dict(dropped),
            spacing=self._settings.interval,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._fetcher.close()

    def _targets(self) -> tuple[list[ScrapeTarget], list[Problem]]:
        """Return every target once; a static one wins, for it has the credentials."""
        urls, problems = self._files.read()
        by_url = {url: ScrapeTarget(url) for url in urls}
        by_url.update((target.url, target) for target in self._settings.targets)
        limit, seconds = self._settings.sample_limit, self._settings.timeout
        self._readers = {
            url: self._readers.get(url) or PageReader(NEEDED, limit, seconds) for url in by_url
        }
        return list(by_url.values()), problems

    async def _outcome(self, target: ScrapeTarget) -> Assembled | Problem:
        try:
            fetched = await self._fetcher.fetch(target.url, target.access, accept=ACCEPT)
            return await asyncio.to_thread(self._assemble, target, fetched)
        except (FetchError, ExpositionError) as exc:
            return Problem(target.url, Reason.SOURCE_ERROR, f"{target.url}: {exc}")

    def _assemble(self, target: ScrapeTarget, fetched: Fetched) -> Assembled:
        samples = self._readers[target.url].read(fetched.body, fetched.content_type)
        return assemble(samples, target.url, fetched.began_at)
