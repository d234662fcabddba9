"""One target of a scrape: asked once, what it shows and what is wrong with that."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from otel_budget.core.observation import Problem
from otel_budget.core.reasons import Reason
from otel_budget.logs.text import one_line
from otel_budget.presets.counting import assembled, count, session_of, uncounted
from otel_budget.sources.base import TargetError
from otel_budget.sources.exposition import ACCEPT, PageReader, whole_lines
from otel_budget.sources.http import Access
from otel_budget.sources.incremental.scrape_page import ScrapePage
from otel_budget.sources.page_threads import PageCost
from otel_budget.sources.sample_dates import PageDates
from otel_budget.sources.target_process import process_at
from otel_budget.sources.unmatched import declares, is_own, other_names, why_strange

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_budget.core.samples import Assembled
    from otel_budget.presets.model import Preset
    from otel_budget.sources.exposition import PageLimits
    from otel_budget.sources.http import Fetched
    from otel_budget.sources.page_threads import PageThreads

# The log of a scrape is one, in whichever module of it a line is written.
logger = logging.getLogger("otel_budget.sources.scrape")


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """One endpoint."""

    url: str
    access: Access = field(default_factory=Access)
    preset: Preset | None = None
    """How to read what another program shows; None for what otel-budget shows."""
    honor_timestamps: bool = True
    """False: whatever a sample says, it is taken to be of when it was scraped."""
    sessions: Sequence[str] = ()
    """Patterns of session ids that belong to it, see core/bindings.py."""

    @property
    def key(self) -> str:
        """Return its key: URL and preset, as one page may be read for several programs."""
        return self.url if self.preset is None else f"{self.preset.name} {self.url}"


@dataclass(slots=True)
class Outcome:
    """What came of asking a target once."""

    found: Assembled | None = None
    problem: Problem | None = None
    odd_times: str = ""
    """What is odd about its timestamps. Each of these is for people, and empty if there is none."""
    strange: str = ""
    """Why what it answers is no agent's."""
    uncounted: str = ""
    """What of it its preset could not count."""
    unmatched: str = ""
    """Why it shows nothing that can be counted."""


class Fetches(Protocol):
    """What asks an address, as a Fetcher does."""

    async def fetch(
        self, url: str, access: Access, *, accept: str, form: Mapping[str, str] | None = None
    ) -> Fetched:
        """Return a good answer. Raises FetchError."""


