"""A page or a query that gives nothing to count: why, and what to do about it.

A page may be that of an agent without a run, and that is in order; or of something else, or of use
by names that are not read, and then nothing behind it is guarded.

To a sidecar a server without a series of any run looks as if no run were on. It may be that its
matchers, its preset or its tenant select nothing, and then nothing is guarded. So where a server
answers and has nothing, it is asked a second question, now and then: what it has by these names,
whatever the matchers, and by names like them (with dots for underscores, as Prometheus 3 may store
them, with a prefix, without ``_total``), and whether there are agents on which no run is.

A server may have the runs of others, which the matchers leave out on purpose. So where something
matched of late, and nothing does now, it is asked whether what is there comes from the same
addresses: then its labels or names have changed, else it is only that no run is on.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.resources import COUNTERS
from otel_budget.logs.text import one_line, some
from otel_budget.sources.prometheus_vector import NAME, judged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

    from otel_budget.core.samples import Assembled
    from otel_budget.presets.model import Preset
    from otel_budget.sources.prometheus_api import Point

    #: Puts a query to the server; None if that failed.
    Ask = Callable[[str], Awaitable[Iterable[Point] | None]]

#: Readings without a run in a row after which the question is asked, and seconds between two.
_AFTER: Final = 3
_EVERY: Final = 60.0
#: What was there within this time shows that the query is right, and that only now no run is on.
_LATELY: Final = "1d"
#: Marks what is there of agents on which no run is.
_IDLE: Final = "otel_budget_idle"
_JOB: Final = "job"
_INSTANCE: Final = "instance"
#: Addresses, at most, by which it is asked for what matched of late.
_PLACES: Final = 200
#: Characters of an address that may mean something in an expression.
_NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9_:-]")
#: What may be put before a name on the way.
_BEFORE: Final = "(?:[A-Za-z0-9_.:]*[._:])?"
#: What may be left out: native histograms have no series of their own for sum and count.
_SUFFIX: Final = re.compile("_(?:total|sum|count)$")
_NUMBERS: Final = re.compile(r"[0-9,]+")
#: What is on the page of every sidecar, and on that of every agent, even if no run is on.
_OF_A_SIDECAR: Final = semconv.SIDECAR_SESSIONS.name.encode()
_OF_AN_AGENT: Final = re.compile(rb"^otel_budget_", re.MULTILINE)
_BUILD: Final = semconv.BUILD_INFO.name.encode()


class UnmatchedQuery:
    """Knows whether a query ever matched, and why it does not now."""

    def __init__(self, matchers: Sequence[str], preset: Preset | None) -> None:
        self._matchers, self._preset = matchers, preset
        self._matched = False
        """True once there was a run."""
        self._empty, self._asked_at, self._why = 0, -math.inf, ""

    async def why_empty(self, runs: int, dropped: int, now: float, ask: Ask) -> str:
        """Take one answer: how many runs it has, and series that are of none.

        Returns what is wrong; empty if nothing is, or that is not known yet.
        """
        if runs:
            self._matched, self._empty, self._why = True, 0, ""
            self._asked_at = -math.inf
            return ""
        self._empty += 1
        if self._empty >= _AFTER and now - self._asked_at >= _EVERY:
            self._asked_at = now
            why = await self._explain(dropped, ask)
            if _NUMBERS.sub("", why) != _NUMBERS.sub("", self._why):
                self._why = why  # more or fewer of the same are no news
        return self._why

    async def _explain(self, dropped: int, ask: Ask) -> str:
        what = _what(self._preset)
        if dropped:
            return f"{dropped:,} series of {what} are there, but none names a run"
        points = await ask(probe(self._matchers, self._preset))
        why = None if points is None else explain(points, self._matchers, self._preset)
        if why == "" or (why is None and self._matched):
            return ""
        lately = await ask(past(self._matchers, self._preset))
        if why is not None:
            return why if not lately or await self._have_changed(lately, ask) else ""
        self._matched = bool(lately)
        return "" if self._matched else _nothing(what, self._matchers)

    async def _have_changed(self, lately: Iterable[Point], ask: Ask) -> bool:
        """Tell whether what matched of late is there, and does not match any more."""
        places = [place for point in lately if (place := point.labels.get(_INSTANCE))]
        found = await ask(at_places(places, self._preset)) if places else None
        return found is None or bool(found)


def probe(matchers: Sequence[str], preset: Preset | None) -> str:
    """Return the query for what there is, by name and job."""
    there = f"count by ({NAME}, {_JOB}) ({{{_named(preset)}}})"
    if preset is not None:
        return there
    braces = "{" + ",".join(matchers) + "}"
    agents = (
        f"count({semconv.BUILD_INFO.name}{braces} "
        f"unless on (job, instance) {semconv.SIDECAR_SESSIONS.name})"
    )
    return f'{there} or label_replace({agents}, "{_IDLE}", "1", "", "")'


def past(matchers: Sequence[str], preset: Preset | None) -> str:
    """Return the query for what matched of late, by address."""
    selector = ",".join((f'{NAME}=~"{"|".join(judged(preset))}"', *matchers))
    lately = f"count by ({_INSTANCE}) (last_over_time({{{selector}}}[{_LATELY}]))"
    return f"topk({_PLACES}, {lately})"


def at_places(places: Iterable[str], preset: Preset | None) -> str:
    """Return the query for what there is by these addresses, whatever its other labels."""
    wanted = "|".join(_NOT_PLAIN.sub(".", place) for place in places)
    return f'count by ({_INSTANCE}) ({{{_named(preset)},{_INSTANCE}=~"{wanted}"}})'


def _named(preset: Preset | None) -> str:
    """Return the matcher for what is counted, and for names like that."""
    names = "|".join(_like(name) for name in judged(preset))
    return f'{NAME}=~"{_BEFORE}(?:{names})"'


def explain(points: Iterable[Point], matchers: Sequence[str], preset: Preset | None) -> str | None:
    """Say why nothing matched, by the answer to ``probe``.

    Empty if that is in order; None if there is nothing by which to tell.
    """
    what, wanted = _what(preset), judged(preset)
    named: dict[str, float] = {}
    jobs: dict[str, None] = {}
    others: dict[str, None] = {}
    for point in points:
        name = point.labels.get(NAME, "")
        if _IDLE in point.labels:
            return ""  # agents are there, and no run is on
        if name in wanted:
            named[name] = named.get(name, 0.0) + point.value
            jobs[point.labels.get(_JOB, "")] = None
        elif name:
            others[name] = None
    if named:
        if not matchers:
            return ""  # they came just now
        return (
            f"{sum(named.values()):,.0f} series of {what} are there, and the matchers "
            f"{one_line(','.join(matchers))} match none of them: compare "
            "source.prometheus.matchers with their labels; they are of job "
            f"{some(sorted(map(repr, jobs)), ', ')}"
        )
    return by_other_names(what, sorted(others)) if others else None


@lru_cache(maxsize=64)
def _shown_by(names: tuple[str, ...]) -> re.Pattern[bytes]:
    found = f"{_BEFORE}(?:{'|'.join(map(_like, names))})"
    return re.compile(rf'^(?:\{{")?({found})(?=[ {{"])'.encode(), re.MULTILINE)


def named_alike(body: bytes, names: Collection[str]) -> list[str]:
    """Return the names on a page that are not these and may well mean one of them."""
    found = {name.decode() for name in _shown_by(tuple(names)).findall(body)}
    return sorted(found - set(names))


def by_other_names(what: str, names: Sequence[str]) -> str:
    """Say that something is there by names that are not read, and what to do."""
    named = one_line(some(names, ", "))
    if any("." in name for name in names):
        return (
            f"{what} is there under names with dots ({named}), which are not read: let Prometheus "
            "escape them when it scrapes (metric_name_escaping_scheme: underscores), or scrape the "
            "program directly"
        )
    return (
        f"what is there has other names than {what} ({named}), which are not read: was a prefix "
        "added, or _total left out, on the way, or a histogram stored as a native one "
        "(convert_histograms_to_nhcb, scrape_native_histograms)?"
    )


def _like(name: str) -> str:
    """Return an expression for a name, however a store writes it."""
    plain = _SUFFIX.sub("", name)
    suffix = "" if plain == name else "(?:[._](?:total|sum|count))?"
    return plain.replace("_", "[._]") + suffix


def _nothing(what: str, matchers: Sequence[str]) -> str:
    by = f" that match {one_line(','.join(matchers))}" if matchers else ""
    return (
        f"it has no series of {what}{by}: is this the server that scrapes the agents, and the "
        "right tenant (source.prometheus.headers)?"
    )


def _what(preset: Preset | None) -> str:
    return "otel-budget" if preset is None else f"preset {preset.name}"


def why_strange(body: bytes, found: Assembled, *, foreign: bool, seen: str) -> str:
    """Return why a page without a run is not that of an agent without one; empty if it may be.

    foreign: True if it is known to have runs, and shows nothing else of otel-budget: between two
    runs it shows nothing at all. seen: what else is to be said of a page that is nobody's.
    """
    if _OF_A_SIDECAR in body:
        return "it is a sidecar's own /metrics, not an agent's"
    if found.dropped.get(semconv.BAD_SESSION_ID):
        return f"its series have no valid {semconv.SESSION_ID}"
    others = other_names(body, "otel-budget", tuple(COUNTERS))
    if others or _OF_AN_AGENT.search(body) or foreign:
        return others
    return f"is this the address of an agent's /metrics? {seen}".rstrip()


def is_own(body: bytes) -> bool:
    """Tell whether a page is one of otel-budget itself."""
    return _BUILD in body


def declares(body: bytes, names: tuple[str, ...]) -> bool:
    """Tell whether a page has one of these metrics, or declares it."""
    return _declared(names).search(body) is not None


def other_names(body: bytes, what: str, names: Collection[str]) -> str:
    """Say which metrics of a page look like these by another name; empty if none does."""
    alike = named_alike(body, names)
    return by_other_names(what, alike) if alike else ""


@lru_cache(maxsize=64)
def _declared(names: tuple[str, ...]) -> re.Pattern[bytes]:
    text = "|".join(map(re.escape, names))
    return re.compile(rf"^(?:# (?:HELP|TYPE) )?(?:{text})(?=[ {{])".encode(), re.MULTILINE)
