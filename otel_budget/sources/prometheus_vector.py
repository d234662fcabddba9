"""The one query a Prometheus query API is asked, and the runs in its answer. Pure.

A target is ``job/instance``. A label that was added on the way (relabelling, a replica's external
label) is part of the target: one that a run's incarnation start carries too, or that names a way to
a process (target_process.py). So one process seen under several such labels counts once, by the
larger, as through several targets.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.owner_labels import NO_DETAILS, Details
from otel_budget.core.resources import COUNTERS
from otel_budget.core.samples import Sample, labels_text
from otel_budget.logs.text import one_line
from otel_budget.presets.counting import assembled, count, session_of, uncounted
from otel_budget.sources.faulty_targets import INSTANCE
from otel_budget.sources.prometheus_api import Point, Vector, parse_answer
from otel_budget.sources.session_assembly import assemble, needed
from otel_budget.sources.target_process import EXPORTED, process_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from otel_budget.core.observation import RunObservation
    from otel_budget.presets.model import Preset


#: A label that marks the time of a sample among the raw series.
SAMPLED: Final = "otel_budget_sampled"
#: A label that marks whether a target answered its last scrape.
ANSWERS: Final = "otel_budget_target_answers"
#: What a mark puts before the value that a target may have given to the same label. A constant
#: would make two series of one out of those that differ in it, which fails the query for all.
MARK: Final = "1"
NAME: Final = "__name__"
#: The metric in which a server keeps whether a target answers.
UP: Final = "up"
_TARGET_LABELS: Final = ("job", "instance")
NO_FURTHER: Final = frozenset({NAME, *_TARGET_LABELS})

Run = tuple[str, str]
"""Target and session id."""


class Origin(NamedTuple):
    """Where series were seen."""

    target: str
    """Job and instance, and what was added on the way."""
    plain: str
    """Job and instance."""
    process: str
    """As in RunObservation."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer taken apart: samples by target, and when each run was last sampled over there."""

    by_target: dict[Origin, list[Sample]]
    sampled: dict[Run, float]
    vector: Vector
    ups: dict[str, bool] = field(default_factory=dict)
    """Of targets, by job and instance, whether they answered when they were last scraped."""
    labels: dict[str, list[Mapping[str, str]]] = field(default_factory=dict)
    """Of targets, by job and instance, the labels of each of their ``up``."""
    timeless: set[Run] = field(default_factory=set)
    """Those whose sample time is impossible."""


@dataclass(frozen=True, slots=True)
class Found:
    """The runs in an answer, not dated yet, and the samples refused, by reason."""

    sessions: Sequence[RunObservation]
    dropped: Mapping[str, int]
    uncounted: Mapping[str, str]
    """Target to what of it the preset could not count; empty for what is of no target."""


def judged(preset: Preset | None) -> Collection[str]:
    """Return the names of the metrics that a session's use is made of."""
    return COUNTERS if preset is None else preset.counted


def whole_query(
    matchers: Sequence[str],
    preset: Preset | None,
    more: Sequence[str] = (),
    details: Details = NO_DETAILS,
) -> str:
    """Return the query for the raw series and, as further series, for their sample times, and for
    which targets there are.

    more: matchers for the first two alone. details: what of the runs is read.
    """
    braces = "{" + ",".join((*matchers, *more)) + "}"
    # One time for each set of labels: all counters of a run are sampled together.
    times = " or ".join(f"timestamp({name}{braces})" for name in judged(preset))
    up = f"{UP}{{{','.join(matchers)}}}"
    # What answers comes first: of two series that differ in their names alone the first stays.
    series = series_selector(matchers, preset, more, details)
    return " or ".join((_marked(up, ANSWERS), series, _marked(times, SAMPLED)))


def places_query(matchers: Sequence[str], preset: Preset | None) -> str:
    """Return the query for the targets that show a series."""
    return f"count by (job, {INSTANCE}) ({series_selector(matchers, preset)})"


def sizes_query(matchers: Sequence[str]) -> str:
    """Return the query for how many samples each target shows; cheap, however many those are.

    The server keeps it of each of its targets, as it does ``up``.
    """
    return f"max by (job, {INSTANCE}) (scrape_samples_scraped{{{','.join(matchers)}}})"


def series_selector(
    matchers: Sequence[str],
    preset: Preset | None,
    more: Sequence[str] = (),
    details: Details = NO_DETAILS,
) -> str:
    """Return the selector of the raw series."""
    names = needed(details) if preset is None else preset.counted
    return selector((*matchers, *more), names)


def history_selector(
    matchers: Sequence[str], preset: Preset | None, details: Details = NO_DETAILS
) -> str:
    """Return the selector of all that a run's history is made of: the same series, ``up``, and the
    labels of our own runs.
    """
    names = needed(details) if preset is None else preset.counted
    return selector(matchers, (*dict.fromkeys((UP, *names)),))


def selector(matchers: Sequence[str], names: Iterable[str]) -> str:
    """Return the selector of the series of these names that match."""
    return "{" + ",".join((f'{NAME}=~"{"|".join(names)}"', *matchers)) + "}"


def _marked(expression: str, label: str) -> str:
    """Return an expression for the same with a mark; what else the label holds stays behind it."""
    return f'label_replace({expression}, "{label}", "{MARK}$1", "{label}", "(.*)")'


def take_apart(
    body: bytes,
    preset: Preset | None,
    replica_labels: Sequence[str] = semconv.REPLICA_LABELS,
    details: Details = NO_DETAILS,
) -> tuple[Answer, Found]:
    """Return what an answer says, and the runs in it. Raises AnswerError."""
    return taken_apart(parse_answer(body), preset, replica_labels, details)


