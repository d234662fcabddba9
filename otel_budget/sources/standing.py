"""The sessions of one target as they stand: of what a target shows anew only changes are taken in.

What comes out is what ``assemble`` makes of all its samples: of a session that came, went or
changed its series it is asked again; a value alone that changed is put in its place, where the
session has nothing that was refused or said twice.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.model.reading import SessionReading
from otel_budget.sources.assemble import (
    COUNTER_TYPES,
    SINGLE_FACTS,
    Assembled,
    Sample,
    assemble,
    labels_text,
    number,
    plausible,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


class Slot:
    """One series, with its newest value."""

    __slots__ = ("declared", "labels", "name", "session", "value")

    def __init__(
        self,
        session: _Session,
        name: str,
        labels: Mapping[str, str],
        value: float,
        declared: str | None,
    ) -> None:
        """Keep what is known of it."""
        self.session, self.name, self.labels = session, name, labels
        self.value, self.declared = value, declared

    @property
    def series(self) -> tuple[str, dict[str, str]]:
        """Return name and labels."""
        return self.name, dict(self.labels)


class _Session:
    """What all slots of one session id come to."""

    __slots__ = ("changed", "dropped", "labels", "reading", "session_id", "slots")

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.slots: list[Slot] = []
        self.labels: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
        """Most series of a session have the same labels: they share one mapping."""
        self.reading: SessionReading | None = None
        self.dropped: Mapping[str, int] = {}
        self.changed = False
        """True if it has to be put together anew."""


class Standing:
    """The sessions of one target."""

    def __init__(self, target: str) -> None:
        """Begin with none."""
        self._target = target
        self._sessions: dict[str, _Session] = {}
        self._changed: dict[str, _Session] = {}
        self._dropped: dict[str, _Session] = {}
        """Those of which something was refused."""

    def add(self, sample: Sample) -> Slot:
        """Take in a series that was not there."""
        session_id = sample.labels.get(semconv.SESSION_ID, "")
        session = self._sessions.get(session_id)
        if session is None:
            session = self._sessions[session_id] = _Session(session_id)
        labels = session.labels.setdefault(tuple(sample.labels.items()), sample.labels)
        slot = Slot(session, sample.name, labels, sample.value, sample.declared)
        session.slots.append(slot)
        self._touch(session)
        return slot

    def remove(self, slot: Slot) -> None:
        """Let go of a series that is there no more."""
        slot.session.slots.remove(slot)
        self._touch(slot.session)

    def change(self, slot: Slot, value: float) -> None:
        """Give a series another value."""
        slot.value = value
        session = slot.session
        if session.changed:
            return
        changed = None if session.dropped else _changed(session.reading, slot)
        if changed is None:
            self._touch(session)
        session.reading = changed

    def read(self, sampled_at: float) -> Assembled:
        """Return all sessions, as sampled at this time."""
        for session in self._changed.values():
            self._put_together(session)
        self._changed = {}
        dropped: Counter[str] = Counter()
        for session in self._dropped.values():
            dropped.update(session.dropped)
        return Assembled(
            tuple(
                SessionReading(
                    r.session_id, r.target, sampled_at, r.counters, r.facts, r.implausible
                )
                for session in self._sessions.values()
                if (r := session.reading) is not None
            ),
            dropped,
        )

    def _touch(self, session: _Session) -> None:
        if not session.changed:
            session.changed = True
            self._changed[session.session_id] = session

    def _put_together(self, session: _Session) -> None:
        session.changed = False
        if not session.slots:
            del self._sessions[session.session_id]
            self._dropped.pop(session.session_id, None)
            return
        samples = [Sample(s.name, s.labels, s.value, s.declared) for s in session.slots]
        found = assemble(samples, self._target, 0.0)
        session.reading = found.sessions[0] if found.sessions else None
        session.dropped = found.dropped
        if found.dropped:
            self._dropped[session.session_id] = session
        else:
            self._dropped.pop(session.session_id, None)


def _changed(reading: SessionReading | None, slot: Slot) -> SessionReading | None:
    """Return a session with the slot's value in its place; None if that alone does not do."""
    if reading is None or reading.implausible:
        return None
    name, value = slot.name, slot.value
    resource = semconv.JUDGED_COUNTERS.get(name)
    if resource is not None:
        if slot.declared not in COUNTER_TYPES or not plausible(value):
            return None
        key = (resource, "" if len(slot.labels) == 1 else labels_text(slot.labels))
        counters = {**reading.counters, key: number(resource, value)}
        return dataclasses.replace(reading, counters=counters)
    rule = SINGLE_FACTS.get(name)
    if rule is None or not rule.allows(value):
        return None
    facts = dataclasses.replace(reading.facts, **{rule.fact: value})  # type: ignore[arg-type] # its field is a float
    return dataclasses.replace(reading, facts=facts)
