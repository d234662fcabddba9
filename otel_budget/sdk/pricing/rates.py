"""What one model costs: plain prices, ready to be multiplied.

The rules are the providers': the cached part of the input at its own price, reasoning at the
output's unless it has one, and where a price depends on the length of the input, all of the call at
the price of its tier. Tokens of a kind that has no price have an unknown cost, not none.

Extras are told from the rest of a call only if it has some. One without its own price counts
as what it is part of, or not at all, and leaves the cost uncovered: it is "at least" that.
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import TYPE_CHECKING, NamedTuple

from otel_budget.core import extras
from otel_budget.core.validation import MAX_COUNT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_budget.sdk.usage_arguments import OperationUsage

#: Of a price per million tokens, and of a price per request. The kinds of extras go by their names.
INPUT, OUTPUT, CACHE_READ, CACHE_WRITE, REASONING, REQUEST = (
    "input", "output", "cache_read", "cache_write", "reasoning", "request",
)  # fmt: skip
#: Those whose price is for one, not for a million.
PER_PIECE = frozenset({REQUEST, *extras.UNITS} - {extras.CITATION_TOKENS})

Tiers = tuple[tuple[int, Decimal], ...]
"""(input tokens, price from one token more), rising; the first one's tokens are -1."""

_CACHED_KINDS = tuple(extras.INPUT_KINDS.items())
_FREE = Decimal(0)
_EXACT = Context(prec=100, traps=[])


