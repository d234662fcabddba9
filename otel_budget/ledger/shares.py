"""How many runs begin in one step: a flood of new ones holds up nobody else's verdicts.

To begin a run takes many times as long as to go on with one. So a step begins so many and no more:
each target has the same share, and what is left of one goes to the others. A target that shows a
few new runs never waits for one that shows thousands. The rest is for the next step.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from otel_budget.core.observation import Observation, RunObservation

#: Runs that begin in one step; but one of each target in any case.
BEGIN_AT_ONCE = 1000


def split(
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
    rest = replace(reading, sessions=tuple(later), problems=(), dropped={}, asked=frozenset())
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
