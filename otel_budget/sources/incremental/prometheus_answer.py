"""The runs in the answers of one Prometheus query API, of which only what changed is read.

Most rows of an answer are those of the answer before (see line_diff.py), but for the time of
evaluation, which is the same in all of them and taken out first. A row that is another one is a
series that is known, with another value, or a new one. What is not as Prometheus writes it has the
answer read as a whole, by ``take_apart``, which is the reference: what comes out here is what it
would give.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.observation import plain_target
from otel_budget.core.owner_labels import NO_DETAILS, Details
from otel_budget.core.resources import COUNTERS
from otel_budget.core.samples import Sample
from otel_budget.sources.incremental.line_diff import Changes, LineDiff, UnusualError
from otel_budget.sources.incremental.series_index import SeriesIndex
from otel_budget.sources.prometheus_api import Point
from otel_budget.sources.prometheus_vector import (
    NAME,
    Found,
    Run,
    added_labels,
    further_labels,
    is_time,
    is_up,
    restore_owner,
    split_target_labels,
    take_apart,
    target_of,
    way_labels,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from otel_budget.core.observation import RunObservation
    from otel_budget.presets.model import Preset
    from otel_budget.sources.incremental.series_index import Slot

    #: Returns when a run (target, session id) was sampled.
    DateOf = Callable[[str, str], float]

_HEAD: Final = b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{'
_TAIL: Final = b"}]}}"
_NEXT: Final = b'},{"metric":{'
_VALUE: Final = b'},"value":["'
#: In the rows that say what was added to a run's labels.
_BEGUN: Final = semconv.INCARNATION_START.name.encode()
#: The time of evaluation, in the first row.
_TIME: Final = re.compile(rb'},"value":\[([1-9][0-9]*(?:\.[0-9]+)?),"')
_END: Final = b'"]'


class Taken(NamedTuple):
    """What an answer says besides its runs."""

    sampled: Mapping[Run, float]
    """When each run was last sampled, on the server's clock."""
    evaluated_at: float | None
    """On the server's clock; None if the answer is empty."""
    warnings: Sequence[str] = ()
    """What the server says is missing."""
    infos: Sequence[str] = ()
    """What else it has to say."""
    ups: Mapping[str, bool] = {}
    """Of targets, by job and instance, whether they answered when they were last scraped."""


class _Time:
    """When a series was sampled."""

    __slots__ = ("at", "run")

    def __init__(self, run: Run, at: float) -> None:
        self.run, self.at = run, at


class _Up(_Time):
    """Whether a target answered: 1 if it did."""

    __slots__ = ("labels",)

    def __init__(self, run: Run, at: float, labels: Mapping[str, str]) -> None:
        super().__init__(run, at)
        self.labels = labels


