"""Cumulative counters as seen from outside: what counts of each value that a target shows.

All rules are in here:

- A counter grows, and drops only when it began again. The rule is PromQL's: a value below the last
  one means that the counter was reset to 0 in between, so all of the new value is new. What was
  counted before the reset stays counted.
- A lower value at the same time is no reset: it may come from another replica of a Prometheus
  server. Nor is a drop of money by a rounding error.
- A series that is gone stays counted. One that comes back after it was folded counts as a new one.

Two processes may write one counter in turn: its value goes back and forth between branches. Where a
value returns to one that was left, and then to the other one again, no counter began again, and
each drop would count all of it once more, without end:

- A return to a value that was left is evidence, the more the nearer it is: that a counter which
  restarted is by chance nearer to where another one was by a hundredth of what lies between that
  and the value it dropped from is a matter of one in a hundred. It is counted in bits. Not the
  value is the measure: jobs that each begin with the same large prompt are near each other beside
  it. Steps that are large beside the value speak against it, as a counter that restarted climbs;
  and a value below all that were left ends it. Two returns are the least.
- Many returns in a row without a value below all are evidence, too, however near they are.
- From then on each value belongs to the branch with the largest value not above it, and what a
  branch grew is what counts. What was counted before stays counted.
- Should values not return to the branches any more, it was no such thing: then all counts that
  would have counted otherwise.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_budget.core.quantities import Number
from otel_budget.core.resources import ZERO
from otel_budget.core.token_kinds import KIND_COUNTER_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: So many series that are gone are kept apart at one target; one is gone after so many seconds.
SERIES_KEPT = 100
FOLD_AFTER = 600.0
#: Series of one run at one target that are remembered at most beside those of the newest sample.
SERIES_MOST = 2000
#: Share of a sum of money by which it drops where the same amounts are added in another order.
_ROUNDED_OFF = Decimal("1e-9")
_NONE: frozenset[str] = frozenset()
#: Branches that are kept apart; past that the one that was left longest ago goes.
BRANCHES_MOST = 8
_TWO = 2
#: Samples without a jump after which a counter that dropped is an ordinary one again.
CALM_AFTER = 64
#: Bits of evidence that prove it; those of a value that is exactly what it was, as a job that does
#: the same each time shows it, too; those that each return must have at least to speak for it.
_PROOF, _EXACT, _LEAST = 12.0, 2.0, 1.5
#: The same where other series of the page are known to be written in turn.
_PROOF_BESIDE = 3.0
#: Bits in one value at most. Steps below these are taken for as large: small numbers meet by
#: chance; of money it is a share.
_MOST, _SMALLEST, _ROUNDED = 12.0, 8.0, 1e-4
#: Bits against it in one value at most, and those after which nothing is recognised any more.
_AGAINST, _REFUTED = 4.0, -10.0


class CounterState(NamedTuple):
    """What one series added up to, and its last raw value, in the units of the series."""

    total: Number
    last: Number

    def observe(self, value: Number) -> tuple[CounterState, bool]:
        """Return the state after one more sample, and whether the sample showed a reset."""
        if value >= self.last:
            return CounterState(self.total + (value - self.last), value), False  # type: ignore[operator]
        return CounterState(self.total + value, value), True  # type: ignore[operator]


def first(value: Number) -> CounterState:
    """Return the state after the first sample: all of it counts, whenever it was counted."""
    return CounterState(value, value)


class Counters:
    """All counters of a run at one target. Times in seconds on the reader's own clock."""

    __slots__ = ("branches", "counters", "folded", "lacking", "shown", "shown_at", "sums")

    def __init__(self) -> None:
        """Begin with none."""
        self.counters: dict[tuple[str, str], CounterState] = {}
        self.shown: Mapping[tuple[str, str], Number] = {}
        """The newest sample."""
        self.shown_at: dict[tuple[str, str], float] = {}
        """When each series that is not in it was last there."""
        self.folded: dict[str, Number] = {}
        """Per resource, what series counted that are long gone."""
        self.sums: dict[str, Number] = {}
        """Per resource, what all series ever counted."""
        self.branches: dict[tuple[str, str], Branches] = {}
        """Of series that dropped, what may show that several processes write them."""
        self.lacking = False
        """True if the newest sample has no series of a resource that was counted before."""

    def known_series(self) -> Mapping[tuple[str, str], Number]:
        """Return the newest sample; as it was stored, if there was none since."""
        return self.shown or {key: state.last for key, state in self.counters.items()}

    def take(
        self, counters: Mapping[tuple[str, str], Number], at: float, before: float
    ) -> tuple[int, bool]:
        """Take in the counters of a sample taken at ``at``, not before the last one, ``before``.

        Returns the resets it showed, and whether what is counted changed.
        """
        resets, changed, newer = 0, False, at > before
        for key, value in counters.items():
            known = self.counters.get(key)
            if known is None:
                state, total, reset = first(value), ZERO[key[0]], False
            elif value != known.last and (newer or value > known.last):
                total = known.total
                if value < known.last or key in self.branches:
                    state, reset = self._jump(key, known, value)
                else:  # as ``observe`` has it, and as it is with most
                    state, reset = CounterState(total + (value - known.last), value), False  # type: ignore[operator] # one series is one type
            else:
                continue
            self.counters[key], changed = state, True
            self.sums[key[0]] = self.sums.get(key[0], ZERO[key[0]]) + (state.total - total)  # type: ignore[operator] # one series is one type
            resets += reset and key[0] not in KIND_COUNTER_NAMES  # tokens are told already
        self._note_absent(counters, before)
        if len(self.counters) > SERIES_KEPT:
            self._fold(at)
        return resets, changed

    def _jump(
        self, key: tuple[str, str], known: CounterState, value: Number
    ) -> tuple[CounterState, bool]:
        """Take in a value of a series that drops, or did."""
        last, money = known.last, isinstance(value, Decimal)
        if money and 0 < last - value <= last * _ROUNDED_OFF:  # type: ignore[operator] # one series is one type
            return known, False
        branches = self.branches.get(key)
        if branches is None:
            branches = self.branches[key] = Branches(known.last)
        elif self.shown and key in self.shown_at:
            branches.came_back()
        others = any(other.recognised for other in self.branches.values())
        observed = branches.observe(known, value, others=others)
        if branches.is_calm:
            del self.branches[key]
        return observed

    @property
    def alternating(self) -> frozenset[str]:
        """The resources of which a series was found to be written by several processes."""
        if not self.branches:
            return _NONE
        doubtful = (key[0] for key, branches in self.branches.items() if branches.doubtful)
        return frozenset(doubtful) - KIND_COUNTER_NAMES

    def _note_absent(self, counters: Mapping[tuple[str, str], Number], until: float) -> None:
        """Note which series are not there any more, and which are again."""
        for key in self.shown:
            if key not in counters:
                self.shown_at[key] = until
        if self.shown_at or self.lacking:
            for key in counters:
                self.shown_at.pop(key, None)
            lacking = self.sums.keys() - {resource for resource, _ in counters}
            # Kinds of tokens are there only as long as a budget weighs them.
            self.lacking = not lacking <= KIND_COUNTER_NAMES
        self.shown = counters

    def sum_up(self) -> None:
        """Work the sums out from what is kept of the series."""
        self.sums = dict(self.folded)
        for (resource, _), state in self.counters.items():
            self.sums[resource] = self.sums.get(resource, ZERO[resource]) + state.total  # type: ignore[operator]

    def _fold(self, at: float) -> None:
        """Keep only the sum of series that are long gone, once there are many of them.

        An agent that labels its series by request would make them grow without bound. One that
        comes back after all counts as a new one.
        """
        gone = [key for key, shown_at in self.shown_at.items() if at - shown_at > FOLD_AFTER]
        if len(gone) <= SERIES_KEPT:
            if len(self.shown_at) <= SERIES_MOST:
                return
            gone = sorted(self.shown_at, key=self.shown_at.__getitem__)[:-SERIES_KEPT]
        for key in gone:
            resource, total = key[0], self.counters.pop(key).total
            self.branches.pop(key, None)
            self.folded[resource] = self.folded.get(resource, ZERO[resource]) + total  # type: ignore[operator]
            del self.shown_at[key]


