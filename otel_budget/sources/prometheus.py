"""Read sessions out of a server that speaks the Prometheus query API.

One query per reading asks for both, so that they come from one server and one moment:
- the raw series. Nothing is summed over there: that would hide resets, ages and what is missing;
- when each judged series was last sampled, marked by a label of its own. A server gives a series as
  current for minutes after its target went away, so the age comes from here and never from the
  value's own timestamp.

Ages are differences on the server's clock, so they hold whatever that clock shows. A sample that
would lie in the future is taken to be of the moment it was asked for.

A target is ``job/instance``. A label that a run's incarnation start carries too is no agent's
doing: it was added on the way (relabelling, a replica's external label), and is part of the target.
So one process seen under several such labels counts once, by the larger, as through several
targets.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.model.reading import Problem, Reading, SessionReading
from otel_budget.model.verdict import Reason
from otel_budget.sources.assemble import NEEDED, Sample, assemble, labels_text
from otel_budget.sources.fetch import Access, Fetcher, FetchError
from otel_budget.sources.notices import Notices, one_line
from otel_budget.sources.preset import assembled, count, session_of, uncounted
from otel_budget.sources.query import AnswerError, Point, Vector, parse_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_budget.model.preset import Preset
    from otel_budget.sources.base import Clock

logger = logging.getLogger(__name__)

SOURCE: Final = "prometheus"
#: A label that marks the time of a sample among the raw series; its value is the metric's name.
SAMPLED: Final = "otel_budget_sampled"
#: Sample times remembered per run: answers may come from several replicas in turn.
_TIMES_KEPT: Final = 4
#: Seconds; Prometheus' own default ``scrape_interval``.
_USUAL_SPACING: Final = 60.0
_NAME: Final = "__name__"
_TARGET_LABELS: Final = ("job", "instance")
_NO_FURTHER: Final = frozenset({_NAME, SAMPLED, *_TARGET_LABELS})

Run = tuple[str, str]
"""Target and session id."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer taken apart: samples by target, and when each run was last sampled over there."""

    by_target: Mapping[str, Sequence[Sample]]
    sampled: Mapping[Run, float]
    evaluated_at: float | None
    """On the server's clock; None if the answer is empty."""
    warnings: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Found:
    """The sessions in an answer, not dated yet, and the samples refused, by reason."""

    answer: _Answer
    sessions: Sequence[SessionReading]
    dropped: Mapping[str, int]
    uncounted: Mapping[str, str]
    """Target to what of it the preset could not count."""


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
    session_limit: int = 10_000
    """Runs known at one target, all together."""
    body_size_limit: int = 50_000_000
    """Bytes per answer, packed and unpacked."""
    preset: Preset | None = None
    """How to read what other programs export; None for what otel-budget exports."""


class PrometheusSource:
    """A source that asks a Prometheus-compatible server. Its target ids are as said above."""

    def __init__(self, settings: PrometheusSettings, clock: Clock) -> None:
        """Open nothing yet."""
        self._settings, self._clock = settings, clock
        self._fetcher = Fetcher(clock, settings.timeout, settings.body_size_limit)
        self._url = settings.url.rstrip("/") + "/api/v1/query"
        self._form = {
            "query": _query(settings.matchers, settings.preset),
            "timeout": f"{settings.timeout:g}",
        }
        self._sampled: dict[Run, dict[float, float]] = {}
        """Per run, the newest sample times as the server gave them, and as they were dated."""

        self._notices = Notices(logger, "targets show what their preset cannot count")

    async def read(self) -> Reading:
        """Ask for all sessions; see Source.read."""
        try:
            return await self._read()
        except (FetchError, AnswerError) as exc:
            problem = Problem("", Reason.SOURCE_ERROR, f"{self._url}: {exc}")
            return self._reading(problems=[problem])

    async def read_run(self, session_id: str) -> Reading | None:  # noqa: ARG002 - as Source has it
        """Return None: the server scrapes when it scrapes."""
        return None

    reads_runs = False

    async def close(self) -> None:
        """Close all connections."""
        await self._fetcher.close()

    async def _read(self) -> Reading:
        asked_at = self._clock()
        answer = await self._fetcher.fetch(
            self._url, self._settings.access, accept="application/json", form=self._form
        )
        found = await asyncio.to_thread(_take_apart, answer.body, asked_at, self._settings.preset)
        self._note(found.answer, asked_at)
        self._notices.note(found.uncounted, logging.WARNING)
        dated = [self._dated(session) for session in found.sessions]
        return self._reading(dated, self._partial(found.answer.warnings), found.dropped)

    def _note(self, answer: _Answer, asked_at: float) -> None:
        """Put the samples' times on our own clock; one already seen keeps the time it was given.

        Else the same sample, read twice, would seem to be two, some milliseconds apart.
        """
        # By the time of asking: a slow server makes samples look older, never younger.
        offset = 0.0 if answer.evaluated_at is None else asked_at - answer.evaluated_at
        noted = {}
        for run, at in answer.sampled.items():
            known = dict(self._sampled.get(run, {}))
            dated = known.pop(at, min(at + offset, asked_at))
            noted[run] = {**dict(list(known.items())[1 - _TIMES_KEPT :]), at: dated}
        self._sampled = noted

    def _dated(self, session: SessionReading) -> SessionReading:
        times = self._sampled[session.target, session.session_id]
        return dataclasses.replace(session, sampled_at=next(reversed(times.values())))

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
            session_limit=self._settings.session_limit,
        )


