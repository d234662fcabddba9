"""From the raw samples of one target to its runs. Pure; the same for every source.

The rules:
- A run is there if one of the judged counters was seen for it. If its value had to be refused, the
  run is there with that metric named, and nothing is made up in its place.
- The series of one counter are kept apart by their further labels; the ledger adds them up.
- What no counter can be (NaN, infinite, negative, above 2^53) is dropped and counted.
- Where a target says the same thing twice, the stricter counts: the larger use, the smaller limit.
- Whose a run is, its labels, is no number: what cannot be read of it is left out, and costs the run
  nothing else.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from otel_budget import semconv
from otel_budget.core.observation import RunAttributes, RunObservation
from otel_budget.core.owner_labels import NO_DETAILS, Details, owner_labels, parent_of
from otel_budget.core.resources import COUNTERS, FURTHER, RESOURCES, quantity_of
from otel_budget.core.samples import (
    COUNTER_TYPES,
    Assembled,
    Sample,
    labels_text,
    later,
    plausible,
    told_times,
)
from otel_budget.core.token_kinds import KIND_COUNTERS
from otel_budget.core.validation import MAX_COUNT, SESSION_ID_PATTERN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from otel_budget.core.quantities import Number


@dataclass(frozen=True, slots=True)
class _Rule:
    """How one attribute of a run is taken in."""

    attribute: str
    """The field of RunAttributes."""
    merge: Callable[[Number, Number], Number]
    """What counts where a target says it twice."""
    top: float = MAX_COUNT
    positive: bool = False
    """True if 0 is not allowed."""
    by_resource: bool = False
    further: str = ""
    """The further resource that it is of, in the mapping of that attribute; empty: it is none."""

    def allows(self, value: float) -> bool:
        """Return whether the attribute can have this value."""
        return plausible(value, self.top) and not (self.positive and value == 0)


_RULES: Final = {
    semconv.CARRIED_OVER.name: _Rule("carried_over", max, by_resource=True),
    semconv.LIMIT.name: _Rule("limits", min, by_resource=True),
    semconv.WARNING_THRESHOLD.name: _Rule(
        "thresholds", min, top=1, positive=True, by_resource=True
    ),
    semconv.COMPLETION_THRESHOLD.name: _Rule("completion_threshold", max, top=1, positive=True),
    semconv.PROGRESS.name: _Rule("progress", min, top=1),
    # As of the earliest: what was used since must not look like what was used before.
    semconv.PROGRESS_TOKENS.name: _Rule("progress_tokens", min),
    semconv.PROGRESS_API_CALLS.name: _Rule("progress_api_calls", min),
    semconv.PROGRESS_COST.name: _Rule("progress_cost", min),
    semconv.DURATION_SECONDS.name: _Rule("duration", max),
    semconv.ACTIVE_SECONDS.name: _Rule("active", max),
    semconv.SESSION_START.name: _Rule("started_at", max),
    semconv.INCARNATION_START.name: _Rule("incarnation_at", max),
    semconv.UNPRICED_CALLS.name: _Rule("unpriced_calls", max),
    semconv.UNKNOWN_USAGE_CALLS.name: _Rule("unknown_usage_calls", max),
    semconv.ESTIMATED_CALLS.name: _Rule("estimated_calls", max),
    semconv.WRAP_UP_CALLS.name: _Rule("wrap_up_calls", max),
    semconv.OPTIONAL_SERIES.name: _Rule("optional_series", max),
    semconv.WAITING_SINCE.name: _Rule("waiting_since", min),
    semconv.LIMITS_FROM_OUTSIDE.name: _Rule("limits_from_outside", min, top=1),
    semconv.FOLLOWS_COMPLETED.name: _Rule("follows_completed", min, top=1),
    **{
        row.at_progress.name: _Rule("progress_further", min, further=row.name)
        for row in FURTHER.values()
        if row.at_progress is not None
    },
}

#: Those with one value for a run.
SINGLE_ATTRIBUTES: Final = {name: rule for name, rule in _RULES.items() if not rule.by_resource}
#: Every metric the assembly makes something of: a source need not bring others.
NEEDED: Final = (*COUNTERS, *_RULES, semconv.SESSION_STATE.name, semconv.SESSION_INFO.name)


#: The counters of kinds of tokens, and the label that says which kind a series is of.
_KIND_LABELS: Final = {
    semconv.PHASE_TOKENS.name: semconv.TOKEN_TYPE,
    semconv.PHASE_TOKEN_DETAILS.name: semconv.DETAIL,
}
#: Labels of all these series, besides the run's.
KIND_LABELS: Final = frozenset((*semconv.PHASE_TOKENS.labels, *semconv.PHASE_TOKEN_DETAILS.labels))


def needed(details: Details) -> tuple[str, ...]:
    """Return every metric the assembly makes something of, with these details."""
    return (*NEEDED, *_KIND_LABELS) if details.token_kinds else NEEDED


def counter_of(name: str, labels: Mapping[str, str]) -> str | None:
    """Return what a series counts: a resource, or a kind of tokens; None if that is neither."""
    if name in _KIND_LABELS:
        return KIND_COUNTERS.get(labels.get(_KIND_LABELS[name], ""))
    return COUNTERS.get(name)


@dataclass(slots=True)
class _RunSamples:
    counters: dict[tuple[str, str], Number] = field(default_factory=dict)
    implausible: dict[str, None] = field(default_factory=dict)
    single: dict[str, Number] = field(default_factory=dict)
    by_resource: dict[str, dict[str, Number]] = field(default_factory=dict)
    further: dict[str, Number] = field(default_factory=dict)
    """What was used of further resources when the run reported its progress."""
    state: str | None = None
    labels: Mapping[str, str] | None = None
    parent: str | None = None
    newest: float | None = None
    """The newest time of its counters' samples; infinite if one bears none."""
    is_judged: bool = False
    """True if a judged counter was seen for it."""

    def observation(
        self, session_id: str, target: str, sampled_at: float, process: str
    ) -> RunObservation:
        single: dict[str, Any] = {**self.by_resource, **self.single}
        attributes = RunAttributes(
            **single,
            state=self.state,
            progress_further=dict[str, Any](self.further) or None,
            labels=self.labels,
            parent=self.parent,
        )
        implausible = tuple(sorted(self.implausible))
        return RunObservation(
            session_id, target, sampled_at, self.counters, attributes, implausible, process
        )


