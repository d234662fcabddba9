"""From the samples of another program to its runs, as a preset says. Pure.

- What counts, counts once: of several spellings, families and emitters that say the same, the one
  with most does. It is the larger use, as everywhere; and the larger of counters that only grow is
  one that only grows, so a change of the larger one is no reset.
- Where nothing repeats anything, series are kept apart for the ledger, which sees their resets.
- An unknown label value is added to nothing; the tokens of the run are then "at least".
- Every sample that does not count is accounted for, with the reason.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.observation import RunAttributes, RunObservation, shared_labels
from otel_budget.core.owner_labels import NO_DETAILS, Details, is_label_value
from otel_budget.core.resources import quantity_of
from otel_budget.core.samples import (
    COUNTER_TYPES,
    Assembled,
    labels_text,
    later,
    plausible,
    told_times,
)
from otel_budget.core.validation import SESSION_ID_PATTERN
from otel_budget.presets import model as roles
from otel_budget.presets.deduplication import Series, deduplicate
from otel_budget.presets.model import first_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.core.samples import Sample
    from otel_budget.presets.model import MetricRule, Preset

#: Reason for which a sample is dropped: its label has a value the preset does not know.
TOKEN_TYPE: Final = "token_type"  # noqa: S105 - a reason, not a secret

#: What a ``_sum`` or ``_count`` may be declared as, besides a counter.
_HISTOGRAM_TYPES: Final = COUNTER_TYPES | {"histogram", "summary"}
_NO_SESSION_ID: Final = re.compile(r"[^A-Za-z0-9._:@-]")
_LONGEST_SESSION_ID: Final = 128
#: Values of one label that says whose a run is: more are looked at no further.
_OWNERS_MOST: Final = 100


class Ignored(NamedTuple):
    """Samples that do not count, and why."""

    metric: str
    labels: tuple[tuple[str, str], ...]
    """Those that decided it."""
    reason: str
    """For people."""

    def in_words(self) -> str:
        """Return it as one line."""
        by = ",".join(f"{name}={value!r}" for name, value in self.labels)
        return f"{self.metric}{{{by}}}: {self.reason}" if by else f"{self.metric}: {self.reason}"


@dataclass(frozen=True, slots=True)
class ForeignRun:
    """One run of another program, as it counts."""

    session_id: str
    amounts: Mapping[str, Number]
    """Role to amount; one that is absent is unknown. ``tokens`` is what is judged."""
    counters: Mapping[tuple[str, str], Number]
    """As in RunObservation."""
    implausible: tuple[str, ...] = ()
    """As in RunObservation; also metrics with nothing but tokens of unknown types."""
    at_least: bool = False
    """True if some tokens are of an unknown type."""
    newest: float | None = None
    """When its newest sample was taken, as ``samples.later`` has it."""
    labels: Mapping[str, str] | None = None
    """As in RunAttributes."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What one page gives."""

    sessions: tuple[ForeignRun, ...]
    ignored: Mapping[Ignored, int]
    """To the number of samples."""
    dropped: Mapping[str, int]
    """Reason to the number of samples that should have counted and could not."""
    strange: tuple[Ignored, ...]
    """Of those ignored, the ones with an unknown label value."""


@dataclass(slots=True)
class _Session:
    series: dict[tuple[str, str], Series] = field(default_factory=dict)
    implausible: dict[str, None] = field(default_factory=dict)
    of_unknown_type: dict[str, None] = field(default_factory=dict)
    """Metrics with tokens of unknown types."""
    newest: float | None = None
    owners: dict[str, dict[str, None]] = field(default_factory=dict)
    """Label that says whose the run is, to the values it has."""


