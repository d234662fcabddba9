"""When samples were taken, on our clock, where their exporter dates them by its own.

A sample that was seen before keeps the date it was given: read twice it would seem to be two, some
milliseconds apart, and one of a clock that is ahead would be of now for ever.

A page may repeat the last sample of an agent that died long ago (a Collector, a cache, a
federation): what was just fetched is not what was just taken. So a sample with a timestamp is as
old as that says, as it would be through a Prometheus; one without is of now.

- A clock that is ahead: a sample cannot be of later than now, and keeps the date it got first.
- A clock that is behind by more than ``MOST`` and keeps pace with ours is not an old page: the page
  is made on request. The second page shows which of both it is; the first waits.
- Another unit than the format's, a common mistake, is taken for what it must mean. What cannot be
  a time at all leaves it unknown how old the sample is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from otel_budget import semconv
from otel_budget.core.samples import Assembled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.sources.http import Fetched

K = TypeVar("K")
#: Sample times remembered of each: answers may come from several replicas in turn.
_TIMES_KEPT: Final = 4
#: What a timestamp may have been written in, in seconds: the format's own unit comes first.
_UNITS: Final = (1.0, 1e3, 1e-3, 1e-6, 1e-9)
#: Unix seconds between which a sample can have been taken, by whatever clock: 2001 to 2100.
_FIRST, _LAST = 1e9, 4.1e9
#: Seconds by which samples may be late before it is asked whether a clock is. The ledger allows for
#: as much where it is steady.
MOST: Final = 300.0
#: Seconds by which the age of two pages may differ where a clock keeps pace with ours.
_IN_STEP: Final = 2.0
#: Seconds: samples as old as this are worth a line in the log.
_WORTH_SAYING: Final = 60.0
#: What is implausible of a run whose timestamp is impossible.
_TIMESTAMP: Final = "timestamp"


class SampleDates(Generic[K]):
    """The dates of the newest samples of each of many."""

    def __init__(self) -> None:
        self._known: dict[K, dict[float, float]] = {}
        """Sample times as they were given, to dates; the newest is the last."""

    def update(self, newest: Mapping[K, float], offset: float, latest: float) -> None:
        """Date the newest sample of each.

        offset: from the exporter's clock to ours. latest: the latest date a sample can have.
        """
        if len(self._known) > len(newest):
            self._known = {key: times for key, times in self._known.items() if key in newest}
        for key, at in newest.items():
            known = self._known.get(key)
            if known is None:
                self._known[key] = {at: min(at + offset, latest)}
                continue
            known[at] = known.pop(at, min(at + offset, latest))
            if len(known) > _TIMES_KEPT:
                del known[next(iter(known))]

    def of(self, key: K, unknown: float = math.nan) -> float:
        """Return the date of the newest sample, as of the last update."""
        known = self._known.get(key)
        return next(reversed(known.values())) if known else unknown


def unit_of(timestamp: float) -> float | None:
    """Return the factor that makes Unix seconds of what an exporter wrote in place of them.

    1 if it wrote what the format asks for; None for what cannot be the time of a sample at all.
    """
    return next((unit for unit in _UNITS if _FIRST <= timestamp * unit <= _LAST), None)


class DatedPage(NamedTuple):
    """What a page shows, dated."""

    found: Assembled
    odd: tuple[str, ...] = ()
    """What to say about its timestamps; for people."""
    waits: str = ""
    """Why nothing is made of it yet; empty for all but a first page."""


class PageDates:
    """The timestamps on the pages of one target, one page after the other."""

    def __init__(self) -> None:
        self._dates = SampleDates[str]()
        self._before: tuple[float, float] | None = None
        """Of the page before, the newest timestamp and its age."""
        self._behind = 0.0
        """Seconds by which its clock is found to be behind ours."""

    def date(self, found: Assembled, fetched: Fetched) -> DatedPage:
        """Return the runs of a page with their dates."""
        if not found.times:
            return DatedPage(found)
        units = {session_id: unit_of(at) for session_id, at in found.times.items()}
        times = {
            session_id: at * unit
            for session_id, at in found.times.items()
            if (unit := units[session_id]) is not None
        }
        if times:
            waits = self._look_at_clock(max(times.values()), fetched.time_there)
            if waits:
                return DatedPage(Assembled((), found.dropped), waits=waits)
        offset = fetched.began_at - fetched.time_there + self._behind
        self._dates.update(times, offset, fetched.began_at)
        dated = _dated(found, {key: self._dates.of(key) for key in times})
        return DatedPage(dated, self._odd(units, dated, fetched))

    def _look_at_clock(self, newest: float, now: float) -> str:
        """Find out whether a clock is behind; return why that is not known yet, if it is not."""
        age, before = now - newest, self._before
        self._before = (newest, age)
        if age <= MOST:
            self._behind = 0.0
        elif before is None:
            return (
                f"its newest sample is {age:,.0f} s old by its timestamp: the next page will "
                "show whether it is an old page, or its clock is behind"
            )
        elif newest > before[0] and abs(age - before[1]) <= _IN_STEP:
            self._behind = age
        return ""

    def _odd(
        self, units: Mapping[str, float | None], dated: Assembled, fetched: Fetched
    ) -> tuple[str, ...]:
        odd = [
            f"its timestamps are not in the unit of its format: they are multiplied by {unit:g}"
            for unit in sorted({unit for unit in units.values() if unit not in (None, 1.0)})
        ]
        if None in units.values():
            odd.append(
                "some of its timestamps are impossible: how old those samples are is not known"
            )
        if self._behind:
            odd.append(
                "its clock is behind ours, and keeps pace with it: the age of its samples is "
                "measured by that clock"
            )
        oldest = min((s.sampled_at for s in dated.sessions), default=fetched.began_at)
        if fetched.began_at - oldest > _WORTH_SAYING:
            odd.append(
                "by their timestamps some of its samples are more than a minute old: it repeats "
                "old samples, or lags"
            )
        return tuple(odd)


def _dated(found: Assembled, dates: Mapping[str, float]) -> Assembled:
    """Return the runs with these dates; those with an impossible timestamp as implausible."""
    sessions, unknown = [], 0
    for session in found.sessions:
        if session.session_id in dates:
            session = session._replace(sampled_at=dates[session.session_id])  # noqa: PLW2901 - the same, dated
        elif session.session_id in found.times:
            implausible = (*session.implausible, _TIMESTAMP)
            session, unknown = session._replace(implausible=implausible), unknown + 1  # noqa: PLW2901 - the same, in doubt
        sessions.append(session)
    dropped = dict(found.dropped)
    if unknown:
        dropped[semconv.NO_TIMESTAMP] = dropped.get(semconv.NO_TIMESTAMP, 0) + unknown
    return Assembled(tuple(sessions), dropped, found.times)
