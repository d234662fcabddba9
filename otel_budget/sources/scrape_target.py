"""One target of a scrape: asked once, what it shows and what is wrong with that."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from otel_budget.core.observation import Problem
from otel_budget.core.owner_labels import NO_DETAILS, Details
from otel_budget.core.reasons import Reason
from otel_budget.logs.text import one_line
from otel_budget.presets.counting import session_of
from otel_budget.presets.detection import OTEL_BUDGET
from otel_budget.sources.base import TargetError
from otel_budget.sources.exposition import ACCEPT, whole_lines
from otel_budget.sources.foreign_page import ForeignPage, host_port, not_recognised
from otel_budget.sources.http import Access, NobodyThereError
from otel_budget.sources.incremental.scrape_page import ScrapePage
from otel_budget.sources.page_threads import PageCost
from otel_budget.sources.process_turns import TargetTurn
from otel_budget.sources.sample_dates import PageDates
from otel_budget.sources.unmatched import is_own, why_strange

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_budget.core.samples import Assembled
    from otel_budget.presets.model import Preset
    from otel_budget.sources.exposition import PageLimits
    from otel_budget.sources.foreign_page import ForeignReading
    from otel_budget.sources.http import Fetched
    from otel_budget.sources.page_threads import PageThreads
    from otel_budget.sources.process_turns import ProcessTurns

# The log of a scrape is one, in whichever module of it a line is written.
logger = logging.getLogger("otel_budget.sources.scrape")


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """One endpoint."""

    url: str
    access: Access = field(default_factory=Access)
    preset: Preset | None = None
    """How to read what another program shows. None: it is otel-budget, or it is recognised."""
    honor_timestamps: bool = True
    """False: whatever a sample says, it is taken to be of when it was scraped."""
    sessions: Sequence[str] = ()
    """Patterns of session ids that belong to it, see core/bindings.py."""
    recognises: bool = True
    """Whether the program is recognised by its page if there is no preset; False: without one it is
    otel-budget alone."""

    @property
    def key(self) -> str:
        """Return its key: URL and preset, as one page may be read for several programs."""
        if self.preset is not None:
            return f"{self.preset.name} {self.url}"
        return self.url if self.recognises else f"{OTEL_BUDGET.name} {self.url}"


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
    left: bool = False
    """True if its process has ended, and it is one whose runs are over with it."""


class Fetches(Protocol):
    """What asks an address, as a Fetcher does."""

    async def fetch(
        self, url: str, access: Access, *, accept: str, form: Mapping[str, str] | None = None
    ) -> Fetched:
        """Return a good answer. Raises FetchError."""


class Target:
    """A target, with what is known of its pages so far."""

    def __init__(
        self,
        of: ScrapeTarget,
        limits: PageLimits,
        seconds: float,
        turns: ProcessTurns,
        details: Details = NO_DETAILS,
    ) -> None:
        """seconds: processor time that reading one page may take. turns: of all targets. details:
        what of the runs is read.
        """
        self.of = of
        self._turn = TargetTurn(of.url, turns)
        self.is_waiting = False
        """True while it waits for its turn to take the processor."""
        self.cost = PageCost()
        self._page = ScrapePage(of.url, limits, seconds, details)
        """The agents' own."""
        foreign = of.preset is not None or of.recognises
        self._foreign = (
            ForeignPage(of.url, of.preset, limits, seconds, details) if foreign else None
        )
        """Another program's."""
        self._dates = PageDates() if of.honor_timestamps else None
        self._is_defective = False
        """True once an unexpected error was logged with its traceback."""
        self.preset: Preset | None = None
        """By which its last page was read."""
        self.recognised = ""
        """The same in words, and why, if it was found out; it holds until it is another one."""
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
        return self._foreign is not None and self._foreign.may_show

    def shows(self, session_id: str) -> bool:
        """Tell whether a run was on the last page."""
        if self._foreign is not None and self.preset is not None:
            return session_id in self._foreign.runs
        return self._page.shows(session_id)

    async def ask(self, fetcher: Fetches, threads: PageThreads) -> Outcome:
        """Ask it; never raises for what it does. A partial page has runs, and a problem."""
        url = self.of.url
        try:
            self.is_waiting = True
            async with threads.turn(self.cost):
                self.is_waiting = False
                fetched = await fetcher.fetch(url, self.of.access, accept=ACCEPT)
                self._turn.answered(fetched.began_at + fetched.age)
                if fetched.missing:
                    fetched = replace(fetched, body=whole_lines(fetched.body))
                self.is_waiting = True
                return await threads.run(lambda: self._read(fetched), self.cost, len(fetched.body))
        except NobodyThereError as exc:
            self._turn.ended()
            return replace(self._failed(exc.unquoted), left=self._runs_are_over)
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
        if self._foreign is not None:
            self._foreign.failed()
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
        read = None if self._foreign is None else self._foreign.read(fetched)
        self.preset = None if read is None else read.preset
        if read is not None:
            self._note_foreign(outcome, read)
            return self._of_this_process(read.found)
        found = self._page.read(fetched.body, fetched.content_type, fetched.began_at)
        if found.sessions:
            if self._own is None:
                self._own = is_own(fetched.body)
            return found
        seen = not_recognised(fetched.body) if self.of.recognises else ""
        strange = why_strange(fetched.body, found, foreign=self._own is False, seen=seen)
        if strange:
            outcome.strange = (
                f"target {self.of.url} answers, but shows no series of otel-budget: {strange}"
            )
        return found

    def _note_foreign(self, outcome: Outcome, read: ForeignReading) -> None:
        """Note what is to be said of a page that is another program's."""
        url = self.of.url
        said = f"target {url} is read by preset {read.preset.name}: "
        if read.recognised and not self.recognised.startswith(said):  # by whichever metric now
            self.recognised = said + read.recognised
        if read.uncounted:
            outcome.uncounted = f"target {url}: {read.uncounted}"
        if read.unmatched:
            outcome.unmatched = f"target {url}: {read.unmatched}"

    @property
    def _runs_are_over(self) -> bool:
        """True if the runs of its process are over with it, and do not say so themselves.

        Such are those that its program names: it may go on with one in another process, which
        counts from 0. The one run of a server goes on with the server.
        """
        preset = self.of.preset or self.preset
        return self._turn.is_certain and preset is not None and bool(preset.session_labels)

    def _of_this_process(self, found: Assembled) -> Assembled:
        """Return runs as of the process that answers now, if another one answered before."""
        at = self._turn.found_at
        if at is None or not self._runs_are_over:
            return found
        sessions = (
            one._replace(attributes=one.attributes._replace(incarnation_at=at), follows=True)
            for one in found.sessions
        )
        return replace(found, sessions=tuple(sessions))


def own_run(url: str, preset: Preset) -> str | None:
    """Return the run that a program does not name: it is named after its target, and its own."""
    return session_of(preset, {}, host_port(url))


def _partial(target: ScrapeTarget, missing: Sequence[str], waits: str) -> Problem | None:
    if not missing and not waits:
        return None
    why = f"its page is partial: {'; '.join(missing)}" if missing else waits
    said = f"{target.url}: {why}"
    return Problem(target.url, Reason.PARTIAL_DATA, said)
