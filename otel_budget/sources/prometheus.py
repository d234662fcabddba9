"""Read runs from a server that speaks the Prometheus query API.

One query per read asks for everything, so that it comes from one server and one moment:
- the raw series. The server sums nothing: that would hide resets, ages and what is missing;
- when each judged series was last sampled, marked by an extra label. A server gives a series as
  current for minutes after its target went away, so the age comes from here and never from the
  value's timestamp;
- ``up``, which the server keeps of each of its targets: one that was taken away has none any more.

Ages are differences on the server's clock, so they hold whatever that clock shows. A sample that
would lie in the future is taken to be of the moment it was asked for.
"""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.observation import Problem, plain_target
from otel_budget.core.owner_labels import NO_DETAILS, Details
from otel_budget.core.reasons import Reason
from otel_budget.logs.once import OncePerSubject
from otel_budget.logs.text import one_line
from otel_budget.runtime.workers import Workers
from otel_budget.sources.faulty_targets import FaultyTargets, without
from otel_budget.sources.http import Access, Fetcher, FetchError, RefusedError, SlowError
from otel_budget.sources.incremental.prometheus_answer import PrometheusAnswer
from otel_budget.sources.prometheus_api import AnswerError, QueryRefusedError, parse_answer
from otel_budget.sources.prometheus_reading import PrometheusReading
from otel_budget.sources.prometheus_vector import places_query, sizes_query, whole_query
from otel_budget.sources.target_bindings import UnmatchedBindings, others_only
from otel_budget.sources.unmatched import UnmatchedQuery

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_budget.core.observation import Observation, RunObservation
    from otel_budget.presets.model import Preset
    from otel_budget.sources.base import Clock
    from otel_budget.sources.faulty_targets import LeftOut
    from otel_budget.sources.incremental.prometheus_answer import Taken
    from otel_budget.sources.prometheus_api import Point
    from otel_budget.sources.prometheus_vector import Found

logger = logging.getLogger(__name__)

#: Seconds for which a read waits for why nothing matches; else the next one says it.
_LOOK_SECONDS: Final = 1.0
#: How the answer to a query begins that is refused with HTTP 200.
_ERROR: Final = re.compile(rb'\s*\{\s*"status"\s*:\s*"error"')


@dataclass(frozen=True, slots=True)
class PrometheusSettings:
    """Which server to ask, and for what."""

    url: str
    """Of the server, with its path prefix if it has one."""
    interval: float = 5.0
    """Seconds between two reads; the caller keeps it, as a source has no timer."""
    timeout: float = 10.0
    """Seconds one query may take."""
    matchers: Sequence[str] = ()
    """Label matchers in PromQL, such as ``job="agents"``; only what matches all of them is seen."""
    access: Access = field(default_factory=Access)
    session_limit: int = 10_000
    """Runs known at one target, all together."""
    body_size_limit: int = 200_000_000
    """Bytes per answer, packed and unpacked; a run of our own takes some 5,500 of it."""
    preset: Preset | None = None
    """How to read what other programs export; None for what otel-budget exports."""
    replica_labels: Sequence[str] = semconv.REPLICA_LABELS
    """Labels that tell the replicas of a server apart: series that differ in them alone are copies
    of each other."""
    bindings: Sequence[tuple[Sequence[str], Sequence[str]]] = ()
    """Patterns of session ids, and matchers of the labels of the targets they belong to."""
    first_owns: bool = False
    """As in core/bindings.py."""
    details: Details = NO_DETAILS
    """What of the runs is read."""


