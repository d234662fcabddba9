"""Label values are capped: past the cap a new one counts as ``other``, visibly.

A label without a cap is how one careless caller (a phase per document) makes a Prometheus fall
over, and everyone's budget with it.
"""

from __future__ import annotations

from collections import Counter

from otel_budget import semconv

#: Distinct values of one label in one run (phases, models) or one process (workflows, teams, …).
MAX_VALUES = 100
#: Characters of one label value; longer ones are cut.
MAX_LENGTH = 128


class LabelCap:
    """Admit the first ``MAX_VALUES`` values of each label; fold the rest and count them."""

    def __init__(self, folded: Counter[str]) -> None:
        """Begin with nothing admitted. folded: label to number of values folded, added to."""
        self._admitted: dict[str, set[str]] = {}
        self._refused: dict[str, set[str]] = {}
        self._folded = folded

    def admit(self, label: str, value: str) -> str:
        """Return the value to use for a label: itself, cut to length, or ``other``."""
        value = value[:MAX_LENGTH]
        admitted = self._admitted.setdefault(label, set())
        if value in admitted:
            return value
        if len(admitted) < MAX_VALUES:
            admitted.add(value)
            return value
        refused = self._refused.setdefault(label, set())
        if value not in refused and len(refused) < MAX_VALUES * 10:  # bounded like the rest
            refused.add(value)
            self._folded[label] += 1
        return semconv.OTHER
