"""How large a run's calls are, how they grow, and how long they take: from its totals alone.

An agent re-sends a growing context with each call, so the next call is as large as the newest one
and as much more as calls grew so far. O(1) state for a run, whatever it does; a sample may hold no
call, one, or many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otel_budget import semconv

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.quantities import Number


class CallSize(NamedTuple):
    """What calls use of one resource."""

    newest: float
    """Units that the newest call used."""
    growth: float
    """Units by which each call uses more than the one before."""


class CallPace:
    """What is known of a run's calls."""

    __slots__ = ("_at", "_calls", "_first", "_newest", "_seconds", "_used")

    def __init__(self) -> None:
        """Begin with a run of which nothing is known."""
        self._calls: Number | None = None
        self._at = 0.0
        self._used: dict[str, Number] = {}
        self._first: dict[str, tuple[float, float]] = {}
        self._newest: dict[str, tuple[float, float]] = {}
        self._seconds: tuple[float, float] = (0.0, 0.0)

    def observe(self, totals: Mapping[str, Number], at: float) -> None:
        """Take what the run has used as of a time in seconds; its totals never go down.

        totals: per counted resource, what was used in all; without API calls there is no pace.
        """
        calls = totals.get(semconv.API_CALLS)
        if calls is None:
            return
        before, since = self._calls, self._at
        if before is not None and calls <= before:
            return
        made = float(calls) - float(before or 0)
        if not made:
            self._calls, self._at, self._used = calls, at, dict(totals)
            return
        middle = float(before or 0) + (made + 1) / 2
        for resource, total in totals.items():
            size = (float(total) - float(self._used.get(resource, 0))) / made
            self._first.setdefault(resource, (middle, size))
            self._newest[resource] = (middle, size)
        if before is not None:
            spent, over = self._seconds
            self._seconds = spent + at - since, over + made
        self._calls, self._at, self._used = calls, at, dict(totals)

    def size_of(self, resource: str) -> CallSize | None:
        """Return what calls use of a resource; None where no call of the run was seen."""
        if resource not in self._newest:
            return None
        (began, first), (ended, newest) = self._first[resource], self._newest[resource]
        growth = (newest - first) / (ended - began) if ended > began else 0.0
        return CallSize(newest, growth)

    @property
    def seconds_per_call(self) -> float | None:
        """Seconds from one call to the next; None until two were seen."""
        spent, over = self._seconds
        return spent / over if over else None
