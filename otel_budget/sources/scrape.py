"""Read ``/metrics`` of many targets at once.

A target that fails in any way is a problem in the observation, and costs the others nothing: each
has its own time, and none waits for another. A read ends once the targets that answer at once have
done so; the others keep what was last known of them, and what they show follows when it arrives.

A target that answers with something other than an agent's page is named in the log: in the
observation it looks like an agent without a run.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from otel_budget.core.observation import Observation, Problem
from otel_budget.core.owner_labels import NO_DETAILS, Details
from otel_budget.core.reasons import Reason
from otel_budget.logs.once import OncePerSubject
from otel_budget.sources.exposition import PageLimits
from otel_budget.sources.file_sd import FileSdListing
from otel_budget.sources.http import Fetcher
from otel_budget.sources.page_threads import PageThreads
from otel_budget.sources.process_turns import ProcessTurns
from otel_budget.sources.scheduler import Rests, Round, Scheduler
from otel_budget.sources.scrape_target import Outcome, ScrapeTarget, Target, own_run
from otel_budget.sources.target_bindings import ScrapeBindings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from otel_budget.presets.model import Preset
    from otel_budget.sources.base import Clock

logger = logging.getLogger(__name__)

SOURCE: Final = "scrape"
#: Shares of the interval: once no target answers for so long, the others are not waited for; the
#: same for those that answer after the read.
_QUIET, _QUIET_LATE = 0.05, 0.2


@dataclass(frozen=True, slots=True)
class ScrapeSettings:
    """What to scrape, and how much of it to put up with."""

    targets: Sequence[ScrapeTarget] = ()
    file_sd: Sequence[str] = ()
    """Patterns of files in Prometheus' ``file_sd`` format."""
    presets: Mapping[str, Preset | None] = field(default_factory=dict)
    """Those that such a file may name, by name; None: otel-budget."""
    file_sd_preset: Preset | None = None
    """Of targets in these files that name none; None: as in ScrapeTarget."""
    recognises: bool = True
    """Of the targets in these files, as in ScrapeTarget."""
    interval: float = 1.0
    """Seconds between two reads; the caller keeps it, as a source has no timer."""
    timeout: float = 1.0
    """Seconds one scrape may take, and seconds of processor time its answer may take to parse."""
    body_size_limit: int = 50_000_000
    """Bytes per target, packed and unpacked."""
    page: PageLimits = field(default_factory=PageLimits)
    session_limit: int = 10_000
    """Runs known at one target, all together."""
    first_owns: bool = False
    """As in core/bindings.py."""
    details: Details = NO_DETAILS
    """What of the runs is read."""