class _Page:
    """The samples of one page, as far as they were taken in."""

    def __init__(self, preset: Preset, place: str, details: Details) -> None:
        self.preset, self.place = preset, place
        self.token_kinds = details.token_kinds
        self.owner_labels = preset.owner_labels(details.labels)
        self.rules = {
            name: (index, rule) for index, rule in enumerate(preset.metrics) for name in rule.names
        }
        self.sessions: dict[str, _Session] = {}
        self.ignored: Counter[Ignored] = Counter()
        self.dropped: Counter[str] = Counter()
        self.strange: dict[Ignored, None] = {}

    def add(self, sample: Sample) -> None:
        known = self.rules.get(sample.name)
        if known is None:
            return
        index, rule = known
        for skip in self.preset.skip:
            if sample.labels.get(skip.label) in skip.values:
                self._ignore(sample, (skip.label,), skip.why)
                return
        if rule.counts == (roles.REPEAT,):
            self._ignore(sample, (), rule.why or "repeats what is counted elsewhere")
            return
        session_id = session_of(self.preset, sample.labels, self.place)
        if session_id is None:
            self.dropped[semconv.BAD_SESSION_ID] += 1
            self._ignore(sample, self.preset.session_labels, "this cannot be a session id")
            return
        self._count(self.sessions.setdefault(session_id, _Session()), sample, index, rule)

    def _count(self, session: _Session, sample: Sample, index: int, rule: MetricRule) -> None:
        session.newest = later(session.newest, sample.timestamp)
        self._note_owner(session, sample.labels)
        found = rule.roles(sample.labels)
        if found is None:
            self._unknown(session, sample, rule)
        elif roles.REPEAT in found:
            self._ignore(sample, rule.label, rule.why or "repeats what is counted elsewhere")
        elif not _may_be(sample, rule):
            self._refuse(
                session,
                sample,
                semconv.BAD_TYPE,
                f"declared as {sample.declared}, not as a counter",
            )
        elif not plausible(sample.value):
            self._refuse(
                session,
                sample,
                semconv.IMPLAUSIBLE,
                f"{sample.value:g} cannot be the value of a counter",
            )
        elif rule.zero == "unknown" and sample.value == 0:
            self._ignore(sample, (), rule.why or "0 means unknown here")
        else:
            self._keep(session, sample, index, found)

    def _note_owner(self, session: _Session, labels: Mapping[str, str]) -> None:
        """Note whose the run is, as far as a series says it."""
        for name, spellings in self.owner_labels.items():
            _, value = first_of(spellings, labels)
            if value and is_label_value(value):
                known = session.owners.setdefault(name, {})
                if len(known) < _OWNERS_MOST:
                    known[value] = None

    def _owner_of(self, session_id: str, session: _Session) -> Mapping[str, str] | None:
        """Return whose a run is; None if nothing says it.

        Of several values the same one, in whatever order they come; but none for the run of all
        that a program does not tell apart, which is nobody's then.
        """
        one_for_all = session_id == session_of(self.preset, {}, self.place)
        found = {
            name: min(values)
            for name, values in session.owners.items()
            if len(values) == 1 or not one_for_all
        }
        return shared_labels(found) if found else None

    def _keep(self, session: _Session, sample: Sample, index: int, found: tuple[str, ...]) -> None:
        whole = next((role for role in found if role in roles.WHOLES), found[0])
        value = quantity_of(roles.RESOURCE_OF.get(whole, semconv.TOKENS)).from_float_sum(
            sample.value
        )
        labels = {k: v for k, v in sample.labels.items() if k not in self.preset.session_labels}
        key = (sample.name, labels_text(labels))
        known = session.series.get(key)
        if known is not None:
            self.dropped[semconv.DUPLICATE] += 1
            self._ignore(sample, (), "is there twice; the larger value counts")
            value = max(known.value, value)
        session.series[key] = Series(index, sample.name, labels, found, value)

    def _unknown(self, session: _Session, sample: Sample, rule: MetricRule) -> None:
        what = f"not a {rule.label[0]} that preset {self.preset.name} knows: not counted"
        self.dropped[TOKEN_TYPE] += 1
        self.strange[self._ignore(sample, rule.label, what)] = None
        tokens = {*roles.PARTS, roles.INPUT, roles.OUTPUT, roles.TOKENS}
        if sample.value != 0 and tokens.intersection(rule.all_roles):
            session.of_unknown_type[sample.name] = None

    def _refuse(self, session: _Session, sample: Sample, reason: str, words: str) -> None:
        # The use is there and cannot be read: unknown, which is not 0.
        self.dropped[reason] += 1
        session.implausible[sample.name] = None
        self._ignore(sample, (), words)

    def _ignore(self, sample: Sample, by: Iterable[str], reason: str) -> Ignored:
        labels = tuple((name, sample.labels[name]) for name in by if name in sample.labels)
        ignored = Ignored(sample.name, labels, reason)
        self.ignored[ignored] += 1
        return ignored

    def sessions_counted(self) -> tuple[ForeignRun, ...]:
        found = []
        for session_id, session in self.sessions.items():
            many = list(session.series.values())
            result = deduplicate(self.preset, many, token_kinds=self.token_kinds)
            for series, labels, reason in result.repeated:
                self.ignored[Ignored(series.name, labels, reason)] += 1
            unread, at_least = session.implausible, bool(session.of_unknown_type)
            if at_least and roles.TOKENS not in result.amounts:
                # Nothing of its tokens is known: the run is there, and in doubt.
                unread = {**unread, **session.of_unknown_type}
            if result.amounts or unread:
                names = tuple(sorted(unread))
                found.append(
                    ForeignRun(
                        session_id,
                        result.amounts,
                        result.counters,
                        names,
                        at_least,
                        session.newest,
                        self._owner_of(session_id, session),
                    )
                )
        return tuple(found)


