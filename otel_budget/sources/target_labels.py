"""Which targets behind a Prometheus session ids are bound to, by the labels of the targets. Pure.

Those are the labels of ``up``, which the server keeps of each target by itself. A page may show a
series of that name, too, with labels of its own making: what is said of a target is what all of
them say. Of one without ``up`` only job and instance are known.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from otel_budget.sources.bound_targets import Claims

    Labels = Mapping[str, str]

_MATCHER: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)(=~|!~|!=|=)("(?:[^"\\\n]|\\.)*")')


class LabelMatcher(NamedTuple):
    """One matcher of PromQL; a label that is not there is empty."""

    name: str
    is_wanted: bool
    expression: re.Pattern[str]

    def matches(self, labels: Labels) -> bool:
        """Tell whether a target with these labels is matched."""
        found = self.expression.fullmatch(labels.get(self.name, ""))
        return (found is not None) is self.is_wanted


def label_matcher(text: str) -> LabelMatcher:
    """Return a matcher as PromQL writes it. Raises ValueError."""
    found = _MATCHER.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no label matcher")
    value = json.loads(found[3])
    try:
        expression = re.compile(value if "~" in found[2] else re.escape(value))
    except re.error as exc:
        raise ValueError(f"{text!r}: {exc}") from exc
    return LabelMatcher(found[1], not found[2].startswith("!"), expression)


class LabelBinding:
    """Session ids that belong to the targets whose labels match."""

    def __init__(self, sessions: Sequence[str], matchers: Sequence[str]) -> None:
        """Take patterns of session ids and matchers as PromQL writes them."""
        self.sessions = sessions
        self.text = "{" + ", ".join(matchers) + "}"
        self._matchers = [label_matcher(text) for text in matchers]

    def matches(self, labels: Iterable[Labels]) -> bool:
        """Tell whether a target is matched. labels: of each of its ``up``."""
        return all(matcher.matches(each) for each in labels for matcher in self._matchers)


def claimed(bindings: Iterable[LabelBinding], targets: Mapping[str, Sequence[Labels]]) -> Claims:
    """Return the targets of each pattern. targets: to the labels of each ``up`` of theirs."""
    claims: Claims = {}
    for binding in bindings:
        matched = {target for target, labels in targets.items() if binding.matches(labels)}
        for pattern in binding.sessions:
            claims.setdefault(pattern, set()).update(matched)
    return claims


def labelled(targets: Mapping[str, Sequence[Labels]]) -> Claims:
    """Return the targets that have their session id as a label of their own."""
    claims: Claims = {}
    for target, labels in targets.items():
        named = {each.get(semconv.SESSION_ID, "") for each in labels}
        if len(named) == 1 and (session_id := named.pop()):
            claims.setdefault(session_id, set()).add(target)
    return claims


def of_place(place: str) -> Labels:
    """Return the labels that a target has for certain: job and instance."""
    job, _, instance = place.rpartition("/")
    return {"job": job, "instance": instance}