class _Assembly:
    """The samples of one target, as far as they were taken in."""

    def __init__(self, details: Details) -> None:
        self.owner_labels, self.token_kinds = details.labels, details.token_kinds
        self.sessions: dict[str, _RunSamples] = {}
        self.dropped: Counter[str] = Counter()
        self._seen: set[tuple[str, str, str]] = set()

    def add(self, sample: Sample) -> None:
        if sample.name not in _TAKE:
            return
        session_id = sample.labels.get(semconv.SESSION_ID, "")
        session = self.sessions.get(session_id)
        if session is None:
            if SESSION_ID_PATTERN.fullmatch(session_id) is None:
                self.dropped[semconv.BAD_SESSION_ID] += 1
                return
            session = self.sessions[session_id] = _RunSamples()
        _TAKE[sample.name](self, session, sample)

    def counter(self, session: _RunSamples, sample: Sample) -> None:
        session.newest = later(session.newest, sample.timestamp)
        if sample.declared not in COUNTER_TYPES:
            # The use is there and cannot be read: unknown, which is not 0.
            self.dropped[semconv.BAD_TYPE] += 1
            session.implausible[sample.name] = None
            return
        if not plausible(sample.value):
            self.dropped[semconv.IMPLAUSIBLE] += 1
            session.implausible[sample.name] = None
            return
        session.is_judged = True
        self._keep(session, COUNTERS[sample.name], sample)

    def kind(self, session: _RunSamples, sample: Sample) -> None:
        """Take in tokens of one kind; those that cannot be read are of no known kind, no more."""
        counter = counter_of(sample.name, sample.labels) if self.token_kinds else None
        if counter is None:
            return
        if sample.declared not in COUNTER_TYPES:
            self.dropped[semconv.BAD_TYPE] += 1
        elif not plausible(sample.value):
            self.dropped[semconv.IMPLAUSIBLE] += 1
        else:
            self._keep(session, counter, sample)

    def _keep(self, session: _RunSamples, counter: str, sample: Sample) -> None:
        key = (counter, labels_text(sample.labels))
        value = quantity_of(counter).from_sample(sample.value)
        known = session.counters.get(key)
        if known is not None:
            self.dropped[semconv.DUPLICATE] += 1
            value = max(known, value)
        session.counters[key] = value

    def attribute(self, session: _RunSamples, sample: Sample) -> None:
        rule = _RULES[sample.name]
        resource = sample.labels.get(semconv.RESOURCE, "") if rule.by_resource else ""
        if rule.by_resource and resource and resource not in RESOURCES:
            return  # a newer agent may say more
        unlimited = rule.attribute == "limits" and sample.value == math.inf
        of_nothing = rule.by_resource and not resource
        if of_nothing or not (unlimited or rule.allows(sample.value)):
            # Dropped alone it would look as if there were none: no limit is "unlimited".
            self.dropped[semconv.IMPLAUSIBLE] += 1
            session.implausible[sample.name] = None
            return
        self._count_duplicate(sample)
        if rule.by_resource:
            values, key = session.by_resource.setdefault(rule.attribute, {}), resource
            exact = rule.top != 1 and not unlimited
        elif rule.further:
            values, key, exact = session.further, rule.further, False
        else:
            values, key, exact = session.single, rule.attribute, False
        value = quantity_of(resource).from_sample(sample.value) if exact else float(sample.value)
        values[key] = rule.merge(values.get(key, value), value)

    def state(self, session: _RunSamples, sample: Sample) -> None:
        state = sample.labels.get(semconv.STATE, "")
        if state not in semconv.SESSION_STATES:
            return
        if sample.value not in (0, 1):
            self.dropped[semconv.IMPLAUSIBLE] += 1
            session.implausible[sample.name] = None
            return
        self._count_duplicate(sample)
        # Two states at once: the run has not surely ended, so it is not taken to have ended.
        over = session.state is None or session.state in semconv.ENDED_STATES
        if sample.value == 1 and over:
            session.state = state

    def info(self, session: _RunSamples, sample: Sample) -> None:
        if sample.value != 1:
            return
        self._count_duplicate(sample)
        found = owner_labels(sample.labels, self.owner_labels)
        if session.labels is None or sorted(found.items()) < sorted(session.labels.items()):
            session.labels = found  # the same one of several, in whatever order they come
        try:
            parent = parent_of(sample.labels)
        except ValueError:
            self.dropped[semconv.BAD_SESSION_ID] += 1
            return
        if parent is not None and (session.parent is None or parent < session.parent):
            session.parent = parent

    def _count_duplicate(self, sample: Sample) -> None:
        session_id = sample.labels.get(semconv.SESSION_ID, "")
        series = (sample.name, session_id, labels_text(sample.labels))
        self.dropped[semconv.DUPLICATE] += series in self._seen
        self._seen.add(series)


_TAKE: Final = {
    **dict.fromkeys(_KIND_LABELS, _Assembly.kind),
    **dict.fromkeys(COUNTERS, _Assembly.counter),
    **dict.fromkeys(_RULES, _Assembly.attribute),
    semconv.SESSION_STATE.name: _Assembly.state,
    semconv.SESSION_INFO.name: _Assembly.info,
}


def assemble(
    samples: Iterable[Sample],
    target: str,
    sampled_at: float,
    process: str = "",
    details: Details = NO_DETAILS,
) -> Assembled:
    """Return the runs of one target, from all its samples in any order.

    sampled_at: when the target was read, in seconds on the reader's own clock. process: as in
    RunObservation. details: what of them is read.
    """
    assembly = _Assembly(details)
    for sample in samples:
        assembly.add(sample)
    sessions = tuple(
        session.observation(session_id, target, sampled_at, process)
        for session_id, session in assembly.sessions.items()
        if session.is_judged or not COUNTERS.keys().isdisjoint(session.implausible)
    )
    return Assembled(
        sessions,
        {k: n for k, n in assembly.dropped.items() if n},
        told_times((session_id, found.newest) for session_id, found in assembly.sessions.items()),
    )
