"""The prices that the package genai-prices carries: which model is meant, and what it costs now.

Only the data that came with the package are used; nothing is fetched. Loading them takes some
tenths of a second and the package's own dependencies, so nothing here is imported before a model
has to be priced.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from genai_prices import data
from genai_prices.data_snapshot import DataSnapshot, find_provider_by_id
from genai_prices.types import (
    ConditionalPrice,
    ModelPrice,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from otel_budget.agent import rates
from otel_budget.agent.providers import canonical
from otel_budget.agent.rates import Rate, Tiers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

#: Who speaks these providers' APIs is taken for them by most telemetry: a model they don't have is
#: looked for at the others.
SPOKEN_BY_OTHERS = frozenset({"openai", "anthropic"})
#: To the package: find the provider by the model's name, or by what stands before its "/".
_BY_NAME = "litellm"

_KINDS = {
    "input_mtok": rates.INPUT,
    "output_mtok": rates.OUTPUT,
    "cache_read_mtok": rates.CACHE_READ,
    "cache_write_mtok": rates.CACHE_WRITE,
    "output_reasoning_mtok": rates.REASONING,
    "requests_kcount": rates.REQUEST,
}


def look_up(model: str, provider: str | None, now: float) -> tuple[Rate | None, float | None]:
    """Return what a model costs at a moment, and until when that holds; None: always.

    The first is None for a model that is not in the list. now: Unix time.
    """
    for known_as in _provider_ids(provider):
        snapshot = DataSnapshot(data.providers, from_auto_update=False)  # its cache has no bound
        try:
            _, found = snapshot.find_provider_model(model, None, known_as, None)
        except LookupError:
            continue
        at = datetime.fromtimestamp(now, UTC)
        changes = [] if isinstance(found.prices, ModelPrice) else list(_changes(found.prices, at))
        until = min(changes).timestamp() if changes else None
        return _rate(found.get_prices(at)), until
    return None, None


def _provider_ids(provider: str | None) -> Iterator[str]:
    """Yield where to look, in this order."""
    name = canonical(provider or "")
    known = find_provider_by_id(data.providers, name) if name else None
    if known is not None:
        yield known.id
    if known is None or known.id in SPOKEN_BY_OTHERS:
        yield _BY_NAME


def _rate(prices: ModelPrice) -> Rate:
    found: dict[str, Tiers] = {}
    for key, kind in _KINDS.items():
        price: Decimal | TieredPrices | None = getattr(prices, key, None)
        if price is None:
            continue
        tiers = _tiers(price)
        if kind == rates.REQUEST:
            tiers = rates.shifted(tiers, -3)
        found[kind] = tiers
    return Rate(found)


def _tiers(price: Decimal | TieredPrices) -> Tiers:
    if isinstance(price, TieredPrices):
        return ((-1, price.base), *((tier.start, tier.price) for tier in price.tiers))
    return rates.flat(price)


def _changes(prices: list[ConditionalPrice], at: datetime) -> Iterator[datetime]:
    """Yield the moments after ``at`` at which another of the prices may begin to hold."""
    for conditional in prices:
        constraint: Any = conditional.constraint
        if isinstance(constraint, StartDateConstraint):
            start = datetime.combine(constraint.start_date, datetime.min.time(), UTC)
            if start > at:
                yield start
        elif isinstance(constraint, TimeOfDateConstraint):
            for moment in (constraint.start_time, constraint.end_time):
                first = datetime.combine(at.date() - timedelta(days=1), moment)
                first = first if first.tzinfo else first.replace(tzinfo=UTC)
                yield next(day for n in range(4) if (day := first + timedelta(days=n)) > at)
        elif constraint is not None:
            # A condition that this version does not know: look again soon.
            yield at + timedelta(minutes=1)