class PrometheusAnswer:
    """Take the answers to one query, one after the other."""

    def __init__(
        self,
        preset: Preset | None,
        replica_labels: Sequence[str] = semconv.REPLICA_LABELS,
        details: Details = NO_DETAILS,
    ) -> None:
        """preset: if there is one, each answer is read as a whole. details: what is read of it."""
        self._preset, self._replica_labels = preset, replica_labels
        self._details = details
        self._ways = way_labels(replica_labels)
        self._whole: Found | None = None
        """The runs of the last answer, if it was read as a whole."""
        self._up_labels: dict[str, list[Mapping[str, str]]] = {}
        """The labels of each ``up`` in it, if it was."""
        self._forget()

    def update(self, body: bytes) -> Taken:
        """Take in an answer. Raises AnswerError."""
        if self._preset is None:
            try:
                return self._take_changes(body)
            except UnusualError:
                self._forget()
            except Exception:
                self._forget()  # whatever it was, the next answer does not build upon it
                raise
        answer, found = take_apart(body, self._preset, self._replica_labels, self._details)
        self._forget()
        self._whole, self._up_labels = found, answer.labels
        vector = answer.vector
        return Taken(answer.sampled, vector.evaluated_at, vector.warnings, vector.infos, answer.ups)

    def found(self, date_of: DateOf) -> Found:
        """Return the runs in the answer that was taken last."""
        if self._whole is not None:
            dated = [
                one._replace(sampled_at=date_of(one.target, one.session_id))
                for one in self._whole.sessions
            ]
            return dataclasses.replace(self._whole, sessions=dated)
        dropped: Counter[str] = Counter()
        sessions: list[RunObservation] = []
        for target, index in list(self._indexes.items()):
            read = index.read(date_of)
            sessions += read.sessions
            dropped.update(read.dropped)
            if index.is_empty and not self._timed[target]:
                self._forget_target(target)
        return Found(sessions, dropped, {})

    def labels(self) -> dict[str, list[Mapping[str, str]]]:
        """Return, of targets by job and instance, the labels of each of their ``up``."""
        if self._whole is not None:
            return self._up_labels
        return {target: [up.labels for up in ups] for target, ups in self._ups.items()}

    def showing(self) -> AbstractSet[str]:
        """Return the targets that show a series, by job and instance; after ``found``."""
        if self._whole is not None:
            return {plain_target(session.target) for session in self._whole.sessions}
        return self._places.keys()

    def _forget(self) -> None:
        self._whole = None
        self._indexes: dict[str, SeriesIndex] = {}
        self._diff: LineDiff[bytes, Slot | _Time] = LineDiff(_VALUE)
        """Those of the last answer, without their time of evaluation."""
        self._times: dict[Run, list[_Time]] = {}
        self._added: dict[Run, set[str]] = {}
        """Per run, by job and instance, the labels that are part of its target."""
        self._ups: dict[str, list[_Up]] = {}
        """By job and instance."""
        self._timed: Counter[str] = Counter()
        """Target to the number of times."""
        self._plain: dict[str, str] = {}
        """Target to job and instance."""
        self._places: dict[str, set[str]] = {}
        """Job and instance to their targets."""

    def _take_changes(self, body: bytes) -> Taken:
        rows, evaluated_at = _rows(body)
        changes = self._diff.changes(rows)
        for _, slot, value in changes.values:
            _change(slot, value)
        self._remove(changes.gone)
        self._take_series(rows, changes)
        self._diff.replace(rows, changes)
        self._whole = None
        sampled = {run: max(time.at for time in times) for run, times in self._times.items()}
        ups = {target: any(up.at == 1 for up in found) for target, found in self._ups.items()}
        return Taken(sampled, evaluated_at, ups=ups)

    def _take_series(self, rows: list[bytes], changes: Changes[bytes, Slot | _Time]) -> None:
        """Take in new series; one by one, as they may be all of a large answer."""
        if changes.slots is None:
            return
        self._note_added(_point(rows[place]) for place in changes.came if _BEGUN in rows[place])
        counted: set[Run] = set()
        for place in changes.came:
            changes.slots[place] = self._add(_point(rows[place]), counted)
        if not counted <= self._times.keys():
            raise UnusualError  # of some it is not said when they were sampled

    def _remove(self, slots: Iterable[Slot | _Time]) -> None:
        """Let go of series; have the answer read as a whole if that moves what stays."""
        timeless: list[Run] = []
        begun: list[Run] = []
        for slot in slots:
            if isinstance(slot, _Up):
                self._remove_up(slot)
            elif isinstance(slot, _Time):
                times = self._times[slot.run]
                times.remove(slot)
                self._timed[slot.run[0]] -= 1
                if not times:
                    del self._times[slot.run]
                    timeless.append(slot.run)
            else:
                index = slot.session.index
                index.remove(slot)
                if slot.name == semconv.INCARNATION_START.name:
                    begun.append((index.target, slot.session.session_id))
        if any(self._shows(target, session_id) for target, session_id in timeless):
            raise UnusualError
        for target, session_id in begun:
            run = (self._plain[target], session_id)
            if run in self._added:
                if any(self._knows(each, session_id) for each in self._places[run[0]]):
                    raise UnusualError
                del self._added[run]

    def _remove_up(self, up: _Up) -> None:
        target, _ = up.run
        self._ups[target].remove(up)
        if not self._ups[target]:
            del self._ups[target]

    def _note_added(self, points: Iterable[Point]) -> None:
        """Note what was added on the way to the labels of runs that are new here."""
        for run, names in added_labels(points).items():
            if not self._added.get(run, set()) >= names:
                if any(self._knows(each, run[1]) for each in self._places.get(run[0], ())):
                    raise UnusualError  # it has series under another target
                self._added[run] = names

    def _add(self, point: Point, counted: set[Run]) -> Slot | _Time:
        """Take in a series that is new; note in ``counted`` the run that it is a counter of."""
        if is_up(point.labels):
            up = _Up((target_of(point.labels), ""), point.value, point.labels)
            self._ups.setdefault(up.run[0], []).append(up)
            return up
        name, labels, run = self._placed(point)
        if is_time(point.labels):
            time = _Time(run, _time(point.value))
            self._times.setdefault(run, []).append(time)
            self._timed[run[0]] += 1
            return time
        if not name:
            raise UnusualError  # a series without a name
        if name in COUNTERS:
            counted.add(run)
        elif name == semconv.INCARNATION_START.name and len(labels) > 1:
            raise UnusualError  # it has more than was noted of it: its name is written otherwise
        return self._indexes[run[0]].add(Sample(name, labels, point.value))

    def _placed(self, point: Point) -> tuple[str, dict[str, str], Run]:
        """Return the name of a series, its further labels, and its run."""
        labels = further_labels(point.labels)
        plain, session_id = target_of(point.labels), labels.get(semconv.SESSION_ID, "")
        added = self._added.get((plain, session_id), ())
        target, _, process = split_target_labels(labels, point.labels, added, self._ways)
        restore_owner(labels, point.labels, self._details)
        if target not in self._indexes:
            self._indexes[target] = SeriesIndex(target, process, self._details)
            self._plain[target] = plain
            self._places.setdefault(plain, set()).add(target)
        return point.labels.get(NAME, ""), labels, (target, session_id)

    def _shows(self, target: str, session_id: str) -> bool:
        index = self._indexes.get(target)
        return index is not None and index.shows(session_id)

    def _knows(self, target: str, session_id: str) -> bool:
        return (target, session_id) in self._times or self._shows(target, session_id)

    def _forget_target(self, target: str) -> None:
        """Forget a target without any series."""
        del self._indexes[target], self._timed[target]
        plain = self._plain.pop(target)
        self._places[plain].remove(target)
        if not self._places[plain]:
            del self._places[plain]


