"""The sessions of one target as they stand: of what a target shows anew only changes are taken in.

What comes out is what ``assemble`` makes of all its samples: of a session that came, went or
changed its series it is asked again; a value alone that changed is put in its place, where the
session has nothing that was refused or said twice.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.core.observation import RunAttributes, RunObservation
from otel_budget.core.resources import COUNTERS, quantity_of
from otel_budget.core.samples import (
    COUNTER_TYPES,
    Assembled,
    Sample,
    labels_text,
    plausible,
)
from otel_budget.sources.session_assembly import SINGLE_FACTS, assemble

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_budget.core.quantities import Number


_NONE: frozenset[str] = frozenset()
#: Kinds of series to share at one target; who labels by request has no use for more.
_KINDS_KEPT = 1000


class Kind:
    """What series of several sessions have in common."""

    __slots__ = ("counter", "declared", "judged", "labels", "name", "number", "rule")

    def __init__(self, name: str, labels: Mapping[str, str], declared: str | None) -> None:
        """Keep what is known of it. labels: without the session id."""
        self.name, self.labels, self.declared = name, labels, declared
        self.rule = SINGLE_FACTS.get(name)
        """How it is taken in, if it is a single fact."""
        self.counter: tuple[str, str] | None = None
        """Resource and further labels, if it is a judged counter."""
        resource = COUNTERS.get(name)
        self.number = quantity_of(resource or "").from_sample
        """What makes an amount of its value."""
        self.judged = resource is not None
        if resource is not None and declared in COUNTER_TYPES:
            self.counter = resource, labels_text(labels)


class Slot:
    """One series, with its newest value."""

    __slots__ = ("kind", "session", "value")

    def __init__(self, session: _Session, kind: Kind, value: float) -> None:
        """Keep what is known of it."""
        self.session, self.kind, self.value = session, kind, value

    @property
    def name(self) -> str:
        """Return the name of the metric."""
        return self.kind.name

    @property
    def series(self) -> tuple[str, dict[str, str]]:
        """Return name and labels."""
        return self.name, {**self.kind.labels, semconv.SESSION_ID: self.session.session_id}


class _Session:
    """What all slots of one session id come to."""

    __slots__ = (
        "anew", "attributes", "counters", "dropped", "implausible", "moved", "repeated",
        "session_id", "slots", "standing",
    )  # fmt: skip

    def __init__(self, standing: SeriesIndex, session_id: str) -> None:
        self.standing, self.session_id = standing, session_id
        self.slots: list[Slot] = []
        self.counters: Mapping[tuple[str, str], Number] | None = None
        """None if it is no session: nothing of it is judged."""
        self.attributes = RunAttributes()
        self.implausible: tuple[str, ...] = ()
        self.dropped: Mapping[str, int] = {}
        self.repeated: frozenset[str] = _NONE
        """Metrics of single facts that several series give."""
        self.moved: list[Slot] = []
        """Those that have another value."""
        self.anew = False
        """True if it has to be put together anew."""

    def put_together(self, target: str) -> None:
        """Have all of it assembled."""
        samples = [Sample(*slot.series, slot.value, slot.kind.declared) for slot in self.slots]
        found = assemble(samples, target, 0.0)
        self.dropped, self.counters = found.dropped, None
        attributes = [slot.name for slot in self.slots if slot.kind.rule is not None]
        if len(set(attributes)) < len(attributes):
            self.repeated = frozenset(name for name in attributes if attributes.count(name) > 1)
        else:
            self.repeated = _NONE
        for reading in found.sessions:
            self.counters, self.attributes = reading.counters, reading.attributes
            self.implausible = reading.implausible

    def put_in_place(self) -> bool:
        """Take over the values that are others; return False if that alone does not do."""
        if self.counters is None or self.dropped or self.implausible:
            return False
        counters, attributes = dict[tuple[str, str], "Number"](), dict[str, float]()
        for slot in self.moved:
            kind, value = slot.kind, slot.value
            if kind.counter is not None and plausible(value):
                counters[kind.counter] = kind.number(value)
            elif kind.rule is not None and kind.rule.allows(value):
                if kind.name in self.repeated:
                    return False
                attributes[kind.rule.fact] = value
            else:
                return False
        if counters:
            self.counters = {**self.counters, **counters}
        if attributes:
            self.attributes = self.attributes._replace(**attributes)  # type: ignore[arg-type] # floats
        return True


class SeriesIndex:
    """The sessions of one target."""

    def __init__(self, target: str, process: str = "") -> None:
        """Begin with none. process: as in RunObservation."""
        self.target, self.process = target, process
        self._sessions: dict[str, _Session] = {}
        self._kinds: dict[tuple[str, str | None, tuple[tuple[str, str], ...]], Kind] = {}
        self._changed: dict[str, _Session] = {}
        self._dropped: dict[str, _Session] = {}
        """Those of which something was refused."""

    def shows(self, session_id: str) -> bool:
        """Tell whether there is a series of a session."""
        session = self._sessions.get(session_id)
        return session is not None and bool(session.slots)

    @property
    def is_empty(self) -> bool:
        """True if there is none of any session; of what is read by now."""
        return not self._sessions

    def add(self, sample: Sample) -> Slot:
        """Take in a series that was not there."""
        session_id = sample.labels.get(semconv.SESSION_ID, "")
        session = self._sessions.get(session_id)
        if session is None:
            session = self._sessions[session_id] = _Session(self, session_id)
        slot = Slot(session, self._kind(sample), sample.value)
        session.slots.append(slot)
        self._put_anew(session)
        return slot

    def _kind(self, sample: Sample) -> Kind:
        """Return what the series has in common with those of other sessions."""
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
        self._put_anew(slot.session)

    def change(self, slot: Slot, value: float) -> None:
        """Give a series another value."""
        slot.value = value
        session = slot.session
        if not session.moved:
            self._changed[session.session_id] = session
        session.moved.append(slot)

    def read(self, date_of: Callable[[str, str], float]) -> Assembled:
        """Return all sessions. date_of: when the samples of target and session id were taken."""
        for session in self._changed.values():
            self._bring_up_to_date(session)
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

    def _put_anew(self, session: _Session) -> None:
        session.anew = True
        self._changed[session.session_id] = session

    def _bring_up_to_date(self, session: _Session) -> None:
        anew = session.anew or not session.put_in_place()
        session.anew, session.moved = False, []
        if not anew:
            return
        self._dropped.pop(session.session_id, None)
        if not session.slots:
            del self._sessions[session.session_id]
            return
        session.put_together(self.target)
        if session.dropped:
            self._dropped[session.session_id] = session
