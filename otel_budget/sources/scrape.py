"""Read ``/metrics`` of many targets at once.

A target that fails in whatever way is a problem in the reading, and costs the others nothing: each
has its own time, and none waits for another to begin.

A target that answers with something that is no agent's is named in the log: in the reading it looks
like an agent that has no run.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from otel_budget.model.reading import Problem, Reading
from otel_budget.model.verdict import Reason
from otel_budget.sources.assemble import Assembled
from otel_budget.sources.fetch import Access, Fetcher, FetchError
from otel_budget.sources.file_sd import FileTargets
from otel_budget.sources.notices import Notices, one_line
from otel_budget.sources.pages import SessionPages
from otel_budget.sources.parse import ACCEPT, ExpositionError, PageLimits, PageReader
from otel_budget.sources.preset import assembled, count, uncounted
from otel_budget.sources.process import process_at
from otel_budget.sources.stamps import Stamps
from otel_budget.sources.strange import declares, is_own, other_names, why_strange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_budget.model.preset import Preset
    from otel_budget.sources.assemble import Sample
    from otel_budget.sources.base import Clock
    from otel_budget.sources.fetch import Fetched

logger = logging.getLogger(__name__)

SOURCE: Final = "scrape"


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """One endpoint."""

    url: str
    access: Access = field(default_factory=Access)
    preset: Preset | None = None
    """How to read what another program shows; None for what otel-budget shows."""
    honor_timestamps: bool = True
    """False: whatever a sample says, it is taken to be of when it was scraped."""

    @property
    def key(self) -> str:
        """Return what tells it apart: one page may be read for several programs."""
        return self.url if self.preset is None else f"{self.preset.name} {self.url}"


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
    page: PageLimits = field(default_factory=PageLimits)
    session_limit: int = 10_000
    """Runs known at one target, all together."""


class ScrapeSource:
    """A source that asks the agents' own endpoints. Its target ids are their URLs."""

    def __init__(self, settings: ScrapeSettings, clock: Clock, wall: Clock = time.time) -> None:
        """Open nothing yet. wall: as of Fetcher."""
        self._settings, self._clock = settings, clock
        self._fetcher = Fetcher(clock, settings.timeout, settings.body_size_limit, wall)
        self._files = FileTargets(settings.file_sd)
        self._discovering = asyncio.Lock()
        self._known: dict[str, ScrapeTarget] = {}
        """Of the last reading, by key."""
        self._turns: dict[str, asyncio.Lock] = {}
        """One request to a target at a time: its pages build upon each other."""
        self._pages: dict[str, SessionPages] = {}
        """Of the agents' own targets, by key."""
        self._readers: dict[str, PageReader] = {}
        """Of those with a preset."""
        self._stamps: dict[str, Stamps] = {}
        """Of those whose timestamps count."""
        self._odd_times: dict[str, str] = {}
        """Target to what, in the present reading, is odd about its timestamps."""
        self._time_notices = Notices(logger, "targets have timestamps that are odd")
        self._strange: dict[str, str] = {}
        """Target to why what it answers, in the present reading, is no agent's."""
        self._defects: set[str] = set()
        """Targets whose unexpected error was logged with its traceback: once for each."""
        self._notices = Notices(logger, "targets answer, but show no series of otel-budget")
        self._uncounted: dict[str, str] = {}
        """Target to what of it, in the present reading, its preset could not count."""
        self._foreign_notices = Notices(logger, "targets show what their preset cannot count")
        self._unmatched: dict[str, str] = {}
        """Target to why it shows, in the present reading, nothing that can be counted."""
        self._counted: set[str] = set()
        """Those of another program that ever showed something that can."""
        self._own: dict[str, bool] = {}
        """Target that ever showed a run to whether it was a page of otel-budget itself, which is
        one without a run, too."""
        self._had_targets = False

    async def read(self) -> Reading:
        """Scrape all targets at once; see Source.read."""
        self._strange, self._uncounted = {}, {}
        self._unmatched, self._odd_times = {}, {}
        targets, problems = await self._discover()
        self._note_targets(targets)
        listed = bool(targets) or not problems
        reading = replace(await self._ask(targets, problems), listed=listed)
        if not self._files.are_listed:
            reading = replace(reading, targets=None)
        self._notices.note(self._strange, logging.WARNING)
        self._foreign_notices.note(self._uncounted, logging.WARNING)
        self._time_notices.note(self._odd_times, logging.WARNING)
        return replace(reading, unmatched={**self._unmatched, **self._strange})

    async def read_run(self, session_id: str) -> Reading | None:
        """Scrape those targets that showed a run last, else those that are new since.

        See Source.read_run.
        """
        targets = self._showing(session_id)
        known = bool(targets)
        if not known:
            before = self._known
            found, _ = await self._discover()
            targets = [target for target in found if target.key not in before]
        if not targets:
            return None
        reading = await self._ask(targets, [], frozenset(target.url for target in targets))
        return reading if known or self._showing(session_id) else None

    def _showing(self, session_id: str) -> list[ScrapeTarget]:
        return [self._known[key] for key, page in self._pages.items() if page.shows(session_id)]

    async def _discover(self) -> tuple[list[ScrapeTarget], list[Problem]]:
        async with self._discovering:
            return await asyncio.to_thread(self._targets)

    reads_runs = True

    async def _ask(
        self,
        targets: Sequence[ScrapeTarget],
        problems: list[Problem],
        asked: frozenset[str] | None = None,
    ) -> Reading:
        outcomes = await asyncio.gather(*(self._outcome(target) for target in targets))
        dropped: Counter[str] = Counter()
        answers: list[Assembled] = []
        for answer, problem in outcomes:
            if problem is not None:
                problems.append(problem)
            if answer is not None:
                answers.append(answer)
                dropped.update(answer.dropped)
        return Reading(
            source=SOURCE,
            read_at=self._clock(),
            sessions=tuple(session for answer in answers for session in answer.sessions),
            problems=tuple(problems),
            dropped=dict(dropped),
            spacing=self._settings.interval,
            session_limit=self._settings.session_limit,
            asked=asked,
            targets=None if asked else frozenset(target.url for target in targets),
            answered=bool(answers) or not problems,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._fetcher.close()

    def _targets(self) -> tuple[list[ScrapeTarget], list[Problem]]:
        """Return every target once; a static one wins, for it has the credentials."""
        urls, problems = self._files.read()
        named = {target.url for target in self._settings.targets}
        targets = {url: ScrapeTarget(url) for url in urls if url not in named}
        targets.update((target.key, target) for target in self._settings.targets)
        limits, seconds = self._settings.page, self._settings.timeout
        self._pages = {
            key: self._pages.get(key) or SessionPages(target.url, limits, seconds)
            for key, target in targets.items()
            if target.preset is None
        }
        self._readers = {
            key: self._readers.get(key) or PageReader(target.preset.counted, limits, seconds)
            for key, target in targets.items()
            if target.preset is not None
        }
        self._stamps = {
            key: self._stamps.get(key) or Stamps()
            for key, target in targets.items()
            if target.honor_timestamps
        }
        self._known = targets
        self._turns = {key: self._turns.get(key) or asyncio.Lock() for key in targets}
        self._defects &= {target.url for target in targets.values()}
        self._counted &= targets.keys()
        self._own = {key: own for key, own in self._own.items() if key in targets}
        return list(targets.values()), problems

    async def _outcome(self, target: ScrapeTarget) -> tuple[Assembled | None, Problem | None]:
        """Return what a target shows, and what is wrong with it: a partial page has both."""
        try:
            async with self._turns[target.key]:
                fetched = await self._fetcher.fetch(target.url, target.access, accept=ACCEPT)
                if fetched.missing:
                    fetched = _whole_lines(fetched)
                found, waits = await asyncio.to_thread(self._dated, target, fetched)
            return found, _partial(target, fetched.missing, waits)
        except (FetchError, ExpositionError) as exc:
            return None, Problem(target.url, Reason.SOURCE_ERROR, f"{target.url}: {exc.unquoted}")
        except Exception as exc:
            # A defect of ours that one target's answer brings to light; the others' count on.
            if target.url not in self._defects:
                logger.exception("target %s could not be read", target.url)
            self._defects.add(target.url)
            what = one_line(f"{type(exc).__name__}: {exc}")
            return None, Problem(target.url, Reason.SOURCE_ERROR, f"{target.url}: {what}")

    def _dated(self, target: ScrapeTarget, fetched: Fetched) -> tuple[Assembled, str]:
        """Return what a page shows, with its dates, and why it shows nothing yet."""
        found = self._assemble(target, fetched)
        stamps = self._stamps.get(target.key)
        if stamps is None:
            return found, ""
        stamped = stamps.take(found, fetched)
        if stamped.odd:
            self._odd_times[target.key] = f"target {target.url}: {'; '.join(stamped.odd)}"
        return stamped.found, stamped.waits

    def _assemble(self, target: ScrapeTarget, fetched: Fetched) -> Assembled:
        if target.preset is not None:
            samples = self._readers[target.key].read(fetched.body, fetched.content_type)
            return self._foreign(target, target.preset, samples, fetched)
        pages = self._pages[target.key]
        found = pages.read(fetched.body, fetched.content_type, fetched.began_at)
        if found.sessions:
            if target.key not in self._own:
                self._own[target.key] = is_own(fetched.body)
            return found
        foreign = not self._own.get(target.key, True)
        strange = why_strange(fetched.body, found, foreign=foreign)
        if strange:
            self._note_strange(target, strange)
        return found

    def _foreign(
        self, target: ScrapeTarget, preset: Preset, samples: Sequence[Sample], fetched: Fetched
    ) -> Assembled:
        counted = count(preset, samples, place_of(target.url))
        why = uncounted(counted)
        if counted.sessions:
            self._counted.add(target.key)
        elif not declares(fetched.body, preset.recognised_by):
            why = why or other_names(fetched.body, f"preset {preset.name}", preset.counted)
            why = why or f"its page has nothing that preset {preset.name} counts"
            if target.key not in self._counted:  # else it began anew, and was not used since
                self._unmatched[target.key] = f"target {target.url}: {one_line(why)}"
        if why:
            self._uncounted[target.key] = f"target {target.url}: {one_line(why)}"
        return assembled(counted, target.url, fetched.began_at, process_at(target.url))

    def _note_targets(self, targets: Sequence[ScrapeTarget]) -> None:
        """Note that there never was a target; later on there may be none because no run is on."""
        self._had_targets = self._had_targets or bool(targets)
        if not self._had_targets:
            patterns = ", ".join(self._settings.file_sd)
            why = (
                f"there is nothing to scrape: no file of file_sd ({patterns}) lists a target: is "
                "that where serve_metrics(register=...) writes its entries?"
            )
            # Where there is no file, that is said already.
            noted = self._strange if self._files.are_there else self._unmatched
            noted[""] = why

    def _note_strange(self, target: ScrapeTarget, why: str) -> None:
        self._strange[target.url] = (
            f"target {target.url} answers, but shows no series of otel-budget: {why}"
        )


def place_of(url: str) -> str:
    """Return host and port of a target, to name a session after."""
    return urlsplit(url).netloc


def _partial(target: ScrapeTarget, missing: Sequence[str], waits: str) -> Problem | None:
    if not missing and not waits:
        return None
    why = f"its page is partial: {'; '.join(missing)}" if missing else waits
    said = f"{target.url}: {why}"
    return Problem(target.url, Reason.PARTIAL_DATA, said)


def _whole_lines(fetched: Fetched) -> Fetched:
    """Return a partial page without the line it may be cut in: half a number is a wrong one."""
    until = fetched.body.rfind(b"\n") + 1
    return dataclasses.replace(fetched, body=fetched.body[:until])
