"""When a shared budget is used up at the pace of late: what its runs spent together, and how long
that took.

Both sums fade with the same time constant, a sixtieth of the window: what matters to a month is not
the last minute. Nothing is stored: after a start the pace is not known until something is spent.
Of a rolling window, what it lets go of is taken off: so much room comes back.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from otel_budget.core.budget import WindowKind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from otel_budget.core.budget import Budget, BudgetKey, WindowSpan
    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import BudgetState

#: Seconds: a pool of many runs has no need of less, and more is history.
_LEAST, _MOST, _SHARE = 60.0, 3600.0, 60.0
#: Time constants without use after which nothing is being spent (below 1 % is left then).
_IDLE: Final = 5.0
#: Seconds after which it is told anew, though nothing was used: the pace slackens.
_TOLD_AGAIN: Final = 15.0


class _Pace:
    """Of one group."""

    __slots__ = ("at", "constant", "rolls", "seconds", "spent", "spent_at", "start", "used")

    def __init__(self, budget: Budget, used: Mapping[str, Number], span: WindowSpan, at: float):
        self.rolls = budget.window.kind is WindowKind.ROLLING
        length = budget.window.seconds or span.end - span.start
        self.constant = min(max(length / _SHARE, _LEAST), _MOST)
        self.used, self.start, self.at = used, span.start, at
        self.spent: dict[str, float] = {}
        self.seconds = 0.0
        self.spent_at = -math.inf

    def observe(self, used: Mapping[str, Number], span: WindowSpan, at: float) -> None:
        """Take in what is used by now."""
        before: Mapping[str, Number] = self.used
        if span.start != self.start and not self.rolls:
            before = {}
        passed = max(0.0, at - self.at)
        fade = math.exp(-passed / self.constant)
        for resource, amount in used.items():
            more = float(amount) - float(before.get(resource, 0))
            self.spent[resource] = self.spent.get(resource, 0.0) * fade + more
            if more > 0:
                self.spent_at = at
        self.seconds = self.seconds * fade + passed
        self.used, self.start, self.at = used, span.start, at

    def per_second(self, resource: str, now: float) -> float:
        """Return the pace; 0 if nothing is being spent, or not known yet."""
        passed = max(0.0, now - self.at)
        fade = math.exp(-passed / self.constant)
        seconds = self.seconds * fade + passed
        spent = self.spent.get(resource, 0.0) * fade
        if seconds <= 0 or self.is_idle(now):
            return 0.0
        return max(0.0, spent / seconds)

    def is_idle(self, now: float) -> bool:
        """Tell whether nothing was spent for so long that nothing is being spent."""
        return now - self.spent_at > _IDLE * self.constant


class PoolPaces:
    """The paces of all groups. All times are Unix time."""

    def __init__(self) -> None:
        """Know of none."""
        self._paces: dict[BudgetKey, _Pace] = {}
        self._told_at = -math.inf

    def observe(
        self,
        key: BudgetKey,
        budget: Budget,
        used: Mapping[str, Number],
        span: WindowSpan,
        at: float,
    ) -> None:
        """Take in what a group has used in its present window by now."""
        pace = self._paces.get(key)
        if pace is None:
            self._paces[key] = _Pace(budget, used, span, at)
        else:
            pace.observe(used, span, at)

    def exhaustion_seconds(
        self, key: BudgetKey, state: BudgetState, now: float
    ) -> dict[str, float]:
        """Return by resource in how many seconds a group's limit is reached; 0 if it is.

        Without those that are not being spent, that last until the reset, or of which nothing can
        be told yet.
        """
        pace, found = self._paces.get(key), {}
        resets_at = state.window.resets_at
        left = math.inf if resets_at is None else resets_at - now
        for resource, one in state.resources.items():
            if one.remaining <= 0:
                found[resource] = 0.0
            elif pace is not None and (rate := pace.per_second(resource, now)) > 0:
                seconds = float(one.remaining) / rate
                if seconds < left:
                    found[resource] = seconds
        return found

    def slackening(self, now: float) -> set[BudgetKey]:
        """Return the groups of which it is to be told anew, though they have used nothing more."""
        if now - self._told_at < _TOLD_AGAIN:
            return set()
        before, self._told_at = self._told_at, now
        return {
            key for key, pace in self._paces.items() if pace.at < now and not pace.is_idle(before)
        }

    def keep(self, keys: AbstractSet[BudgetKey]) -> None:
        """Forget all other groups, if there are more."""
        if len(self._paces) > len(keys):
            for key in self._paces.keys() - keys:
                del self._paces[key]