def taken_apart(
    vector: Vector,
    preset: Preset | None,
    replica_labels: Sequence[str] = semconv.REPLICA_LABELS,
    details: Details = NO_DETAILS,
) -> tuple[Answer, Found]:
    """Return what an answer says that was read, and the runs in it."""
    answer = _answer(vector, preset, replica_labels, details)
    names = judged(preset)
    dropped: Counter[str] = Counter()
    sessions: list[RunObservation] = []
    strange: dict[str, str] = {}
    if answer.vector.odd:
        dropped[semconv.BAD_ROW] = len(answer.vector.odd)
        strange[""] = f"rows of the answer cannot be read, such as {answer.vector.odd[0]}"
    for (target, plain, process), samples in answer.by_target.items():
        kept = []
        for sample in samples:
            run = (target, _session_id(sample.labels, plain, preset))
            if not sample.name:
                dropped[semconv.BAD_ROW] += 1
            elif run in answer.sampled or sample.name not in names:
                kept.append(sample)
            elif run in answer.timeless:
                # It is there, and its age is unknown: in doubt, and not absent.
                kept.append(sample._replace(value=math.nan))
            else:
                dropped[semconv.NO_TIMESTAMP] += 1
        if preset is None:
            found = assemble(kept, target, 0.0, process, details)
        else:
            counted = count(preset, kept, name_of_target(plain), details)
            found = assembled(counted, target, 0.0, process)
            why = uncounted(counted)
            strange.update({target: f"target {one_line(target)}: {one_line(why)}"} if why else {})
        dropped.update(found.dropped)
        sessions += found.sessions
    return answer, Found(sessions, dropped, strange)


def _answer(
    vector: Vector, preset: Preset | None, replica_labels: Sequence[str], details: Details
) -> Answer:
    added = added_labels(vector.points)
    answer = Answer(defaultdict(list), {}, vector)
    ways = way_labels(replica_labels)
    for point in vector.points:
        if is_up(point.labels):
            target = target_of(point.labels)
            answer.ups[target] = answer.ups.get(target, False) or point.value == 1
            answer.labels.setdefault(target, []).append(point.labels)
            continue
        labels = further_labels(point.labels)
        plain = target_of(point.labels)
        session_id = _session_id(labels, plain, preset)
        place = split_target_labels(labels, point.labels, added.get((plain, session_id), ()), ways)
        if not is_time(point.labels):
            restore_owner(labels, point.labels, details)
            sample = Sample(point.labels.get(NAME, ""), labels, point.value)
            answer.by_target[place].append(sample)
            continue
        run = (place.target, session_id)
        if math.isfinite(point.value):
            answer.sampled[run] = max(answer.sampled.get(run, point.value), point.value)
        else:
            answer.timeless.add(run)
    return answer


def is_up(labels: Mapping[str, str]) -> bool:
    """Tell whether a row says whether a target answers."""
    return ANSWERS in labels and labels.get(NAME, UP) == UP and not is_time(labels)


def is_time(labels: Mapping[str, str]) -> bool:
    """Tell whether a row is the time of a sample; a series that only bears the mark has a name."""
    return SAMPLED in labels and NAME not in labels


def further_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of a row besides its target's, as its series has them, without our mark."""
    further = {name: value for name, value in labels.items() if name not in NO_FURTHER}
    if is_time(labels):
        own = further.pop(SAMPLED)[len(MARK) :]
        if own and labels[SAMPLED].startswith(MARK):
            further[SAMPLED] = own
    return further


def way_labels(replica_labels: Sequence[str]) -> frozenset[str]:
    """Return the names of labels that tell ways to a process apart, and not processes."""
    return frozenset((*replica_labels, *EXPORTED))


def split_target_labels(
    labels: dict[str, str],
    all_labels: Mapping[str, str],
    added: Collection[str],
    ways: frozenset[str],
) -> Origin:
    """Take the labels out of a series' that were added on the way; return where it was seen."""
    names = [name for name in labels if name in ways or name in added]
    place, plain = {name: labels.pop(name) for name in names}, target_of(all_labels)
    target = f"{plain}{{{labels_text(place)}}}" if place else plain
    return Origin(target, plain, process_of(all_labels))


def restore_owner(labels: dict[str, str], all_labels: Mapping[str, str], details: Details) -> None:
    """Put back those labels of a ``session_info`` that say whose the run is.

    What a server adds to the series of a target may say so, too: the team that it is of.
    """
    if all_labels.get(NAME) == semconv.SESSION_INFO.name:
        labels.update({n: all_labels[n] for n in details.labels if n in all_labels})


def _session_id(labels: Mapping[str, str], target: str, preset: Preset | None) -> str:
    """Return the session id of the run a series belongs to; empty if it has none."""
    if preset is None:
        return labels.get(semconv.SESSION_ID, "")
    return session_of(preset, labels, name_of_target(target)) or ""


def name_of_target(target: str) -> str:
    """Return job and instance in the characters of a session id."""
    return target.replace("/", ":").strip(":")


def added_labels(points: Iterable[Point]) -> dict[Run, set[str]]:
    """Return, per run, the names of the labels that were added to its series on the way."""
    added: dict[Run, set[str]] = {}
    for point in points:
        if point.labels.get(NAME) == semconv.INCARNATION_START.name:
            further = point.labels.keys() - NO_FURTHER - {semconv.SESSION_ID}
            if further:
                run = (target_of(point.labels), point.labels.get(semconv.SESSION_ID, ""))
                added.setdefault(run, set()).update(further)
    return added


def target_of(labels: Mapping[str, str]) -> str:
    """Return job and instance, as one name."""
    return "/".join(labels.get(name, "") for name in _TARGET_LABELS)
