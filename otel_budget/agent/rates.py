"""What one model costs: plain prices, ready to be multiplied.

The rules are the providers': the cached part of the input at its own price, reasoning at the
output's unless it has one, and where a price depends on the length of the input, all of the call at
the price of its tier. Tokens of a kind that has no price have an unknown cost, not none.
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import TYPE_CHECKING, NamedTuple

from otel_budget.model.checks import MAX_COUNT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.instrumentation.record import Amounts

#: Of a price per million tokens, and of a price per request.
INPUT, OUTPUT, CACHE_READ, CACHE_WRITE, REASONING, REQUEST = (
    "input", "output", "cache_read", "cache_write", "reasoning", "request",
)  # fmt: skip
KINDS = (INPUT, OUTPUT, CACHE_READ, CACHE_WRITE, REASONING, REQUEST)

Tiers = tuple[tuple[int, Decimal], ...]
"""(input tokens, price from one token more), rising; the first one's tokens are -1."""

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


class Rate:
    """The prices of one model. Does not change."""

    __slots__ = ("_input_priced", "_most", "_output_priced", "_prices", "_tiers", "_unit")

    def __init__(self, prices: Mapping[str, Tiers]) -> None:
        """Take prices in US dollars by kind; the price of a request is per request.

        A part without a price of its own (cached, reasoning) costs what the whole does; input or
        output without a price has an unknown cost.
        """
        self._input_priced, self._output_priced = INPUT in prices, OUTPUT in prices
        per_token = {
            kind: tiers if kind == REQUEST else shifted(tiers, -6) for kind, tiers in prices.items()
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

    def cost(self, amounts: Amounts) -> Decimal | None:
        """Return the cost of one operation in US dollars; None if it cannot be told.

        It cannot for tokens that are unknown, not told apart, or of a kind without a price. A call
        that failed and used nothing costs nothing.
        """
        tokens, into, out, cached, written, reasoning, call, failed, unknown, *_ = amounts
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
        p_in, p_out, p_read, p_write, p_reasoning, p_request = prices
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
        price(REQUEST),
    )  # fmt: skip