class ScrapeSource:
    """A source that asks the agents' own endpoints. Target ids are their URLs."""

    def __init__(self, settings: ScrapeSettings, clock: Clock, wall: Clock = time.time) -> None:
        """wall: as in Fetcher."""
        self._settings, self._clock = settings, clock
        self._fetcher = Fetcher(clock, settings.timeout, settings.body_size_limit, wall)
        self._threads = PageThreads()
        self._listing = FileSdListing(settings.file_sd, settings.interval, settings.presets)
        self._known: dict[str, Target] = {}
        """Of the newest list, by key."""
        self._process_turns = ProcessTurns()
        self._turns = Scheduler(self._call, self._answered, rests=Rests(most=settings.interval))
        """One request to a target at a time: its pages build upon each other."""
        self._outcomes: dict[str, Outcome] = {}
        """Key to what came of asking it last."""
        self._fresh: set[str] = set()
        """Those that answered since the last observation of all."""
        self._unreported: set[str] = set()
        """Those of them whose answer is in no observation yet."""
        self._round = Round(())
        self._odd_times = OncePerSubject(logger, "targets have odd timestamps")
        self._strange = OncePerSubject(logger, "targets answer, but show no series of otel-budget")
        self._uncounted = OncePerSubject(logger, "targets show what their preset cannot count")
        self._recognised = OncePerSubject(logger, "targets are read by presets")
        self._had_targets = False
        self._named = _exclusive(settings.targets)
        bound = [(target.url, target.sessions) for target in settings.targets]
        own = _own_runs((target.url, target.preset) for target in settings.targets)
        self._bound = ScrapeBindings(bound, own, first_owns=settings.first_owns)

    reads_runs = True

    async def read(self) -> Observation:
        """Scrape all targets at once; see Source.read."""
        loop = asyncio.get_running_loop()
        until = loop.time() + max(self._settings.interval, self._settings.timeout)
        problems = await self._list_targets(until)
        self._round = asked = Round(self._known)
        # A new one is waited for: nothing is known yet that could be used in its place.
        new = [key for key in self._known if key not in self._outcomes and self._turns.begin(key)]
        for key in self._known:
            self._turns.begin(key)
        await asked.settle(_QUIET * self._settings.interval, until, new)
        return self._observe_all(problems)

    async def read_late(self) -> Observation | None:
        """Wait for those that had not answered when the last read ended; see Source."""
        loop = asyncio.get_running_loop()
        interval = self._settings.interval
        self._round = late = Round(self._round.left)
        await late.settle(_QUIET_LATE * interval, loop.time() + interval)
        return self._observe_some(self._unreported) if self._unreported else None

    async def read_run(self, session_id: str) -> Observation | None:
        """Scrape those targets that showed a run last, else those that are new since.

        And of those that were there, other programs': they begin runs without telling anybody. See
        Source.read_run.
        """
        keys = self._showing(session_id)
        known = bool(keys)
        if not known:
            before = self._known
            await self._listing.read_again(self._settings.timeout)
            self._update_list()
            keys = [k for k, t in self._known.items() if k not in before or t.may_begin_runs]
        if not keys:
            return None
        answers = [self._turns.next(key) for key in keys]
        # Once for the call that is on now, and once for the one that begins then.
        await asyncio.wait(answers, timeout=2 * self._settings.timeout)
        if not known and not self._showing(session_id):
            return None
        answered = [k for k, a in zip(keys, answers, strict=True) if a.done() and not a.cancelled()]
        return self._observe_some([key for key in answered if key in self._outcomes])

    async def close(self) -> None:
        """Close all connections, and let go of the threads."""
        await self._turns.close()
        await self._listing.close()
        self._threads.close()
        await self._fetcher.close()

    def _showing(self, session_id: str) -> list[str]:
        """Return the targets that show a run, and may."""
        showing = [(k, t.of.url) for k, t in self._known.items() if t.shows(session_id)]
        refusing = self._bound.bindings.refusing
        return [key for key, url in showing if refusing(session_id, url) is None]

    async def _call(self, key: str) -> Outcome:
        return await self._known[key].ask(self._fetcher, self._threads)

    def _answered(self, key: str, outcome: Outcome) -> None:
        self._outcomes[key] = outcome
        self._fresh.add(key)
        self._unreported.add(key)
        self._round.answered(key)

    async def _list_targets(self, until: float) -> list[Problem]:
        """Read the lists of targets; return what is wrong with them."""
        problems = await self._listing.read(until)
        self._update_list()
        return problems

    def _update_list(self) -> None:
        """Take over the newest list: the targets, and which of them may speak for which run."""
        self._update_targets()
        urls = [target.of.url for target in self._known.values()]
        presets = ((target.of.url, target.preset) for target in self._known.values())
        self._bound.update(self._listing.bound, urls, _own_runs(presets))

    def _update_targets(self) -> None:
        """Take over every target once; a configured one wins, because it has the credentials."""
        named = {target.url for target in self._named}
        listed = [self._listed(url) for url in self._listing.urls if url not in named]
        targets = {target.key: target for target in (*listed, *self._named)}
        if targets.keys() == self._known.keys():
            return
        limits, seconds = self._settings.page, self._settings.timeout
        self._known = {
            key: self._known.get(key)
            or Target(target, limits, seconds, self._process_turns, self._settings.details)
            for key, target in targets.items()
        }
        self._outcomes = {key: one for key, one in self._outcomes.items() if key in targets}
        self._fresh &= targets.keys()
        self._unreported &= targets.keys()
        self._turns.keep(targets.keys())
        self._process_turns.keep([target.url for target in targets.values()])

    def _listed(self, url: str) -> ScrapeTarget:
        """Return a target of a list of targets."""
        chosen = self._listing.presets.get(url)
        if chosen is None:
            of_all = self._settings
            return ScrapeTarget(url, preset=of_all.file_sd_preset, recognises=of_all.recognises)
        return ScrapeTarget(url, preset=self._settings.presets[chosen], recognises=False)

    def _observe_all(self, problems: list[Problem]) -> Observation:
        """Return the observation of all targets; those without an answer keep what is known."""
        known = self._known
        listed = bool(known) or not problems
        late = known.keys() - self._fresh
        problems += [problem for key in late if (problem := self._problem_of_late(key)) is not None]
        observation = self._observation(self._fresh, problems)
        for key in self._fresh:  # what it showed is accounted for then; what is wrong stays known
            self._outcomes[key] = replace(self._outcomes[key], found=None)
        self._fresh.clear()
        strange, unmatched = self._log_odd()
        unmatched.update(self._bound.note(observation))
        urls = frozenset(target.of.url for target in known.values())
        return replace(
            observation,
            targets=urls if self._listing.is_whole else None,
            pending=frozenset(known[key].of.url for key in late),
            unmatched={**unmatched, **strange},
            listed=listed,
        )

    def _observe_some(self, keys: Collection[str]) -> Observation:
        """Return what these targets have answered, and nothing of the others."""
        asked = frozenset(self._known[key].of.url for key in keys)
        return replace(self._observation(keys, []), asked=asked)

    def _problem_of_late(self, key: str) -> Problem | None:
        """Return what is wrong with a target that has not answered this read."""
        target, before = self._known[key], self._outcomes.get(key)
        url, age = target.of.url, self._turns.age(key)
        if target.is_waiting and age >= self._settings.interval:
            why = f"its page waits to be parsed: {target.waits_for}"
        elif before is not None:
            return before.problem
        else:
            why = f"no complete answer within {self._settings.timeout:g} s"
        return Problem(url, Reason.SOURCE_ERROR, f"{url}: {why}")

    def _observation(self, keys: Collection[str], problems: list[Problem]) -> Observation:
        """Return what these targets answered last, with problems that are known beside that."""
        dropped: Counter[str] = Counter()
        answers = []
        for key in keys:
            outcome = self._outcomes[key]
            if outcome.problem is not None:
                problems.append(outcome.problem)
            if outcome.found is not None:
                answers.append(outcome.found)
                if key in self._unreported:
                    dropped.update(outcome.found.dropped)
        self._unreported.difference_update(keys)
        return Observation(
            source=SOURCE,
            read_at=self._clock(),
            sessions=tuple(session for answer in answers for session in answer.sessions),
            problems=tuple(problems),
            dropped=dict(dropped),
            spacing=self._settings.interval,
            least_spacing=self._settings.interval,
            session_limit=self._settings.session_limit,
            answered=bool(answers) or not problems,
            bindings=self._bound.bindings,
            left=self._left(keys),
        )

    def _left(self, keys: Collection[str]) -> frozenset[str]:
        """Return the targets whose process has ended, whoever's page it was."""
        left = {self._known[key].of.url for key in keys if self._outcomes[key].left}
        if left:
            others = (key for key, outcome in self._outcomes.items() if not outcome.left)
            left.difference_update([self._known[key].of.url for key in others])
        return frozenset(left)

    def _log_odd(self) -> tuple[dict[str, str], dict[str, str]]:
        """Say what is odd about targets; return who is strange, and who shows nothing to count."""
        kinds = ("strange", "unmatched", "uncounted", "odd_times")
        strange, unmatched, uncounted, odd = (
            {
                self._known[key].of.url if kind == "strange" else key: words
                for key, outcome in self._outcomes.items()
                if (words := getattr(outcome, kind))
            }
            for kind in kinds
        )
        self._note_without_targets(strange, unmatched)
        self._strange.note(strange, logging.WARNING)
        self._uncounted.note(uncounted, logging.WARNING)
        self._odd_times.note(odd, logging.WARNING)
        recognised = {key: said for key, t in self._known.items() if (said := t.recognised)}
        self._recognised.note(recognised, logging.INFO)
        return strange, unmatched

    def _note_without_targets(self, strange: dict[str, str], unmatched: dict[str, str]) -> None:
        """Note that there never was a target; later on there may be none because no run is on."""
        self._had_targets = self._had_targets or bool(self._known)
        if not self._had_targets:
            patterns = ", ".join(self._settings.file_sd)
            why = (
                f"nothing to scrape: no file of file_sd ({patterns}) lists a target; is that where "
                "serve_metrics(register=...) writes its entries?"
            )
            # Where there is no file, that is said already.
            noted = strange if self._listing.are_there else unmatched
            noted[""] = why


def _own_runs(
    presets: Iterable[tuple[str, Preset | None]],
) -> list[tuple[str, tuple[str, ...]]]:
    """Return the runs that are named after their target. presets: by which each URL is read."""
    named = ((url, own_run(url, preset)) for url, preset in presets if preset is not None)
    return [(url, (run,)) for url, run in named if run]


def _exclusive(targets: Sequence[ScrapeTarget]) -> tuple[ScrapeTarget, ...]:
    """Return targets: of a page that is read by a preset, one without is for otel-budget alone."""
    chosen = {target.url for target in targets if target.preset is not None}
    return tuple(replace(t, recognises=t.recognises and t.url not in chosen) for t in targets)