def _query(matchers: Sequence[str], preset: Preset | None) -> str:
    """Return the query for the raw series and, as further series, for their sample times."""
    needed = NEEDED if preset is None else preset.counted
    names = f'{_NAME}=~"{"|".join(needed)}"'
    series = "{" + ",".join((names, *matchers)) + "}"
    braces = "{" + ",".join(matchers) + "}"
    times = (
        f'label_replace(timestamp({name}{braces}), "{SAMPLED}", "{name}", "", "")'
        for name in _judged(preset)
    )
    return " or ".join((series, *times))


def _judged(preset: Preset | None) -> Collection[str]:
    return semconv.JUDGED_COUNTERS if preset is None else preset.counted


def _take_apart(body: bytes, asked_at: float, preset: Preset | None) -> _Found:
    """Do all that takes the processor long. Raises AnswerError."""
    answer = _answer(parse_answer(body), preset)
    judged = _judged(preset)
    dropped: Counter[str] = Counter()
    sessions: list[SessionReading] = []
    strange: dict[str, str] = {}
    for target, samples in answer.by_target.items():
        kept = []
        for sample in samples:
            run = (target, _session_id(sample.labels, target, preset))
            if run in answer.sampled or sample.name not in judged:
                kept.append(sample)
            else:
                dropped[semconv.NO_TIMESTAMP] += 1
        if preset is None:
            found = assemble(kept, target, asked_at)
        else:
            counted = count(preset, kept, place_of(target))
            found = assembled(counted, target, asked_at)
            why = uncounted(counted)
            strange.update({target: f"target {one_line(target)}: {one_line(why)}"} if why else {})
        dropped.update(found.dropped)
        sessions += found.sessions
    return _Found(answer, sessions, dropped, strange)


def _answer(vector: Vector, preset: Preset | None) -> _Answer:
    added = _added_labels(vector.points)
    sampled: dict[Run, float] = {}
    by_target: defaultdict[str, list[Sample]] = defaultdict(list)
    for point in vector.points:
        name = point.labels.get(_NAME, "")
        labels = {k: v for k, v in point.labels.items() if k not in _NO_FURTHER}
        target = _target_of(point.labels)
        session_id = _session_id(labels, target, preset)
        place = {k: labels.pop(k) for k in added.get((target, session_id), ()) if k in labels}
        if place:
            target = f"{target}{{{labels_text(place)}}}"
        if SAMPLED not in point.labels:
            by_target[target].append(Sample(name, labels, point.value))
        elif math.isfinite(point.value):
            run = (target, session_id)
            sampled[run] = max(sampled.get(run, point.value), point.value)
    at = None if vector.evaluated_at is None else float(vector.evaluated_at)
    return _Answer(by_target, sampled, at, vector.warnings)


def _session_id(labels: Mapping[str, str], target: str, preset: Preset | None) -> str:
    """Return the id of the session a series belongs to; empty if none can be made out."""
    if preset is None:
        return labels.get(semconv.SESSION_ID, "")
    return session_of(preset, labels, place_of(target)) or ""


def place_of(target: str) -> str:
    """Return job and instance as they can stand in a session id."""
    return target.replace("/", ":").strip(":")


def _added_labels(points: Sequence[Point]) -> dict[Run, set[str]]:
    """Return, per run, the names of the labels that were added to its series on the way."""
    added: dict[Run, set[str]] = {}
    for point in points:
        if point.labels.get(_NAME) == semconv.INCARNATION_START.name:
            further = point.labels.keys() - _NO_FURTHER - {semconv.SESSION_ID}
            if further:
                run = (_target_of(point.labels), point.labels.get(semconv.SESSION_ID, ""))
                added.setdefault(run, set()).update(further)
    return added


def _target_of(labels: Mapping[str, str]) -> str:
    return "/".join(labels.get(name, "") for name in _TARGET_LABELS)
