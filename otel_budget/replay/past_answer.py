"""What a Prometheus would have answered at moments of the past, from the raw samples it has. Pure.

A series is current at a moment by the server's own rule: its newest sample is not older than the
look-back, and no end of it was marked since. A server gives raw samples without these marks, so
they are found as it sets them:
- at a scrape that does not bring the series any more, or fails: ``up`` has a sample of each scrape,
  of the same time as all that was scraped;
- where the target was taken away: its ``up`` is not current any more, which the server is asked.
  It is not believed where ``up`` goes on as it did: some stores show new series late.

A VictoriaMetrics gives its marks, as NaN, and no other NaN.

So a series whose samples are not of the times of its target's ``up`` (an exporter dated them
itself, or they were pushed) is current for the look-back, as it is there.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median_low
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.owner_labels import NO_DETAILS, Details
from otel_budget.sources.incremental.prometheus_answer import Taken
from otel_budget.sources.prometheus_api import Point, Vector
from otel_budget.sources.prometheus_vector import (
    ANSWERS,
    MARK,
    NAME,
    SAMPLED,
    UP,
    Answer,
    Found,
    judged,
    taken_apart,
    target_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from otel_budget.core.observation import RunObservation
    from otel_budget.presets.model import Preset
    from otel_budget.sources.prometheus_api import Series
    from otel_budget.sources.prometheus_vector import Run

#: Milliseconds for which a server shows a sample without another one: its default look-back.
LOOK_BACK: Final = 300_000
#: Times of scrapes that are remembered of a target, in milliseconds back.
_SCRAPES_KEPT: Final = 2 * LOOK_BACK

#: Scrapes from which on their spacing is known.
_SPACINGS_OF: Final = 3

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True, eq=False)
class _Known:
    """A series, as of the moment that was reached."""

    labels: Mapping[str, str]
    target: _Target
    at: int | None = None
    """Of its newest sample, in Unix milliseconds; None before the first."""
    value: float = 0.0
    up: _Up | None = None
    """Of what it was scraped with, if the server has it."""


@dataclass(slots=True, eq=False)
class _Up(_Known):
    """Whether a target answered."""

    current: bool = False
    scrapes: dict[int, None] = field(default_factory=dict)
    """When it was scraped, the newest last."""


@dataclass(slots=True, eq=False)
class _Target:
    """What is known by one job and instance."""

    ups: list[_Up] = field(default_factory=list)
    series: list[_Known] = field(default_factory=list)
    answer: Answer | None = None
    found: Found | None = None
    """Both as of the newest change; None if nothing of it is current."""
    expires: float = math.inf
    """When the first of its current series is not current any more, if no sample comes."""


class _Event(NamedTuple):
    """Something that happens at a time, in milliseconds."""

    at: int
    series: _Known
    value: float | None
    """Of a sample; None where an ``up`` is not current any more from here on."""


class Moments(NamedTuple):
    """The moments that a server is asked about, in Unix milliseconds."""

    first: int
    last: int
    step: int

    def ends(self, current: Sequence[int]) -> Iterator[int]:
        """Yield the moments from which on something is not current.

        current: those at which it is, in order.
        """
        expected = self.first
        for at in current:
            if at > expected:
                yield expected
            expected = at + self.step
        if expected <= self.last:
            yield expected


class PastAnswer:
    """The answers of one server, from moment to moment. Times are Unix milliseconds."""

    def __init__(
        self,
        preset: Preset | None,
        replica_labels: Sequence[str] = semconv.REPLICA_LABELS,
        details: Details = NO_DETAILS,
    ) -> None:
        """preset, replica_labels, details: as in PrometheusSettings."""
        self._preset, self._replica_labels = preset, replica_labels
        self._details = details
        self._names = {name: rank for rank, name in enumerate(judged(preset))}
        self._targets: dict[str, _Target] = {}
        self._known: dict[Labels, _Known] = {}
        self._events: list[_Event] = []
        """What is to come, the next one last."""
        self.now = 0
        self.nan_ends = False
        """Whether NaN is the mark of an end, and no value."""
        self.run_labels: dict[str, Mapping[str, str]] = {}
        """Session id to the labels of the newest ``session_info`` of a run of our own."""

    def load(self, series: Iterable[Series], current: Iterable[Series], moments: Moments) -> None:
        """Take in what is to come, up to the last of some moments.

        series: raw samples; those up to ``now`` are known. current: of each ``up``, at which of the
        moments it is current.
        """
        self._forget_old()
        events: list[_Event] = []
        scrapes: dict[Labels, list[int]] = {}
        for each in sorted(series, key=lambda one: one.labels.get(NAME) != UP):
            known = self._series(each.labels)
            new = [_Event(at, known, value) for at, value in each.samples if at > self.now]
            events += new
            if isinstance(known, _Up):
                scrapes[_key(each.labels)] = [event.at for event in new]
        shown = {_key(each.labels): [at for at, _ in each.samples] for each in current}
        for key, known in self._known.items():
            if isinstance(known, _Up):
                ends = moments.ends(shown.get(key, ()))
                to_come = scrapes.get(key, ())
                events += [_Event(at, known, None) for at in _believed(ends, to_come, known)]
        events.sort(key=_order, reverse=True)
        self._events = events

    def move(self, now: int) -> bool:
        """Go on to a moment; return whether anything is another than at the one before."""
        changed: dict[int, _Target] = {}
        events = self._events
        while events and events[-1].at <= now:
            event = events.pop()
            self._happen(event)
            changed[id(event.series.target)] = event.series.target
        for target in self._targets.values():
            if target.expires <= now:
                changed[id(target)] = target
        self.now = now
        for target in changed.values():
            self._read(target)
        return bool(changed)

    def taken(self) -> Taken:
        """Return what is seen besides the runs; as in PrometheusAnswer."""
        sampled: dict[Run, float] = {}
        ups: dict[str, bool] = {}
        for target in self._targets.values():
            if target.answer is not None:
                sampled.update(target.answer.sampled)
                ups.update(target.answer.ups)
        return Taken(sampled, self.now / 1000, ups=ups)

    def found(self, date_of: Callable[[str, str], float]) -> Found:
        """Return the runs that are seen; as in PrometheusAnswer."""
        sessions: list[RunObservation] = []
        dropped: Counter[str] = Counter()
        uncounted: dict[str, str] = {}
        for target in self._targets.values():
            if target.found is None:
                continue
            sessions += [
                one._replace(sampled_at=date_of(one.target, one.session_id))
                for one in target.found.sessions
            ]
            dropped.update(target.found.dropped)
            uncounted.update(target.found.uncounted)
        return Found(sessions, dropped, uncounted)

    def labels(self) -> dict[str, list[Mapping[str, str]]]:
        """Return, of targets by job and instance, the labels of each of their ``up``."""
        found = [target.answer.labels for target in self._targets.values() if target.answer]
        return {place: labels for each in found for place, labels in each.items()}

    def showing(self) -> AbstractSet[str]:
        """Return the targets that show a run, by job and instance."""
        return {
            place
            for place, target in self._targets.items()
            if target.found and target.found.sessions
        }

    def _series(self, labels: Mapping[str, str]) -> _Known:
        key = _key(labels)
        known = self._known.get(key)
        if known is not None:
            return known
        target = self._targets.setdefault(target_of(labels), _Target())
        if labels.get(NAME) == UP:
            known = up = _Up(labels, target)
            target.ups.append(up)
            for each in target.series:
                each.up = each.up or _scraped_with((up,), each.labels)
        else:
            known = _Known(labels, target, up=_scraped_with(target.ups, labels))
            target.series.append(known)
        self._known[key] = known
        return known

    def _happen(self, event: _Event) -> None:
        known, at, value = event.series, event.at, event.value
        if isinstance(known, _Up):
            known.current = value is not None and not math.isnan(value)
            if not known.current:
                return
        if value is None:
            return
        if self.nan_ends and math.isnan(value):
            known.at = None
            return
        if isinstance(known, _Up):
            known.scrapes[at] = None
            while next(iter(known.scrapes)) < at - _SCRAPES_KEPT:
                del known.scrapes[next(iter(known.scrapes))]
        elif known.labels.get(NAME) == semconv.SESSION_INFO.name:
            self.run_labels[known.labels.get(semconv.SESSION_ID, "")] = known.labels
        known.at, known.value = at, value

    def _read(self, target: _Target) -> None:
        """Work out what is seen of a target."""
        points = [
            Point({**up.labels, ANSWERS: MARK + up.labels.get(ANSWERS, "")}, up.value)
            for up in target.ups
            if up.current
        ]
        current = [each for each in target.series if self._is_current(each)]
        points += [Point(dict(each.labels), each.value) for each in current]
        points += self._times(current)
        target.expires = min((each.at or 0 for each in current), default=math.inf) + LOOK_BACK
        if not points:
            target.answer = target.found = None
            return
        vector = Vector(tuple(points), self.now / 1000, ())
        target.answer, target.found = taken_apart(
            vector, self._preset, self._replica_labels, self._details
        )

    def _is_current(self, series: _Known) -> bool:
        at, up = series.at, series.up
        if at is None or self.now - at >= LOOK_BACK:
            return False
        if up is None or at not in up.scrapes:
            return True
        return up.current and at == up.at

    def _times(self, current: Iterable[_Known]) -> Iterable[Point]:
        """Return when each judged series was sampled, as the query of a live source gives it."""
        names = self._names
        judged_ones = [each for each in current if each.labels.get(NAME) in names]
        judged_ones.sort(key=lambda each: names[each.labels[NAME]])
        times: dict[Labels, Point] = {}
        for each in judged_ones:
            labels = {name: value for name, value in each.labels.items() if name != NAME}
            labels[SAMPLED] = MARK + labels.get(SAMPLED, "")
            times.setdefault(_key(labels), Point(labels, (each.at or 0) / 1000))
        return times.values()

    def _forget_old(self) -> None:
        """Let go of series that nothing is seen of any more."""
        old = self.now - LOOK_BACK
        for key, known in list(self._known.items()):
            if known.at is not None and known.at > old:
                continue
            del self._known[key]
            if isinstance(known, _Up):
                known.target.ups.remove(known)
            else:
                known.target.series.remove(known)
        self._targets = {
            place: target for place, target in self._targets.items() if target.ups or target.series
        }


def _order(event: _Event) -> tuple[int, bool, bool]:
    """Return what puts events in order: of one scrape, whether it was answered comes first."""
    return event.at, event.value is None, not isinstance(event.series, _Up)


def _believed(ends: Iterable[int], scrapes: Sequence[int], up: _Up) -> Iterator[int]:
    """Yield the ends that can be: none within the spacing after a scrape, and none between two.

    scrapes: those that are to come, in order.
    """
    known = [*list(up.scrapes)[-_SPACINGS_OF:], *scrapes]
    if len(known) < _SPACINGS_OF:
        yield from ends
        return
    spacing = median_low(after - before for before, after in pairwise(known))
    for end in ends:
        place = bisect_right(known, end)
        before, after = known[:place][-1:], known[place : place + 1]
        goes_on = before and after and after[0] - before[0] < 2 * spacing
        if not goes_on:
            yield max(end, *(at + spacing for at in before)) if before else end


def _key(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def _scraped_with(ups: Iterable[_Up], labels: Mapping[str, str]) -> _Up | None:
    """Return the ``up`` of the scrapes that bring a series: the one with the most of its labels."""
    found = [up for up in ups if all(labels.get(n) == v for n, v in up.labels.items() if n != NAME)]
    return max(found, key=lambda up: len(up.labels), default=None)
