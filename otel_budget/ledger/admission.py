"""Which runs are let in: a target that makes up ids, or starts, costs no more than it may.

What is bounded for each target: the runs that are known at it (its session limit), and those that
begin at it, which in the time that an ended run is kept are no more than that. And there is a bound
in all, within which each target has its share: many targets push out no other target's runs.

And how many runs begin in one tick, so that a flood of new ones delays no other run's verdict: to
begin a run takes many times as long as to go on with one. Each target has the same share, and what
is left of one goes to the others. A target that shows a few new runs never waits for one that shows
thousands. The rest is for the next tick.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from otel_budget import semconv

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from otel_budget.core.observation import Observation, RunObservation
    from otel_budget.ledger.run import RunTotals

#: Seconds a run whose end was seen keeps its last verdict; one that vanished, its verdict after the
#: hold.
KEEP_ENDED = 600.0
#: Runs that are known in all, beyond which a target is let in no more than its share.
SESSIONS_MOST = 100_000
#: Runs that may begin at a target in ``KEEP_ENDED``, however few may be known.
_BEGIN_LEAST = 1000
#: Targets of which it is remembered how many runs they may still begin.
_TARGETS_KEPT = 10_000


class Arrivals:
    """Counts what targets show that is not known yet."""

    def __init__(self, dropped: Counter[str]) -> None:
        """Begin with no target. dropped: reason to samples refused; those of others are added."""
        self.crowded: dict[str, int] = {}
        """Target to the runs of its newest reading that were too many to be let in."""
        self._dropped = dropped
        self._left: dict[str, tuple[float, float]] = {}
        """Target to the runs that it may still begin, as of a moment."""

    def let_in(
        self, sessions: Iterable[RunObservation], of: Observation, known: Mapping[str, RunTotals]
    ) -> Iterator[RunObservation]:
        """Yield those that are known, and as many others as their targets may still have.

        of: the reading they are from.
        """
        self.crowded = {t: n for t, n in self.crowded.items() if not of.is_of(t)}
        at: Counter[str] | None = None
        for session in sessions:
            if of.session_limit is not None and session.session_id not in known:
                if at is None:
                    at = Counter(target for run in known.values() for target in run.targets)
                most = of.session_limit
                if len(known) >= SESSIONS_MOST:
                    most = min(most, SESSIONS_MOST // max(1, len(at), len(of.targets or ())))
                if at[session.target] >= most:
                    self._refuse(session)
                    continue
                if not self.may_begin(session, of):
                    continue
                at[session.target] += 1
            yield session

    def may_begin(self, session: RunObservation, of: Observation) -> bool:
        """Tell whether one more run may begin at a target; if not, it is refused."""
        if of.session_limit is None:
            return True
        target, now, most = session.target, of.read_at, float(max(of.session_limit, _BEGIN_LEAST))
        left, since = self._left.get(target, (most, now))
        left = min(most, left + max(0.0, now - since) * most / KEEP_ENDED)
        if target not in self._left and len(self._left) >= _TARGETS_KEPT:
            self._left.clear()
        self._left[target] = (left if left < 1 else left - 1), now
        if left < 1:
            self._refuse(session)
        return left >= 1

    def refuse_rest(self, rest: Observation) -> Observation | None:
        """Refuse what waits of targets that have too many already; return the others, if any."""
        waiting = []
        for session in rest.sessions:
            if session.target in self.crowded:
                self._refuse(session)
            else:
                waiting.append(session)
        return replace(rest, sessions=tuple(waiting)) if waiting else None

    def _refuse(self, session: RunObservation) -> None:
        self.crowded[session.target] = self.crowded.get(session.target, 0) + 1
        self._dropped[semconv.SESSION_LIMIT] += max(1, len(session.counters))


#: Runs that begin in one tick; but one of each target in any case.
BEGIN_AT_ONCE = 1000


def split_new_runs(
    reading: Observation, known: Collection[str], most: int = BEGIN_AT_ONCE
) -> tuple[Observation, Observation | None]:
    """Return a reading with as many new runs as may begin, and the rest if there is any.

    known: session ids. The rest says nothing of any target but the runs it shows.
    """
    if len(reading.sessions) <= most:
        return reading, None
    new = Counter(s.target for s in reading.sessions if s.session_id not in known)
    if new.total() <= most:
        return reading, None
    left = dict.fromkeys(new, _share(new.values(), most))
    now: list[RunObservation] = []
    later: list[RunObservation] = []
    for session in reading.sessions:
        if session.session_id not in known:
            if not left[session.target]:
                later.append(session)
                continue
            left[session.target] -= 1
        now.append(session)
    rest = replace(
        reading, sessions=tuple(later), problems=(), dropped={}, told={}, asked=frozenset()
    )
    return replace(reading, sessions=tuple(now)), rest if later else None


def _share(wanted: Iterable[int], most: int) -> int:
    """Return the most that each may have, at least 1, so that all together have ``most``."""
    room, sizes = most, sorted(wanted)
    for place, size in enumerate(sizes):
        share = room // (len(sizes) - place)
        if size > share:
            return max(1, share)
        room -= size
    return most