class Branches:
    """What is known of one series that has dropped."""

    __slots__ = (
        "calm", "crept", "doubtful", "evidence", "lasts", "plain", "recognised", "returns",
    )  # fmt: skip

    def __init__(self, left: Number) -> None:
        """Begin with the value that it drops from."""
        self.lasts: list[Number] = [left]
        """Last value of each branch; the one that was visited last is at the end."""
        self.recognised = self.doubtful = False
        """Whether several writers are recognised; and whether they ever were."""
        self.plain: Number | None = None
        """The total if each drop were a new beginning, once that is not what counts."""
        self.evidence = 0.0
        """Bits for several writers; once they are recognised, and below 0, against them."""
        self.returns = self.calm = 0
        """Returns in a row to a branch that was left; samples without one."""
        self.crept = False
        """True if one of these returns was to a larger value."""

    def observe(
        self, state: CounterState, value: Number, *, others: bool = False
    ) -> tuple[CounterState, bool]:
        """Return the state after one more sample, and whether it showed a new beginning.

        others: True if other series of the same page are known to be written in turn.
        """
        plain, reset = state.observe(value)
        if self.plain is not None:
            self.plain += plain.total - state.total  # type: ignore[operator] # one series is one type
        found = max((last for last in self.lasts if last <= value), default=None)
        if found is None:
            self._branch_off(value)
            total = state.total + value  # type: ignore[operator]
        else:
            self._weigh(found, value, state.last, _SMALLEST if not others else 1.0)
            total = state.total + (value - found)  # type: ignore[operator]
        if self.recognised:
            if self.evidence > _REFUTED:
                return CounterState(total, value), found is None
            total = total if self.plain is None else max(total, self.plain)
            self._begin_again(value)
            return CounterState(total, value), reset
        if self.returns > 1 and self.evidence >= (_PROOF_BESIDE if others else _PROOF):
            self.recognised = self.doubtful = True
            self.plain, self.evidence = plain.total, 0.0
            return CounterState(total, value), False
        return plain, reset

    def _weigh(self, found: Number, value: Number, left: Number, smallest: float) -> None:
        """Take in a value that may be of a branch, and what it is evidence of."""
        place = len(self.lasts) - 1 - self.lasts[::-1].index(found)
        returned = place != len(self.lasts) - 1
        apart = min(found, abs(found - left)) if returned else found  # type: ignore[operator]
        bits = self._bits(found, value, apart, smallest)
        if returned:
            self.returns, self.calm = self.returns + 1, 0
            self.crept = self.crept or bool(value > found)
            if self.crept and apart > self._least(found, smallest):
                bits = max(bits, self._bits_of_row())
        else:
            bits, self.calm = min(0.0, bits), self.calm + 1
        least = 2 * _REFUTED if self.recognised else 0.0
        most = 0.0 if self.recognised else math.inf
        self.evidence = min(most, max(least, self.evidence + bits))
        del self.lasts[place]
        self.lasts.append(value)

    def _bits_of_row(self) -> float:
        """Return the evidence in one more return without a value below all.

        Of values in any order one is below all now and then: those that never are, n of them on k
        branches, are rarer by k * k / n with each.
        """
        branches = len(self.lasts)
        return math.log2((self.returns + branches) / branches**2)

    def _bits(self, found: Number, value: Number, apart: Number, smallest: float) -> float:
        """Return the evidence in a value so much above a branch.

        apart: how far that is from the branch that was left. Jobs that spend much alike are all
        near each other, beside what they spend: no reason to take them for one.
        """
        distance = float(apart)
        if not distance:
            return -_AGAINST
        grown = max(self._least(found, smallest), float(value - found))  # type: ignore[operator] # one series is one type
        chance = len(self.lasts) * grown / distance
        # Of amounts beyond all reason (1e-320 beside 1e15) not even the chance is above 0.
        bits = _MOST if not chance else min(_MOST, max(-_AGAINST, -math.log2(chance) - _LEAST))
        exact = value == found and (self.recognised or not self.crept)
        if exact:
            return min(bits, _EXACT) if len(self.lasts) == _TWO else 0.0
        return bits

    @staticmethod
    def _least(found: Number, smallest: float) -> float:
        return smallest if isinstance(found, int) else _ROUNDED * float(found)

    def _branch_off(self, value: Number) -> None:
        """Begin another branch, and look for returns again."""
        self.lasts = [*self.lasts, value][-BRANCHES_MOST:]
        self.evidence = self.evidence - _AGAINST if self.recognised else 0.0
        self.returns, self.calm, self.crept = 0, 0, False

    def _begin_again(self, value: Number) -> None:
        """Take it all back: it was no such thing."""
        self.recognised, self.plain, self.lasts = False, None, [value]
        self.evidence, self.returns, self.calm, self.crept = 0.0, 0, 0, False

    def came_back(self) -> None:
        """Take note that the series was away: what comes back has restarted."""
        self.returns, self.crept = 0, False
        self.evidence = min(0.0, self.evidence)

    @property
    def is_calm(self) -> bool:
        """True once it need not be watched any more."""
        return not self.doubtful and self.calm >= CALM_AFTER

    def row(self) -> tuple[object, ...]:
        """Return it as it is stored: what ``of_row`` takes."""
        return (
            self.recognised, self.doubtful, self.plain, self.evidence, self.returns, self.calm,
            self.crept, *self.lasts,
        )  # fmt: skip

    @classmethod
    def of_row(cls, row: Sequence[Any], number: Callable[[Any], Number]) -> Branches:
        """Return what ``row`` gave. number: reads a number as it was stored."""
        recognised, doubtful, plain, evidence, returns, calm, crept, *lasts = row
        branches = cls(number(lasts[0]))
        branches.recognised, branches.doubtful = recognised, doubtful
        branches.plain = None if plain is None else number(plain)
        branches.evidence, branches.returns, branches.calm = evidence, returns, calm
        branches.crept, branches.lasts = crept, [number(last) for last in lasts]
        return branches
