"""The timestamps on the pages of one target: how old its samples are.

A page may repeat the last sample of an agent that died long ago (a Collector, a cache, a
federation): what was just fetched is not what was just taken. So a sample with a time of its own
is as old as that says, as it would be through a Prometheus; one without is of now.

- A clock that is ahead: a sample cannot be of later than now, and keeps the date it got first.
- A clock that is behind by more than ``MOST`` and goes on in step with ours is no old page: it is
  made anew whenever it is asked for. The second page tells one from the other; the first waits.
- Another unit than the format's, a common mistake, is taken for what it must mean. What can be no
  time at all leaves it unknown how old the sample is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.samples import Assembled
from otel_budget.sources.sample_dates import SampleDates, unit_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.sources.http import Fetched

#: Seconds by which samples may be late before it is asked whether a clock is. The ledger allows for
#: as much where it is steady.
MOST: Final = 300.0
#: Seconds by which the age of two pages may differ where a clock goes on in step with ours.
_IN_STEP: Final = 2.0
#: Seconds: samples as old as this are worth a line in the log.
_WORTH_SAYING: Final = 60.0
#: What cannot be told of a session whose timestamp can be none.
_TIMESTAMP: Final = "timestamp"


class Stamped(NamedTuple):
    """What a page shows, dated."""

    found: Assembled
    odd: tuple[str, ...] = ()
    """What to say about its timestamps; for people."""
    waits: str = ""
    """Why nothing is made of it yet; empty for all but a first page."""


class Stamps:
    """The timestamps on the pages of one target, one page after the other."""

    def __init__(self) -> None:
        """Know of no page."""
        self._dates = SampleDates[str]()
        self._before: tuple[float, float] | None = None
        """Of the page before, the newest timestamp and its age."""
        self._behind = 0.0
        """Seconds by which its clock is found to be behind ours."""

    def take(self, found: Assembled, fetched: Fetched) -> Stamped:
        """Return the sessions of a page with their dates."""
        if not found.times:
            return Stamped(found)
        units = {session_id: unit_of(at) for session_id, at in found.times.items()}
        times = {
            session_id: at * unit
            for session_id, at in found.times.items()
            if (unit := units[session_id]) is not None
        }
        if times:
            waits = self._look_at_clock(max(times.values()), fetched.time_there)
            if waits:
                return Stamped(Assembled((), found.dropped), waits=waits)
        offset = fetched.began_at - fetched.time_there + self._behind
        self._dates.take(times, offset, fetched.began_at)
        dated = _dated(found, {key: self._dates.of(key) for key in times})
        return Stamped(dated, self._odd(units, dated, fetched))

    def _look_at_clock(self, newest: float, now: float) -> str:
        """Find out whether a clock is behind; return why that cannot be told yet."""
        age, before = now - newest, self._before
        self._before = (newest, age)
        if age <= MOST:
            self._behind = 0.0
        elif before is None:
            return (
                f"its newest sample is {age:,.0f} s old by its timestamp: the next page tells "
                "whether it is an old one, or of a clock that is behind"
            )
        elif newest > before[0] and abs(age - before[1]) <= _IN_STEP:
            self._behind = age
        return ""

    def _odd(
        self, units: Mapping[str, float | None], dated: Assembled, fetched: Fetched
    ) -> tuple[str, ...]:
        odd = [
            f"its timestamps are not in the unit of its format: times {unit:g} they are taken"
            for unit in sorted({unit for unit in units.values() if unit not in (None, 1.0)})
        ]
        if None in units.values():
            odd.append("some of its timestamps can be none: how old those samples are is not known")
        if self._behind:
            odd.append(
                "its clock is behind, and goes on in step with ours: its samples are taken to be "
                "as old as they are by that clock"
            )
        oldest = min((s.sampled_at for s in dated.sessions), default=fetched.began_at)
        if fetched.began_at - oldest > _WORTH_SAYING:
            odd.append(
                "by their timestamps some of its samples were taken more than a minute ago: it "
                "repeats what is over, or is late"
            )
        return tuple(odd)


def _dated(found: Assembled, dates: Mapping[str, float]) -> Assembled:
    """Return the sessions with these dates; those whose timestamp can be none as implausible."""
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
