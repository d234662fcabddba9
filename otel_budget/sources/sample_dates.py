"""When samples were taken, by our own clock, of which their exporter tells the time by its own.

A sample that was seen before keeps the date it was given: read twice it would seem to be two, some
milliseconds apart, and one of a clock that is ahead would be of now for ever.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

K = TypeVar("K")
#: Sample times remembered of each: answers may come from several replicas in turn.
_TIMES_KEPT: Final = 4
#: What a timestamp may have been written in, in seconds: the format's own unit comes first.
_UNITS: Final = (1.0, 1e3, 1e-3, 1e-6, 1e-9)
#: Unix seconds between which a sample can have been taken, by whatever clock: 2001 to 2100.
_FIRST, _LAST = 1e9, 4.1e9


class SampleDates(Generic[K]):
    """The dates of the newest samples of each of many."""

    def __init__(self) -> None:
        """Know none."""
        self._known: dict[K, dict[float, float]] = {}
        """Sample times as they were given, to dates; the newest is the last."""

    def take(self, newest: Mapping[K, float], offset: float, latest: float) -> None:
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
        """Return the date of the newest sample, as of the last time."""
        known = self._known.get(key)
        return next(reversed(known.values())) if known else unknown


def unit_of(timestamp: float) -> float | None:
    """Return the factor that makes Unix seconds of what an exporter wrote in place of them.

    1 if it wrote what the format asks for; None for what cannot be the time of a sample at all.
    """
    return next((unit for unit in _UNITS if _FIRST <= timestamp * unit <= _LAST), None)
