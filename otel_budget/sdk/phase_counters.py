"""The counts of one phase and one model, and how money is added up.

Whatever the interpreter runs in the middle of an addition (a signal handler, a finalizer, a trace
function, another greenlet), and wherever an exception from outside ends it: an operation is counted
whole or not at all. So it is counted by one assignment, of a tuple that is never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Context, Decimal
from functools import reduce
from operator import add
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Returns the sum of two amounts of money: exactly, whatever decimal context the caller has set. No
#: function of our own around it, because that would take as long again.
plus: Final = Context(prec=100, traps=[]).add


#: What was used of further resources, by name: never changed, like all that is counted.
Further = Mapping[str, int]
NOTHING_FURTHER: Final[Further] = MappingProxyType({})


def together(one: Further, other: Further) -> Further:
    """Return what both come to."""
    if not one or not other:
        return one or other
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


class Counts(NamedTuple):
    """Counts of operations. Fields as in ResourceUsage; nothing is counted twice."""

    input_tokens: int = 0
    output_tokens: int = 0
    unspecified_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    api_calls: int = 0
    failed_api_calls: int = 0
    unpriced_calls: int = 0
    unknown_usage_calls: int = 0
    estimated_calls: int = 0
    estimated_tokens: int = 0
    aside_calls: int = 0
    """Of the above, what says nothing about the usual use of a call: failed and unknown calls,
    estimates, what is no call."""
    aside_input: int = 0
    aside_output: int = 0
    aside_unspecified: int = 0
    cost_usd: Decimal = Decimal(0)
    further: Further = NOTHING_FURTHER
    """Further resources, by name."""

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.input_tokens + self.output_tokens + self.unspecified_tokens

    def usual_tokens(self) -> tuple[int, int, int]:
        """Return input, output and unspecified tokens of the calls that are not aside."""
        return (
            self.input_tokens - self.aside_input,
            self.output_tokens - self.aside_output,
            self.unspecified_tokens - self.aside_unspecified,
        )

    def and_of(self, other: Counts) -> Counts:
        """Return both together."""
        mine, others = self[:-2], other[:-2]
        cost = plus(self.cost_usd, other.cost_usd)
        return Counts._make((*map(add, mine, others), cost, together(self.further, other.further)))


#: The fields of ``Counts`` in their order. A plain tuple takes a sixth of the time to make, and one
#: is made for every operation.
CountsRow = tuple[
    int, int, int, int, int, int, int, int, int, int, int, int, int, int, int, int, Decimal, Further
]  # fmt: skip
NOTHING: Final = Counts()


def summed(counts: Iterable[Counts]) -> Counts:
    """Return all of them together."""
    every = list(counts)
    return reduce(Counts.and_of, every) if every else NOTHING


class PhaseCounters:
    """The counts of one phase and one model."""

    __slots__ = ("counts", "plain")

    def __init__(self) -> None:
        self.counts: CountsRow = NOTHING
        self.plain = 0, 0
        """Beside them, tokens that are not told apart, and calls without a price: the common case,
        to be counted by itself."""

    def __getattr__(self, name: str) -> int | Decimal | Further:
        """Return one of the counts by its name."""
        if name not in Counts._fields:
            raise AttributeError(name)
        found: int | Decimal | Further = getattr(self.read(), name)
        return found

    def read(self) -> Counts:
        """Return all of it."""
        counts, (tokens, calls) = Counts._make(self.counts), self.plain
        if not tokens and not calls:
            return counts
        return counts._replace(
            unspecified_tokens=counts.unspecified_tokens + tokens,
            api_calls=counts.api_calls + calls,
            unpriced_calls=counts.unpriced_calls + calls,
        )