class PrometheusSource:
    """A source that asks a Prometheus-compatible server. Target ids: see prometheus_vector.py."""

    def __init__(self, settings: PrometheusSettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._fetcher = Fetcher(clock, settings.timeout, settings.body_size_limit)
        self._url = settings.url.rstrip("/") + "/api/v1/query"
        self._form = {
            "query": whole_query(settings.matchers, settings.preset, (), settings.details),
            "timeout": f"{settings.timeout:g}",
            # VictoriaMetrics answers as of half a minute ago without it; others pass it over.
            "nocache": "1",
        }
        self._culprits = FaultyTargets()
        self._was_slow = False
        """Whether the answer to the last query took too long."""
        self._answer = PrometheusAnswer(settings.preset, settings.replica_labels, settings.details)
        self._reading = PrometheusReading(
            self._answer,
            settings.bindings,
            first_owns=settings.first_owns,
            session_limit=settings.session_limit,
        )
        self._threads = Workers("answers")
        self._looking: asyncio.Task[str] | None = None
        """Finds out why nothing matches."""
        self._why = ""
        """What it found last."""
        self._uncounted = OncePerSubject(logger, "targets show what their preset cannot count")
        self._remarks = OncePerSubject(logger, "remarks on the query")
        self._query_check = UnmatchedQuery(settings.matchers, settings.preset)
        self._unmatched = OncePerSubject(logger, "queries match nothing")
        self._bindings_unmatched = UnmatchedBindings()

    async def read(self) -> Observation:
        """Ask for all runs; see Source.read."""
        try:
            return await self._read_without_culprits()
        except (FetchError, AnswerError) as exc:
            self._reading.was_away = True
            problem = Problem("", Reason.SOURCE_ERROR, f"{self._url}: {exc}")
            return self._observation(problems=[problem])

    async def read_late(self) -> Observation | None:
        """Return None: nothing is ever pending."""
        return None

    async def read_run(self, session_id: str) -> Observation | None:  # noqa: ARG002 - as Source has it
        """Return None: the server scrapes when it scrapes."""
        return None

    reads_runs = False

    async def close(self) -> None:
        """Close all connections, and let go of the thread."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        self._threads.shutdown()
        await self._fetcher.close()

    async def _read_without_culprits(self) -> Observation:
        """Read all targets, without those for which the server cannot answer."""
        left_out = self._culprits.left_out(self._clock())
        try:
            observation = await self._read(without(left_out.instances))
        except (RefusedError, QueryRefusedError, SlowError) as exc:
            slow = isinstance(exc, SlowError)
            # Once may be the server's own trouble.
            was_slow, self._was_slow = self._was_slow, slow
            if slow and not (was_slow or self._culprits.known.instances):
                raise
            left_out = await self._find_culprits(str(exc), slow=slow)
            if not left_out.instances:
                raise
            observation = await self._read(without(left_out.instances))
        self._culprits.known, self._was_slow = left_out, False
        problems = [
            Problem(
                target,
                Reason.SOURCE_ERROR,
                f"{one_line(target)}: {self._url} cannot answer for it: {left_out.why}",
            )
            for target in left_out.targets
        ]
        return replace(observation, problems=(*observation.problems, *problems))

    async def _find_culprits(self, why: str, *, slow: bool) -> LeftOut:
        """Find out for which targets the server cannot answer, and why not."""
        matchers, preset = self._settings.matchers, self._settings.preset
        places = sizes_query(matchers) if slow else places_query(matchers, preset)
        try:
            async with asyncio.timeout(self._settings.timeout):
                return await self._culprits.find(
                    why, self._clock(), lambda: self._probe(places), self._is_answered, slow=slow
                )
        except TimeoutError:
            return self._culprits.none_left_out

    async def _is_answered(self, more: Sequence[str]) -> bool:
        """Tell whether there is an answer with further matchers. Raises FetchError."""
        form = {**self._form, "query": self._query(more)}
        try:
            answer = await self._fetcher.fetch(
                self._url, self._settings.access, accept="application/json", form=form
            )
        except (RefusedError, SlowError):
            return False
        return _ERROR.match(answer.body) is None

    def _query(self, more: Sequence[str]) -> str:
        of = self._settings
        return whole_query(of.matchers, of.preset, more, of.details)

    async def _read(self, more: Sequence[str]) -> Observation:
        """Read what matches further matchers as well."""
        asked_at = self._clock()
        form = {**self._form, "query": self._query(more)} if more else self._form
        answer = await self._fetcher.fetch(
            self._url, self._settings.access, accept="application/json", form=form
        )
        # A copy that a cache gave shows what was so when it was made.
        found, taken = await self._threads.run(self.read_answer, answer.body, asked_at - answer.age)
        self._uncounted.note(found.uncounted, logging.WARNING)
        said = {info: f"{self._url} says: {info}" for info in taken.infos}
        self._remarks.note(said, logging.INFO)
        missing = (*answer.missing, *taken.warnings)
        observation = self._observation(found.sessions, self._partial(missing), found.dropped)
        if missing:
            return observation  # a target may be among what is missing
        observation = replace(observation, targets=self._reading.targets, down=self._reading.down)
        unmatched = {
            **self._log_unmatched_bindings(observation),
            **await self._unmatched_in(observation),
        }
        return replace(observation, unmatched=unmatched)

    def _log_unmatched_bindings(self, observation: Observation) -> Mapping[str, str]:
        """Return the bindings that have matched nothing for a while, and say it."""
        why = {}
        for bound in self._reading.bound:
            targets = {t for t, labels in self._reading.labels.items() if bound.matches(labels)}
            name = f"the binding of {', '.join(bound.sessions)} to {bound.text}"
            if not targets:
                why[name] = (
                    f"{name} matches no target of {self._url}; it is compared with the labels of up"
                )
                continue
            seen = {s.session_id for s in observation.sessions if plain_target(s.target) in targets}
            place = f"what matches {bound.text}"
            if wrong := others_only(bound.sessions, seen, place):
                why[name] = wrong
        return self._bindings_unmatched.note(why, observation.read_at)

    async def _unmatched_in(self, observation: Observation) -> Mapping[str, str]:
        """Return what is wrong if the query matches nothing, and say it."""
        dropped = sum(observation.dropped.values())
        runs = len(observation.sessions)
        if self._looking is not None and runs:
            self._looking.cancel()
            self._looking = None
        if self._looking is None:
            look = self._query_check.why_empty(runs, dropped, self._clock(), self._probe)
            self._looking = asyncio.create_task(look)
        # The runs that are known are not to wait for what is only said.
        await asyncio.wait([self._looking], timeout=_LOOK_SECONDS)
        if self._looking.done():
            self._why, self._looking = self._looking.result(), None
        why = self._why
        unmatched = {self._url: f"{self._url} answers, but {why}"} if why else {}
        self._unmatched.note(unmatched, logging.WARNING)
        return unmatched

    async def _probe(self, query: str) -> Sequence[Point] | None:
        form = {**self._form, "query": query}
        try:
            answer = await self._fetcher.fetch(
                self._url, self._settings.access, accept="application/json", form=form
            )
            return parse_answer(answer.body).points
        except (FetchError, AnswerError):
            return None

    def read_answer(self, body: bytes, asked_at: float) -> tuple[Found, Taken]:
        """Read an answer that was asked for at this time: all that takes processor time.

        Returns what was found, and what else the server says. Raises AnswerError.
        """
        taken = self._answer.update(body)
        return self._reading.take(taken, asked_at), taken

    def _partial(self, missing: Sequence[str]) -> list[Problem]:
        if not missing:
            return []
        said = "; ".join(dict.fromkeys(missing))
        return [Problem("", Reason.PARTIAL_DATA, f"{self._url}: its answer is partial: {said}")]

    def _observation(
        self,
        sessions: Sequence[RunObservation] = (),
        problems: Sequence[Problem] = (),
        dropped: Mapping[str, int] | None = None,
    ) -> Observation:
        return self._reading.observation(self._clock(), sessions, problems, dropped)