class _Prices(NamedTuple):
    """Whole numbers of the smallest unit of money that all prices of a model are multiples of."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    reasoning: int
    request: int
    extras: Mapping[str, int]
    """Only those with their own price."""


class Worth(NamedTuple):
    """What an operation costs."""

    cost: Decimal | None
    """US dollars, as far as they are known; None: not at all."""
    covered: bool
    """True if that is all of it; else the cost is "at least" that."""

    def applied_to(self, usage: OperationUsage) -> OperationUsage:
        """Return what was used with its cost; extras stay in it if the cost does not cover them."""
        return usage._replace(cost_usd=self.cost, extras=None if self.covered else usage.extras)


NOTHING_KNOWN = Worth(None, covered=False)


class Rate:
    """The prices of one model. Does not change."""

    __slots__ = (
        "_input_priced", "_media_included", "_most", "_output_priced", "_prices", "_tiers", "_unit",
    )  # fmt: skip

    def __init__(self, prices: Mapping[str, Tiers], *, media_included: bool = False) -> None:
        """Take prices in US dollars by kind; the price of a request is per request.

        A part without its own price (cached, reasoning) costs what the whole does; input or
        output without a price has an unknown cost. media_included: so does audio.
        """
        self._media_included = media_included
        self._input_priced, self._output_priced = INPUT in prices, OUTPUT in prices
        per_token = {
            kind: tiers if kind in PER_PIECE else shifted(tiers, -6)
            for kind, tiers in prices.items()
        }
        every = [price for tiers in per_token.values() for _, price in tiers]
        places = max((-int(p.normalize(_EXACT).as_tuple().exponent) for p in every), default=0)
        places = max(0, places)
        self._unit = shifted(flat(Decimal(1)), -places)[0][1]
        self._most = MAX_COUNT * 10**places
        whole = {
            kind: [(start, int(price)) for start, price in shifted(tiers, places)]
            for kind, tiers in per_token.items()
        }
        starts = sorted({start for tiers in whole.values() for start, _ in tiers} | {-1})
        steps = [(start, _at(whole, start)) for start in starts]
        self._prices = steps[0][1]
        self._tiers = tuple(reversed(steps[1:]))

    def cost(self, usage: OperationUsage) -> Decimal | None:
        """Return the cost of one operation in US dollars; None if it cannot be told.

        It cannot for tokens that are unknown, not told apart, or of a kind without a price. A call
        that failed and used nothing costs nothing.
        """
        tokens, into, out, cached, written, reasoning, call, failed, unknown, *_ = usage
        if unknown or tokens != into + out:
            return None
        if (into and not self._input_priced) or (out and not self._output_priced):
            return None
        if failed and not tokens:
            return _FREE
        prices = self._prices
        for start, tier in self._tiers:
            if into > start:
                prices = tier
                break
        p_in, p_out, p_read, p_write, p_reasoning, p_request, _ = prices
        units = (
            (into - cached - written) * p_in
            + cached * p_read
            + written * p_write
            + (out - reasoning) * p_out
            + reasoning * p_reasoning
        )
        if call:
            units += p_request
        return None if units > self._most else _EXACT.multiply(Decimal(units), self._unit)

    def worth(self, usage: OperationUsage) -> Worth:
        """Return the cost of one operation with its extras."""
        plain = self.cost(usage)
        if usage.extras is None:
            return Worth(plain, covered=plain is not None)
        into = usage.input_tokens
        prices = next((tier for start, tier in self._tiers if into > start), self._prices)
        more, covered = 0, plain is not None
        for name, count, instead_of in _extra_tokens(usage):
            own = prices.extras.get(name)
            if own is None:
                covered = covered and self._is_included(name, prices, instead_of)
            elif plain is not None:
                more += count * (own - getattr(prices, instead_of))
        covered = covered and _fits(usage, prices.extras)
        counts = usage.extras.counts
        units = {name: counts[name] for name in extras.UNITS if name in counts}
        more += sum(prices.extras.get(name, 0) * count for name, count in units.items())
        covered = covered and units.keys() <= prices.extras.keys()
        if plain is None and not more:
            return NOTHING_KNOWN
        cost = _EXACT.add(plain or _FREE, _EXACT.multiply(Decimal(more), self._unit))
        return Worth(cost, covered) if 0 <= cost <= MAX_COUNT else NOTHING_KNOWN

    def _is_included(self, name: str, prices: _Prices, instead_of: str) -> bool:
        """Tell whether tokens without their own price cost what those around them do."""
        if not getattr(prices, instead_of):
            return True
        if any(name == cached and fresh in prices.extras for fresh, cached in _CACHED_KINDS):
            return False
        pictures = name.startswith(("input_image", "input_video", "cache_image", "cache_video"))
        return pictures or (self._media_included and name != extras.CACHE_WRITE_1H)


def _extra_tokens(usage: OperationUsage) -> Iterator[tuple[str, int, str]]:
    """Yield tokens with their own price, and the price they count at as plain ones.

    No more of them than there are. What is not said to come from a cache may all the same: it is
    taken for cached, which is cheaper.
    """
    _, into, out, cached, written, reasoning, *_ = usage
    counts = {} if usage.extras is None else usage.extras.counts
    rest = into - cached - written
    for name, from_cache in extras.INPUT_KINDS.items():
        read = min(counts.get(from_cache, 0), cached)
        fresh = min(counts.get(name, 0) - counts.get(from_cache, cached), rest)
        cached, rest = cached - read, rest - max(0, fresh)
        if read:
            yield from_cache, read, CACHE_READ
        if fresh > 0:
            yield name, fresh, INPUT
    rest = out - reasoning
    for name in extras.OUTPUT_KINDS:
        count = min(counts.get(name, 0), rest)
        rest -= count
        if count:
            yield name, count, OUTPUT
    hour = min(counts.get(extras.CACHE_WRITE_1H, 0), written)
    if hour:
        yield extras.CACHE_WRITE_1H, hour, CACHE_WRITE


def _fits(usage: OperationUsage, own: Mapping[str, int]) -> bool:
    """Tell whether the extras are parts of what they are said to be parts of, cached or not."""
    _, into, out, cached, written, reasoning, *_ = usage
    counts = {} if usage.extras is None else usage.extras.counts
    of_input = sum(counts.get(name, 0) for name in extras.INPUT_KINDS)
    from_cache = sum(counts.get(name, 0) for name in extras.CACHED_KINDS)
    of_output = sum(counts.get(name, 0) for name in extras.OUTPUT_KINDS)
    unsaid = cached and any(
        name in own and name in counts and from_cache not in counts
        for name, from_cache in extras.INPUT_KINDS.items()
    )
    return (
        not unsaid
        and from_cache <= min(cached, of_input)
        and of_input - from_cache <= into - cached - written
        and of_output <= out - reasoning
        and counts.get(extras.CACHE_WRITE_1H, 0) <= written
    )


def flat(price: Decimal) -> Tiers:
    """Return a price that does not depend on the length of the input."""
    return ((-1, price),)


def shifted(tiers: Tiers, places: int) -> Tiers:
    """Return the prices times ten to the power of ``places``, exactly."""
    return tuple((start, price.scaleb(places, _EXACT)) for start, price in tiers)


def _at(prices: Mapping[str, list[tuple[int, int]]], start: int) -> _Prices:
    """Return the prices of a call with one input token more than ``start``."""

    def price(kind: str, whole: int = 0) -> int:
        reached = [price for begin, price in prices.get(kind, ()) if begin <= start]
        return reached[-1] if reached else whole

    into, out = price(INPUT), price(OUTPUT)
    return _Prices(
        into, out, price(CACHE_READ, into), price(CACHE_WRITE, into), price(REASONING, out),
        price(REQUEST), {kind: price(kind) for kind in extras.NAMES if kind in prices},
    )  # fmt: skip
