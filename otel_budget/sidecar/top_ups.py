"""Top-ups of shared budgets: what operators granted, and what of it holds now.

A grant never changes, and ends by itself: at a moment, or with the window in which it was given.
The same request with the same key is the same grant, also after a restart; another one with that
key is refused. Grants that are over are kept as long as the history, for the keys.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

from otel_budget.core.budget import TopUp
from otel_budget.core.top_up import RESET, TopUpRefusal, TopUpRefusedError
from otel_budget.errors import InvalidValueError
from otel_budget.policy.budgets import plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_budget.core.budget import BudgetKey, WindowSpan
    from otel_budget.core.quantities import Number
    from otel_budget.core.top_up import TopUpRequest

#: Seconds for which one is kept after it was given, or ended.
KEPT: Final = 400 * 86_400.0
#: How many there may be: a key costs some hundred bytes.
MOST: Final = 100_000


class TopUps:
    """All grants that are known."""

    def __init__(self, given: Iterable[TopUp] = ()) -> None:
        """Begin with what was stored."""
        self._by_key: dict[str, TopUp] = {}
        self._of: dict[BudgetKey, list[TopUp]] = {}
        self._ends: list[tuple[float, str]] = []
        self._unstored: dict[str, TopUp] = {}
        self._gone: list[str] = []
        for one in sorted(given, key=lambda each: each.given_at):
            self._add(one)

    def __bool__(self) -> bool:
        """True if there is one."""
        return bool(self._by_key)

    def known(self, asked: TopUpRequest) -> TopUp | None:
        """Return the grant of a request that was made before. Raises TopUpRefusedError."""
        known = self._by_key.get(asked.key)
        if known is not None and known.asked != asked.asked:
            detail = f"the key {asked.key!r} stands for another top-up, of budget {known.budget}"
            raise TopUpRefusedError(TopUpRefusal.KEY_REUSED, detail)
        return known

    def give(self, asked: TopUpRequest, span: WindowSpan, now: float) -> TopUp:
        """Return a new grant, which holds from now on. span: the present window of its group.

        Raises InvalidValueError where it is to hold until a reset that never comes.
        """
        if asked.until is None and span.resets_at is None:
            sentence = f"cannot be {RESET}: this budget has no reset to come; say for how long"
            raise InvalidValueError("until", RESET, "a duration or a time", sentence=sentence)
        if len(self._by_key) >= MOST:
            detail = f"there are {MOST:,} top-ups already, which are kept for 400 days"
            raise TopUpRefusedError(TopUpRefusal.NOT_STORED, detail)
        given = TopUp(
            asked.key, asked.budget, asked.group, dict(asked.amounts), asked.reason, asked.by, now,
            asked.until, span.start, asked.asked,
        )  # fmt: skip
        self._add(given)
        self._unstored[given.key] = given
        return given

    def take_back(self, given: TopUp) -> None:
        """Forget a grant that could not be stored: it does not hold."""
        self._unstored.pop(given.key, None)
        if self._by_key.pop(given.key, None) is not None:
            self._remove(given)

    def _add(self, given: TopUp) -> None:
        self._by_key[given.key] = given
        self._of.setdefault((given.budget, given.group), []).append(given)
        if given.until is not None:
            heapq.heappush(self._ends, (given.until, given.key))

    def _remove(self, given: TopUp) -> None:
        of = self._of[given.budget, given.group]
        of.remove(given)
        if not of:
            del self._of[given.budget, given.group]

    def ended(self, now: float) -> set[BudgetKey]:
        """Return, once, the groups of which a grant is over by its own end."""
        found: set[BudgetKey] = set()
        while self._ends and self._ends[0][0] <= now:
            one = self._by_key.get(heapq.heappop(self._ends)[1])
            if one is not None:
                found.add((one.budget, one.group))
        return found

    def in_force(self, key: BudgetKey, span: WindowSpan, now: float) -> tuple[TopUp, ...]:
        """Return the grants that hold for a group now, oldest first. span: its present window."""
        given = self._of.get(key)
        if not given:
            return ()
        return tuple(
            one
            for one in given
            if (one.window_start == span.start if one.until is None else now < one.until)
        )

    def held(self, key: BudgetKey, start: float, at: float) -> tuple[TopUp, ...]:
        """Return the grants that held for a group in the window from ``start`` up to a moment."""
        return tuple(
            one
            for one in self._of.get(key, ())
            if (one.window_start == start if one.until is None else one.given_at < at <= one.until)
        )

    def forget(self, now: float) -> None:
        """Let those go that were over long ago."""
        for key, one in list(self._by_key.items()):
            if now - (one.given_at if one.until is None else one.until) > KEPT:
                del self._by_key[key]
                self._remove(one)
                self._unstored.pop(key, None)
                self._gone.append(key)

    @property
    def unstored(self) -> tuple[tuple[TopUp, ...], tuple[str, ...]]:
        """What is not on disk, and the keys of what is to be deleted there."""
        return tuple(self._unstored.values()), tuple(self._gone)

    def stored(self) -> None:
        """Take note that all of it is on disk."""
        self._unstored.clear()
        self._gone.clear()

    def all_unstored(self) -> None:
        """Take note that nothing of it is on disk."""
        self._unstored = dict(self._by_key)
        self._gone.clear()


def sum_of(given: Iterable[TopUp]) -> Mapping[str, Number]:
    """Return what grants add up to, per resource."""
    total: dict[str, Number] = {}
    for one in given:
        for resource, amount in one.amounts.items():
            known = total.get(resource)
            total[resource] = amount if known is None else plus(known, amount)
    return total