def _rows(body: bytes) -> tuple[list[bytes], float]:
    """Return the rows of an answer without the time of evaluation, and that."""
    first = _TIME.search(body)
    if first is None or not (body.startswith(_HEAD) and body.endswith(_TAIL)):
        raise UnusualError
    middle = body[len(_HEAD) : -len(_TAIL)].replace(first[0], _VALUE)
    return middle.split(_NEXT), float(first[1])


def _change(slot: Slot | _Time | None, value: bytes) -> None:
    number = _number(value)
    if isinstance(slot, _Time):
        slot.at = number if isinstance(slot, _Up) else _time(number)
    elif slot is not None:
        slot.session.index.change(slot, number)


def _number(value: bytes) -> float:
    """Return what a value is; NaN, as in the whole, if it is none."""
    number = value.removesuffix(_END)
    if len(number) == len(value) or b'"' in number or not number.isascii():
        raise UnusualError
    try:
        return float(number)
    except ValueError:
        return math.nan


def _time(number: float) -> float:
    """Return a time; an answer with an impossible one is read as a whole."""
    if not math.isfinite(number):
        raise UnusualError
    return number


def _point(row: bytes) -> Point:
    series, before_value, value = row.rpartition(_VALUE)
    if not before_value:
        raise UnusualError
    return Point(_labels(series), _number(value))


def _labels(text: bytes) -> dict[str, str]:
    try:
        labels: dict[str, str] = json.loads(b"{%b}" % text)
    except ValueError as exc:
        raise UnusualError from exc
    if not all(isinstance(value, str) for value in labels.values()):
        raise UnusualError
    return labels