def count(
    preset: Preset, samples: Iterable[Sample], place: str = "", details: Details = NO_DETAILS
) -> Counted:
    """Return what the samples of one page add up to, per run, in any order of them.

    place: names the page in the id of a run that its program does not name. details: what of the
    runs is read.
    """
    page = _Page(preset, place, details)
    for sample in samples:
        page.add(sample)
    sessions = page.sessions_counted()
    return Counted(sessions, dict(page.ignored), dict(page.dropped), tuple(page.strange))


def assembled(counted: Counted, target: str, sampled_at: float, process: str = "") -> Assembled:
    """Return the runs as every source gives them; arguments as in ``assemble``."""
    sessions = tuple(
        RunObservation(
            session.session_id,
            target,
            sampled_at,
            session.counters,
            # It is not known how many calls; one is enough for the tokens to be "at least".
            RunAttributes(
                unknown_usage_calls=1.0 if session.at_least else None, labels=session.labels
            ),
            session.implausible,
            process,
        )
        for session in counted.sessions
        if session.counters or session.implausible
    )
    times = told_times((session.session_id, session.newest) for session in counted.sessions)
    return Assembled(sessions, counted.dropped, times)


def uncounted(counted: Counted) -> str:
    """Say what should have counted and could not; empty if there is nothing."""
    words = [one.in_words() for one in counted.strange]
    bad_ids = counted.dropped.get(semconv.BAD_SESSION_ID)
    if bad_ids:
        words.append(f"{bad_ids:,} samples have no valid session id")
    return "; ".join(words)


def session_of(preset: Preset, labels: Mapping[str, str], place: str) -> str | None:
    """Return the session id of the run a series belongs to; None if the label holds no valid one.

    A series that names none belongs to the one run of its page: ``PRESET@PLACE``.
    """
    _, value = first_of(preset.session_labels, labels)
    if not value or value in preset.nameless:
        at = _NO_SESSION_ID.sub("-", place.replace("[", "").replace("]", ""))
        return f"{preset.name}@{at}"[:_LONGEST_SESSION_ID] if at else preset.name
    return value if SESSION_ID_PATTERN.fullmatch(value) else None


def _may_be(sample: Sample, rule: MetricRule) -> bool:
    histogram = sample.name.endswith(("_sum", "_count"))
    gauge = rule.gauge and sample.declared == "gauge"
    return gauge or sample.declared in (_HISTOGRAM_TYPES if histogram else COUNTER_TYPES)
