"""Which run a point or a record belongs to, by its attributes and those of its resource.

The order: attributes that the operator named; ``otel_budget.session_id`` of the resource; the label
that the preset names; ``session.id``, then ``conversation.id``, of the point or record, then of the
resource. Who names none belongs to the one run of its program at its peer, ``PRESET@PEER``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otel_budget import semconv
from otel_budget.core.validation import SESSION_ID_PATTERN
from otel_budget.presets.counting import session_of
from otel_budget.sources.otlp import naming
from otel_budget.sources.otlp.wanted import SESSION_ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_budget.presets.model import Preset
    from otel_budget.sources.otlp.messages import Scalar


class Identity(NamedTuple):
    """The run that something belongs to."""

    session_id: str | None
    """None: what should name it cannot be a session id."""
    named: bool = True
    """False: nothing names a run."""


class Identities:
    """Names the runs of a receiver."""

    def __init__(self, run_attributes: Sequence[str] = ()) -> None:
        """run_attributes: those that are asked first of all."""
        self._first = tuple(run_attributes)

    def of(
        self,
        resource: Mapping[str, Scalar],
        attributes: Mapping[str, Scalar],
        preset: Preset,
        peer: str,
    ) -> Identity:
        """Return the run of a point or record."""
        value = self._named(resource, attributes, preset)
        if value is not None:
            return Identity(value if SESSION_ID_PATTERN.fullmatch(value) else None)
        return Identity(session_of(preset, {}, peer), named=False)

    def _named(
        self, resource: Mapping[str, Scalar], attributes: Mapping[str, Scalar], preset: Preset
    ) -> str | None:
        for name in self._first:
            value = attributes.get(name, resource.get(name))
            if value not in (None, ""):
                return str(value)
        value = resource.get(semconv.ATTR_SESSION_ID)
        if value not in (None, ""):
            return str(value)
        if preset.session_labels:
            labels = {naming.label(name): str(v) for name, v in attributes.items()}
            for label in preset.session_labels:
                found = labels.get(label)
                if found and found not in preset.nameless:
                    return found
        for name in SESSION_ATTRIBUTES:
            value = attributes.get(name) or resource.get(name)
            if value:
                return str(value)
        return None
