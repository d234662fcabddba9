"""Whose a pushed run is, by the attributes of its points and records, then of its resource."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget.core.owner_labels import is_label_value
from otel_budget.presets.model import first_of, word
from otel_budget.sources.otlp import naming

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_budget.presets.model import Preset
    from otel_budget.sources.otlp.messages import Scalar


class Owners:
    """Reads the labels that say whose a run is."""

    def __init__(self, presets: Iterable[Preset], labels: tuple[str, ...]) -> None:
        """presets: by what names their programs say it. labels: those that are read."""
        self._by_preset = {preset.name: preset.owner_labels(labels) for preset in presets}
        self.spellings = frozenset(
            spelling
            for names in self._by_preset.values()
            for spellings in names.values()
            for spelling in spellings
        )
        """What an attribute's name looks like, as a label's, if it is looked at."""

    def of(
        self, preset: Preset, attributes: Mapping[str, Scalar], resource: Mapping[str, Scalar]
    ) -> dict[str, str]:
        """Return what a point or record, or its resource, says of whose its run is."""
        said = {**self._named(resource), **self._named(attributes)}
        found = {}
        for name, spellings in self._by_preset[preset.name].items():
            _, value = first_of(spellings, said)
            if value and is_label_value(value):
                found[name] = value
        return found

    def _named(self, attributes: Mapping[str, Scalar]) -> dict[str, str]:
        labels = ((naming.label(name), value) for name, value in attributes.items())
        return {name: word(value) for name, value in labels if name in self.spellings}