class Target:
    """A target, with what is known of its pages so far."""

    def __init__(self, of: ScrapeTarget, limits: PageLimits, seconds: float) -> None:
        """seconds: processor time that reading one page may take."""
        self.of = of
        self.is_waiting = False
        """True while it waits for its turn to take the processor."""
        self.cost = PageCost()
        self._page = ScrapePage(of.url, limits, seconds)
        """The agents' own."""
        self._reader = PageReader(() if of.preset is None else of.preset.counted, limits, seconds)
        """Of another program's."""
        self._dates = PageDates() if of.honor_timestamps else None
        self._is_defective = False
        """True once an unexpected error was logged with its traceback."""
        self._counted = False
        """For a preset: whether it ever showed something that can be counted."""
        self._foreign_runs: frozenset[str] = frozenset()
        """The runs of another program that were on the last page."""
        self._own: bool | None = None
        """Once it showed a run: whether it was a page of otel-budget itself, which is one without a
        run, too."""

    @property
    def waits_for(self) -> str:
        """Return why its page waits to be parsed, if it does."""
        if not self.cost.is_high:
            return "this sidecar gets too little processor time for all of its targets"
        return (
            "pages that take long to parse are parsed one at a time, and its last one took "
            f"{self.cost.last:.2f} s"
        )

    @property
    def may_begin_runs(self) -> bool:
        """True if a run may be on its page that no nudge of its own has told of: another program's,
        which nudges nobody and may begin one at any moment.
        """
        return self.of.preset is not None

    def shows(self, session_id: str) -> bool:
        """Tell whether a run was on the last page."""
        return session_id in self._foreign_runs or self._page.shows(session_id)

    async def ask(self, fetcher: Fetches, threads: PageThreads) -> Outcome:
        """Ask it; never raises for what it does. A partial page has runs, and a problem."""
        url = self.of.url
        try:
            self.is_waiting = True
            async with threads.turn(self.cost):
                self.is_waiting = False
                fetched = await fetcher.fetch(url, self.of.access, accept=ACCEPT)
                if fetched.missing:
                    fetched = dataclasses.replace(fetched, body=whole_lines(fetched.body))
                self.is_waiting = True
                return await threads.run(lambda: self._read(fetched), self.cost, len(fetched.body))
        except TargetError as exc:
            return self._failed(exc.unquoted)
        except Exception as exc:
            # A defect of ours that one target's answer brings to light; the others' count on.
            if not self._is_defective:
                logger.exception("target %s could not be read", url)
            self._is_defective = True
            return self._failed(one_line(f"{type(exc).__name__}: {exc}"))
        finally:
            self.is_waiting = False

    def _failed(self, why: str) -> Outcome:
        url = self.of.url
        return Outcome(problem=Problem(url, Reason.SOURCE_ERROR, f"{url}: {why}"))

    def _read(self, fetched: Fetched) -> Outcome:
        """Return what a page shows, with its dates, and why it shows nothing yet."""
        outcome = Outcome()
        found, waits = self._assemble(fetched, outcome), ""
        if self._dates is not None:
            stamped = self._dates.date(found, fetched)
            found, waits = stamped.found, stamped.waits
            if stamped.odd:
                outcome.odd_times = f"target {self.of.url}: {'; '.join(stamped.odd)}"
        outcome.found = found
        outcome.problem = _partial(self.of, fetched.missing, waits)
        return outcome

    def _assemble(self, fetched: Fetched, outcome: Outcome) -> Assembled:
        if self.of.preset is not None:
            return self._foreign(self.of.preset, fetched, outcome)
        found = self._page.read(fetched.body, fetched.content_type, fetched.began_at)
        if found.sessions:
            if self._own is None:
                self._own = is_own(fetched.body)
            return found
        strange = why_strange(fetched.body, found, foreign=self._own is False)
        if strange:
            outcome.strange = (
                f"target {self.of.url} answers, but shows no series of otel-budget: {strange}"
            )
        return found

    def _foreign(self, preset: Preset, fetched: Fetched, outcome: Outcome) -> Assembled:
        url = self.of.url
        samples = self._reader.read(fetched.body, fetched.content_type)
        counted = count(preset, samples, host_port(url))
        self._foreign_runs = frozenset(session.session_id for session in counted.sessions)
        why = uncounted(counted)
        if counted.sessions:
            self._counted = True
        elif not declares(fetched.body, preset.recognised_by):
            why = why or other_names(fetched.body, f"preset {preset.name}", preset.counted)
            why = why or f"its page has nothing that preset {preset.name} counts"
            if not self._counted:  # else it restarted, and was not used since
                outcome.unmatched = f"target {url}: {one_line(why)}"
        if why:
            outcome.uncounted = f"target {url}: {one_line(why)}"
        return assembled(counted, url, fetched.began_at, process_at(url))


def bound_to(target: ScrapeTarget) -> Sequence[str]:
    """Return the patterns of session ids that belong to a target.

    A run that its program does not name is named after the target, and its own.
    """
    if target.preset is None:
        return target.sessions
    unnamed = session_of(target.preset, {}, host_port(target.url))
    return (*target.sessions, *([unnamed] if unnamed else ()))


def host_port(url: str) -> str:
    """Return host and port of a target, to name a run after."""
    return urlsplit(url).netloc


def _partial(target: ScrapeTarget, missing: Sequence[str], waits: str) -> Problem | None:
    if not missing and not waits:
        return None
    why = f"its page is partial: {'; '.join(missing)}" if missing else waits
    said = f"{target.url}: {why}"
    return Problem(target.url, Reason.PARTIAL_DATA, said)
