"""Label values are capped: past the cap a new one counts as ``other``, visibly.

A label without a cap is how one careless caller (a phase per document) makes a Prometheus fall
over, and everyone's budget with it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from otel_budget import semconv
from otel_budget.errors import InvalidValueError
from otel_budget.logs.logger import logger
from otel_budget.runtime.fork import ProcessLock

#: Distinct values of one label in one run (phases, models) or one process (workflows, teams, …).
MAX_VALUES = 100
#: Characters of one label value; longer ones are cut.
MAX_LENGTH = 128

#: Pairs of phase and model in one run, and in all runs of a process; combinations of owner and
#: model in the sums of a process. Past that the rest of a combination counts as ``other``: the caps
#: of single labels multiply.
MAX_PAIRS, MAX_PAIRS_IN_ALL, MAX_OWNERS = 400, 40_000, 1_000

#: Labels of a scope besides the usual ones: they are on a run's info alone, not in any sums.
MAX_FURTHER = 16
#: Holds the scope of runs that name none, or less: for processes that somebody else starts.
ENV_SCOPE = "OTEL_BUDGET_SCOPE"
_KEY: Final = re.compile(r"(?!__|exported_)[A-Za-z_][A-Za-z0-9_]{0,62}")
#: Labels that say something else, or that a server gives to all series of a target.
_NO_SCOPE: Final = frozenset((
    semconv.SESSION_ID, semconv.PARENT_SESSION_ID, semconv.WORKFLOW, semconv.RESOURCE, semconv.UNIT,
    semconv.STATE, semconv.SERVICE_INSTANCE_ID, "job", "instance",
))  # fmt: skip
_KEYS: Final = (
    f"the keys {', '.join(semconv.SCOPE_LABELS)}, or names of your own of letters, digits and _ "
    "(a sidecar reads those that are in its scope_labels)"
)

#: Values of our own, which are always told apart: there are no more of them.
_OWN_VALUES: Final = frozenset((semconv.UNSPECIFIED, semconv.UNATTRIBUTED, semconv.OTHER))

#: Runs fold under separate locks, into one counter.
_folding = ProcessLock()


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
        if value in admitted or value in _OWN_VALUES:
            return value
        value = _writable(value)
        if value in admitted:
            return value
        if len(admitted) < MAX_VALUES:
            admitted.add(value)
            return value
        refused = self._refused.setdefault(label, set())
        if value not in refused and len(refused) < MAX_VALUES * 10:  # bounded like the rest
            refused.add(value)
            self.count(label)
        return semconv.OTHER

    def count(self, label: str) -> None:
        """Count something of a label that was folded; say the first of the process."""
        with _folding:
            self._folded[label] += 1
            first = self._folded[label] == 1
        if first:
            logger.warning(
                "too many values of the label %s: further ones are counted as %r (said once; for "
                "the bounds see docs/metrics.md, for their number %s)",
                label, semconv.OTHER, semconv.FOLDED_LABELS.name,
            )  # fmt: skip


def run_labels(
    workflow: str | None, scope: Mapping[str, str] | None, usual: str = ""
) -> dict[str, str]:
    """Return the labels that say what a run is and whose; those not given are absent.

    usual: of a scope's labels, those that hold where ``scope`` has no other, as ``team=a,user=ann``
    (``ENV_SCOPE``).

    Raises InvalidValueError.
    """
    if scope is not None and not isinstance(scope, Mapping):
        raise InvalidValueError("scope", scope, f"a mapping with {_KEYS}")
    labels = {}
    if workflow is not None:
        labels[semconv.WORKFLOW] = _text("workflow", workflow)
    given = {**_usual_scope(usual), **(scope or {})}
    for key, value in given.items():
        if not isinstance(key, str) or _KEY.fullmatch(key) is None or key in _NO_SCOPE:
            raise InvalidValueError("scope", key, _KEYS)
        labels[key] = _text(f"scope[{key!r}]", value)
    further = [key for key in given if key not in semconv.SCOPE_LABELS]
    if len(further) > MAX_FURTHER:
        raise InvalidValueError("scope", further, f"at most {MAX_FURTHER} labels of your own")
    return labels


def _usual_scope(text: str) -> dict[str, str]:
    """Return the labels of a text such as ``team=a,user=ann``; values may be percent-encoded."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    labels = {key.strip(): unquote(value.strip()) for key, _, value in pairs}
    for key, value in labels.items():
        if not value:
            raise InvalidValueError(ENV_SCOPE, key, "labels such as team=a,user=ann")
    return labels


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidValueError(key, value, "a text that is not empty")
    return _writable(value[:MAX_LENGTH])


def _writable(value: str) -> str:
    """Return a text that UTF-8 can hold: one half of a surrogate pair would fail every scrape."""
    return value.encode("utf-8", "replace").decode()
