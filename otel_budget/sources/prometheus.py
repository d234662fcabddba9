"""Read sessions out of a server that speaks the Prometheus query API.

Two queries per reading, evaluated at the same moment:
1. when each judged series was last sampled. A server gives a series as current for minutes after
   its target went away, so the age comes from here and never from the value's own timestamp;
2. the raw series. Nothing is summed over there: that would hide resets, ages and what is missing.

Ages are differences on the server's clock, so they hold whatever that clock shows.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.model.reading import Problem, Reading, SessionReading
from otel_budget.model.verdict import Reason
from otel_budget.sources.assemble import NEEDED, Sample, assemble
from otel_budget.sources.fetch import Access, Fetcher, FetchError
from otel_budget.sources.query import AnswerError, Point, Vector, parse_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_budget.sources.base import Clock

SOURCE: Final = "prometheus"
NO_TIMESTAMP: Final = "no_timestamp"
#: Seconds; Prometheus' own default ``scrape_interval``.
_USUAL_SPACING: Final = 60.0
_NAME: Final = "__name__"
_TARGET_LABELS: Final = ("job", "instance")

Run = tuple[str, str]
"""Target and session id."""


@dataclass(frozen=True, slots=True)
class PrometheusSettings:
    """Which server to ask, and for what."""

    url: str
    """Of the server, with its path prefix if it has one."""
    interval: float = 5.0
    """Seconds between two reads, as whoever reads keeps it: this source has no timer."""
    timeout: float = 10.0
    """Seconds one query may take."""
    matchers: Sequence[str] = ()
    """Label matchers in PromQL, such as ``job="agents"``; only what matches all of them is seen."""
    access: Access = field(default_factory=Access)
    body_size_limit: int = 50_000_000
    """Bytes per answer, packed and unpacked."""


class PrometheusSource:
    """A source that asks a Prometheus-compatible server. Its target ids are ``job/instance``."""

    def __init__(self, settings: PrometheusSettings, clock: Clock) -> None:
        """Open nothing yet."""
        self._settings, self._clock = settings, clock
        self._fetcher = Fetcher(clock, settings.timeout, settings.body_size_limit)
        self._url = settings.url.rstrip("/") + "/api/v1/query"
        self._timestamps = _timestamps_query(settings.matchers)
        self._series = _series_query(settings.matchers)
        self._sampled: dict[Run, tuple[float, float]] = {}

    async def read(self) -> Reading:
        """Ask for all sessions; see Source.read."""
        try:
            return await self._read()
        except (FetchError, AnswerError) as exc:
            problem = Problem("", Reason.SOURCE_ERROR, f"{self._url}: {exc}")
            return self._reading(problems=[problem])

    async def close(self) -> None:
        """Close all connections."""
        await self._fetcher.close()

    async def _read(self) -> Reading:
        asked_at = self._clock()
        ages = await self._query(self._timestamps)
        if ages.evaluated_at is None:  # no judged series, so no session
            return self._reading(problems=self._partial(ages.warnings))
        values = await self._query(self._series, at=ages.evaluated_at)
        sampled = _newest_timestamps(ages)
        dropped: Counter[str] = Counter()
        sessions: list[SessionReading] = []
        for target, samples in _by_target(values.points).items():
            kept = []
            for sample in samples:
                run = (target, sample.labels.get(semconv.SESSION_ID, ""))
                if run in sampled or sample.name not in semconv.JUDGED_COUNTERS:
                    kept.append(sample)
                else:
                    dropped[NO_TIMESTAMP] += 1
            assembled = assemble(kept, target, asked_at)
            dropped.update(assembled.dropped)
            sessions += assembled.sessions
        # By the time of asking: a slow server makes samples look older, never younger.
        self._note(sampled, asked_at - float(ages.evaluated_at))
        dated = [self._dated(session) for session in sessions]
        partial = self._partial((*ages.warnings, *values.warnings))
        return self._reading(dated, partial, dropped)

    def _note(self, sampled: Mapping[Run, float], offset: float) -> None:
        """Put the samples' times on our own clock; one already seen keeps the time it was given.

        Else the same sample, read twice, would seem to be two, some milliseconds apart.
        """
        before = self._sampled
        self._sampled = {
            run: before[run] if run in before and before[run][0] == at else (at, at + offset)
            for run, at in sampled.items()
        }

    def _dated(self, session: SessionReading) -> SessionReading:
        _, sampled_at = self._sampled[session.target, session.session_id]
        return dataclasses.replace(session, sampled_at=sampled_at)

    async def _query(self, query: str, at: str = "") -> Vector:
        form = {"query": query, "timeout": f"{self._settings.timeout:g}"}
        if at:
            form["time"] = at
        answer = await self._fetcher.fetch(
            self._url, self._settings.access, accept="application/json", form=form
        )
        return await asyncio.to_thread(parse_answer, answer.body)

    def _partial(self, warnings: Sequence[str]) -> list[Problem]:
        if not warnings:
            return []
        said = "; ".join(dict.fromkeys(warnings))
        return [Problem("", Reason.PARTIAL_DATA, f"{self._url}: warns: {said}")]

    def _reading(
        self,
        sessions: Sequence[SessionReading] = (),
        problems: Sequence[Problem] = (),
        dropped: Mapping[str, int] | None = None,
    ) -> Reading:
        return Reading(
            source=SOURCE,
            read_at=self._clock(),
            sessions=tuple(sessions),
            problems=tuple(problems),
            dropped=dict(dropped or {}),
            spacing=_USUAL_SPACING,
        )


def _timestamps_query(matchers: Sequence[str]) -> str:
    braces = "{" + ",".join(matchers) + "}"
    return " or ".join(f"timestamp({name}{braces})" for name in semconv.JUDGED_COUNTERS)


def _series_query(matchers: Sequence[str]) -> str:
    names = f'{_NAME}=~"{"|".join(NEEDED)}"'
    return "{" + ",".join((names, *matchers)) + "}"


def _target_of(labels: Mapping[str, str]) -> str:
    return "/".join(labels.get(name, "") for name in _TARGET_LABELS)


def _newest_timestamps(ages: Vector) -> dict[Run, float]:
    newest: dict[Run, float] = {}
    for point in ages.points:
        run = (_target_of(point.labels), point.labels.get(semconv.SESSION_ID, ""))
        if math.isfinite(point.value):
            newest[run] = max(newest.get(run, point.value), point.value)
    return newest


def _by_target(points: Sequence[Point]) -> dict[str, list[Sample]]:
    targets: defaultdict[str, list[Sample]] = defaultdict(list)
    for point in points:
        labels = {k: v for k, v in point.labels.items() if k not in (_NAME, *_TARGET_LABELS)}
        sample = Sample(point.labels.get(_NAME, ""), labels, point.value)
        targets[_target_of(point.labels)].append(sample)
    return targets
