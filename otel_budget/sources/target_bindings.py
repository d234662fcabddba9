"""Which targets session ids are bound to: by the configuration, by a list of targets, by labels.

What the configuration binds, nothing else takes: a list of targets (``file_sd``), or a label of a
target, binds only what the configuration does not.

Behind a Prometheus the labels are those of ``up``, which the server keeps of each target by itself.
A page may show a series of that name, too, with labels of its own making: a target has the labels
that all of them have. Of one without ``up`` only job and instance are known.
"""

from __future__ import annotations

import json
import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.bindings import Bindings, is_covered
from otel_budget.logs.once import OncePerSubject
from otel_budget.sources.target_process import process_at

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from otel_budget.core.observation import Observation

    Labels = Mapping[str, str]

logger = logging.getLogger(__name__)

#: Seconds for which a binding may match nothing before that is what is wrong.
UNMATCHED_AFTER: Final = 300.0
_MATCHER: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)(=~|!~|!=|=)("(?:[^"\\\n]|\\.)*")')

Bound = Sequence[tuple[str, Sequence[str]]]
"""Pairs of a URL and the patterns that its target is bound to."""
Claims = dict[str, set[str]]
"""Pattern to the targets that are bound to it."""


def bindings_of(
    configured: Mapping[str, Collection[str]],
    listed: Mapping[str, Collection[str]],
    *,
    first_owns: bool,
) -> Bindings:
    """Return what is bound. configured, listed: patterns to targets; the former come first."""
    owners = {pattern: set(targets) for pattern, targets in configured.items()}
    for pattern, targets in listed.items():
        if not is_covered(pattern, configured):
            owners[pattern] = set(targets)
    return Bindings(owners, first_owns=first_owns)


def claims_of(patterns: Iterable[tuple[str, Collection[str]]], urls: Iterable[str]) -> Claims:
    """Return the targets of each pattern. patterns: pairs of a target's URL and its patterns.

    urls: of all targets. A target by another loopback name is the same one.
    """
    places: dict[str, set[str]] = {}
    for url, bound in patterns:
        for pattern in bound:
            places.setdefault(pattern, set()).add(process_at(url))
    if not places:
        return {}
    spellings: defaultdict[str, set[str]] = defaultdict(set)
    for url in urls:
        spellings[process_at(url)].add(url)
    return {
        pattern: {url for place in each for url in spellings[place]}
        for pattern, each in places.items()
    }


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
        raise ValueError(f"{text!r} is not a label matcher")
    value = json.loads(found[3])
    try:
        expression = re.compile(value if "~" in found[2] else re.escape(value))
    except re.error as exc:
        raise ValueError(f"{text!r}: {exc}") from exc
    return LabelMatcher(found[1], not found[2].startswith("!"), expression)


class LabelBinding:
    """Session ids that belong to the targets whose labels match."""

    def __init__(self, sessions: Sequence[str], matchers: Sequence[str]) -> None:
        """sessions: patterns of session ids. matchers: as PromQL writes them."""
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


class UnmatchedBindings:
    """Finds bindings that have matched nothing for a while."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._lines = OncePerSubject(logger, "bindings match no run")

    def note(self, why: Mapping[str, str], now: float) -> Mapping[str, str]:
        """Take what is wrong with each binding now; return those of which it is so for long.

        Each is said once.
        """
        self._since = {name: self._since.get(name, now) for name in why}
        lasting = {n: w for n, w in why.items() if now - self._since[n] >= UNMATCHED_AFTER}
        self._lines.note(lasting, logging.WARNING)
        return lasting


class ScrapeBindings:
    """What the targets of a scrape are bound to."""

    def __init__(self, configured: Bound, own: Bound = (), *, first_owns: bool) -> None:
        """configured: what targets are bound to. own: runs that are named after one."""
        self._configured, self._own, self._first_owns = configured, own, first_owns
        self._patterns: dict[str, set[str]] = {}
        """URL to what its target is bound to."""
        self._taken: tuple[object, ...] = ()
        self._unmatched = UnmatchedBindings()
        self.bindings = Bindings(first_owns=first_owns)

    def update(self, listed: Bound, urls: Collection[str], own: Bound = ()) -> None:
        """Take over the present targets, and what their list binds them to.

        own: further runs that are named after one.
        """
        pairs = [*self._configured, *listed]
        bound = any(patterns for _, patterns in (*pairs, *self._own, *own))
        taken = (listed, own, set(urls)) if bound else ()
        if taken == self._taken:
            return
        self._taken, self._patterns = taken, {}
        for url, patterns in pairs:
            self._patterns.setdefault(url, set()).update(patterns)
        configured = claims_of([*self._configured, *self._own], urls)
        found = claims_of([*listed, *own], urls)
        bindings = bindings_of(configured, found, first_owns=self._first_owns)
        if bindings != self.bindings:
            self.bindings = bindings

    def note(self, observation: Observation) -> Mapping[str, str]:
        """Return the targets that have shown runs for a while, and none that they are bound to."""
        seen: dict[str, set[str]] = {url: set() for url, bound in self._patterns.items() if bound}
        if not seen:
            return {}
        for session in observation.sessions:
            if session.target in seen:
                seen[session.target].add(session.session_id)
        why = {
            url: wrong
            for url, sessions in seen.items()
            if (wrong := others_only(self._patterns[url], sessions, f"target {url}"))
        }
        return self._unmatched.note(why, observation.read_at)


def others_only(patterns: Collection[str], sessions: Collection[str], place: str) -> str:
    """Return what is wrong where a target shows none of the runs it is bound to, but others."""
    if not sessions or any(is_covered(each, patterns) for each in sessions):
        return ""
    seen = ", ".join(sorted(sessions)[:3])
    return (
        f"{place} is bound to {', '.join(sorted(patterns))} and shows only other runs ({seen}): is "
        "the pattern right?"
    )
