"""A counter that two processes write in turn: its value goes back and forth between branches.

A drop means that the counter began anew, as long as nothing else is known (counter.py). But where a
value returns to one that was left, and then to the other one again, no counter began anew: several
processes write one series, and each drop would count all of it once more, without end.

- A return to a value that was left is evidence, the more the nearer it is: that a counter which
  began anew is by chance nearer to where another one was by a hundredth of what lies between that
  and the value it dropped from is a matter of one in a hundred. It is counted in bits. Not the
  value is the measure: jobs that each begin with the same large prompt are near each other beside
  it. Steps that are large beside the value speak against it, as a counter that began anew climbs;
  and a value below all that were left ends it. Two returns are the least.
- Many returns in a row without a value below all are evidence, too, however near they are.
- From then on each value belongs to the branch with the largest value not above it, and what a
  branch grew is what counts. What was counted before stays counted.
- Should values not return to the branches any more, it was no such thing: then all counts that
  would have counted otherwise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from otel_budget.ledger.counter import CounterState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_budget.core.quantities import Number

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
        """Take note that the series was away: what comes back has begun anew."""
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
