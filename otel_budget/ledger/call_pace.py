"""How large a run's calls are, how they grow, and how long they take: from its totals alone.

An agent re-sends a growing context with each call, so the next call is as large as the newest one
and as much more as calls grew so far. O(1) state for a run, whatever it does; a sample may hold no
call, one, or many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.forecast import Estimate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_budget.core.quantities import Number

#: Seconds without use after which a run is not spending: nobody can tell when it goes on.
IDLE_AFTER: Final = 300.0


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
        self._calls: float | None = None
        self._at = 0.0
        self._used: dict[str, float] = {}
        self._first: dict[str, tuple[float, float]] = {}
        self._newest: dict[str, tuple[float, float]] = {}
        self._seconds: tuple[float, float] = (0.0, 0.0)

    def observe(self, totals: Mapping[str, Number], at: float) -> None:
        """Take what the run has used as of a time in seconds; its totals never go down.

        totals: per counted resource, what was used in all. To be called with every sample, also
        with one in which nothing has changed.
        """
        calls = float(totals.get(semconv.API_CALLS, 0.0))
        before, since = self._calls, self._at
        if before is not None and calls <= before:
            return
        made = calls - (before or 0.0)
        used = {resource: float(total) for resource, total in totals.items()}
        if made:
            middle = (before or 0.0) + (made + 1) / 2
            for resource, total in used.items():
                size = (total - self._used.get(resource, 0.0)) / made
                self._first.setdefault(resource, (middle, size))
                self._newest[resource] = (middle, size)
            if before is not None:
                spent, over = self._seconds
                self._seconds = spent + at - since, over + made
        self._calls, self._at, self._used = calls, at, used

    def size_of(self, resource: str) -> CallSize | None:
        """Return what calls use of a resource; None where no call of the run was seen."""
        if resource not in self._newest:
            return None
        (began, first), (ended, newest) = self._first[resource], self._newest[resource]
        growth = (newest - first) / (ended - began) if ended > began else 0.0
        return CallSize(newest, growth)

    def next_call(self, resource: str) -> Estimate | None:
        """Return what the next call will use of a resource, in its units; None: not known."""
        size = self.size_of(resource)
        if size is None:
            return None
        value = max(0.0, size.newest + size.growth)
        return Estimate(value, value, value)

    @property
    def calls(self) -> float:
        """API calls made so far; 0 if the run counts none."""
        return self._calls or 0.0

    @property
    def seconds_per_call(self) -> float | None:
        """Seconds from one call to the next; None until two were seen."""
        spent, over = self._seconds
        return spent / over if over else None

    @property
    def tells_growth(self) -> bool:
        """True once calls were seen apart from each other; of one lump only the mean is known."""
        return any(newest[0] > self._first[name][0] for name, newest in self._newest.items())

    def is_idle(self, now: float) -> bool:
        """Tell whether nothing has been used for so long that nobody can tell when it goes on.

        now: on the clock of the samples.
        """
        return self._calls is not None and now - self._at > IDLE_AFTER

    def state(self) -> tuple[object, ...]:
        """Return all of it as nested tuples of numbers, text and None: JSON can hold them."""
        return (
            self._calls,
            self._at,
            self._seconds,
            tuple(
                (name, used, self._first.get(name), self._newest.get(name))
                for name, used in self._used.items()
            ),
        )

    @classmethod
    def from_state(cls, state: Sequence[object]) -> CallPace:
        """Return the pace that ``state()`` described; lists may stand for its tuples.

        Raises ValueError if it is not such a state: begin with a new one then.
        """
        pace = cls()
        try:
            pace._calls, pace._at, seconds, rows = state  # type: ignore[assignment]
            pace._seconds = tuple(seconds)  # type: ignore[assignment, arg-type]
            for name, used, first, newest in rows:  # type: ignore[attr-defined]
                pace._used[name] = used
                if newest is not None:
                    pace._first[name], pace._newest[name] = tuple(first), tuple(newest)
        except TypeError as error:
            raise ValueError("not the state of a pace") from error
        return pace
