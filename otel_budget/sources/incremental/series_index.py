"""The series of one target, by run: of each new page or answer only the changes are taken in.

What comes out is what ``assemble`` makes of all samples. It is asked again for a run that came,
went, or changed its series; where only a value changed, that is put in its place, unless something
of the run was refused or is there twice.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from otel_budget import semconv
from otel_budget.core.observation import RunAttributes, RunObservation
from otel_budget.core.owner_labels import NO_DETAILS, Details
from otel_budget.core.resources import COUNTERS, quantity_of
from otel_budget.core.samples import (
    COUNTER_TYPES,
    Assembled,
    Sample,
    labels_text,
    plausible,
)
from otel_budget.sources.session_assembly import SINGLE_ATTRIBUTES, assemble, counter_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_budget.core.quantities import Number


_NONE: frozenset[str] = frozenset()
_PLACES: Final = {name: place for place, name in enumerate(RunAttributes._fields)}
#: Kinds of series to share at one target; a target that labels by request gains nothing by more.
_KINDS_KEPT = 1000


class Kind:
    """What series of several runs have in common."""

    __slots__ = ("counter", "declared", "judged", "labels", "name", "number", "rule")

    def __init__(self, name: str, labels: Mapping[str, str], declared: str | None) -> None:
        """labels: without the session id."""
        self.name, self.labels, self.declared = name, labels, declared
        self.rule = SINGLE_ATTRIBUTES.get(name)
        """How it is taken in, if it is a single attribute."""
        self.counter: tuple[str, str] | None = None
        """Resource, or kind of tokens, and further labels, if it is such a counter."""
        resource = counter_of(name, labels)
        self.number = quantity_of(resource or "").from_sample
        """What makes an amount of its value."""
        self.judged = name in COUNTERS
        if resource is not None and declared in COUNTER_TYPES:
            self.counter = resource, labels_text(labels)


class Slot:
    """One series, with its newest value."""

    __slots__ = ("kind", "session", "value")

    def __init__(self, session: _RunSlots, kind: Kind, value: float) -> None:
        self.session, self.kind, self.value = session, kind, value

    @property
    def name(self) -> str:
        """Return the name of the metric."""
        return self.kind.name

    @property
    def series(self) -> tuple[str, dict[str, str]]:
        """Return name and labels."""
        return self.name, {**self.kind.labels, semconv.SESSION_ID: self.session.session_id}


class _RunSlots:
    """The slots of one run, and what they come to."""

    __slots__ = (
        "attributes", "changed_slots", "counters", "dropped", "implausible", "index", "is_stale",
        "repeated", "session_id", "slots",
    )  # fmt: skip

    def __init__(self, index: SeriesIndex, session_id: str) -> None:
        self.index, self.session_id = index, session_id
        self.slots: list[Slot] = []
        self.counters: Mapping[tuple[str, str], Number] | None = None
        """None if it is not a run: nothing of it is judged."""
        self.attributes = RunAttributes()
        self.implausible: tuple[str, ...] = ()
        self.dropped: Mapping[str, int] = {}
        self.repeated: frozenset[str] = _NONE
        """Metrics of single attributes that several series give."""
        self.changed_slots: list[Slot] = []
        """Those that have another value."""
        self.is_stale = False
        """True if it has to be assembled again."""

    def assemble_all(self, target: str) -> None:
        """Assemble the run from all its slots."""
        samples = [Sample(*slot.series, slot.value, slot.kind.declared) for slot in self.slots]
        found = assemble(samples, target, 0.0, details=self.index.details)
        self.dropped, self.counters = found.dropped, None
        attributes = [slot.name for slot in self.slots if slot.kind.rule is not None]
        if len(set(attributes)) < len(attributes):
            self.repeated = frozenset(name for name in attributes if attributes.count(name) > 1)
        else:
            self.repeated = _NONE
        for observation in found.sessions:
            self.counters, self.attributes = observation.counters, observation.attributes
            self.implausible = observation.implausible

    def apply_values(self) -> bool:
        """Take over changed values; return False if that is not enough."""
        if self.counters is None or self.dropped or self.implausible:
            return False
        counters: dict[tuple[str, str], Number] = {}
        attributes: dict[str, Any] = {}
        further: dict[str, float] = {}
        for slot in self.changed_slots:
            kind, value = slot.kind, slot.value
            if kind.counter is not None and plausible(value):
                counters[kind.counter] = kind.number(value)
            elif kind.rule is not None and kind.rule.allows(value):
                if kind.name in self.repeated:
                    return False
                if kind.rule.further:
                    further[kind.rule.further] = value
                else:
                    attributes[kind.rule.attribute] = value
            else:
                return False
        if counters:
            self.counters = {**self.counters, **counters}
        if further:
            known = self.attributes.progress_further or {}
            attributes["progress_further"] = {**known, **further}
        if attributes:
            self.attributes = _changed(self.attributes, attributes)
        return True


def _changed(attributes: RunAttributes, values: Mapping[str, Any]) -> RunAttributes:
    """Return attributes with other values, as _replace does, which looks for each of the fields."""
    row = list(attributes)
    for name, value in values.items():
        row[_PLACES[name]] = value
    return RunAttributes._make(row)


class SeriesIndex:
    """The runs of one target."""

    def __init__(self, target: str, process: str = "", details: Details = NO_DETAILS) -> None:
        """process: as in RunObservation. details: what of the runs is read."""
        self.target, self.process, self.details = target, process, details
        self._sessions: dict[str, _RunSlots] = {}
        self._kinds: dict[tuple[str, str | None, tuple[tuple[str, str], ...]], Kind] = {}
        self._changed: dict[str, _RunSlots] = {}
        self._dropped: dict[str, _RunSlots] = {}
        """Those of which something was refused."""

    def shows(self, session_id: str) -> bool:
        """Tell whether there is a series of a run."""
        session = self._sessions.get(session_id)
        return session is not None and bool(session.slots)

    @property
    def is_empty(self) -> bool:
        """True if there is none of any run; of what is read by now."""
        return not self._sessions

    def add(self, sample: Sample) -> Slot:
        """Take in a series that was not there."""
        session_id = sample.labels.get(semconv.SESSION_ID, "")
        session = self._sessions.get(session_id)
        if session is None:
            session = self._sessions[session_id] = _RunSlots(self, session_id)
        slot = Slot(session, self._kind(sample), sample.value)
        session.slots.append(slot)
        self._mark_stale(session)
        return slot

    def _kind(self, sample: Sample) -> Kind:
        """Return what the series has in common with those of other runs."""
        labels = tuple(item for item in sample.labels.items() if item[0] != semconv.SESSION_ID)
        key = (sample.name, sample.declared, labels)
        known = self._kinds.get(key)
        if known is None:
            if len(self._kinds) >= _KINDS_KEPT:
                self._kinds.clear()
            known = self._kinds[key] = Kind(sample.name, dict(labels), sample.declared)
        return known

    def remove(self, slot: Slot) -> None:
        """Let go of a series that is there no more."""
        slot.session.slots.remove(slot)
        self._mark_stale(slot.session)

    def change(self, slot: Slot, value: float) -> None:
        """Give a series another value."""
        slot.value = value
        session = slot.session
        if not session.changed_slots:
            self._changed[session.session_id] = session
        session.changed_slots.append(slot)

    def read(self, date_of: Callable[[str, str], float]) -> Assembled:
        """Return all runs. date_of: when the samples of target and session id were taken."""
        for session in self._changed.values():
            self._refresh(session)
        self._changed = {}
        dropped: Counter[str] = Counter()
        for session in self._dropped.values():
            dropped.update(session.dropped)
        target, process = self.target, self.process
        return Assembled(
            tuple(
                RunObservation(
                    s.session_id,
                    target,
                    date_of(target, s.session_id),
                    s.counters,
                    s.attributes,
                    s.implausible,
                    process,
                )
                for s in self._sessions.values()
                if s.counters is not None
            ),
            dropped,
        )

    def _mark_stale(self, session: _RunSlots) -> None:
        session.is_stale = True
        self._changed[session.session_id] = session

    def _refresh(self, session: _RunSlots) -> None:
        is_stale = session.is_stale or not session.apply_values()
        session.is_stale, session.changed_slots = False, []
        if not is_stale:
            return
        self._dropped.pop(session.session_id, None)
        if not session.slots:
            del self._sessions[session.session_id]
            return
        session.assemble_all(self.target)
        if session.dropped:
            self._dropped[session.session_id] = session
