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

from otel_budget.core import extras
from otel_budget.sdk.pricing import rates
from otel_budget.sdk.pricing.providers import canonical
from otel_budget.sdk.pricing.rates import Rate, Tiers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from decimal import Decimal

    from genai_prices.types import ModelInfo, PriceVariant

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
    "cache_write_1h_mtok": extras.CACHE_WRITE_1H,
    "input_audio_mtok": "input_audio_tokens",
    "input_image_mtok": "input_image_tokens",
    "input_video_mtok": "input_video_tokens",
    "cache_audio_read_mtok": "cache_audio_read_tokens",
    "cache_image_read_mtok": "cache_image_read_tokens",
    "cache_video_read_mtok": "cache_video_read_tokens",
    "output_audio_mtok": "output_audio_tokens",
    "output_image_mtok": "output_image_tokens",
    "output_video_mtok": "output_video_tokens",
    "output_citation_mtok": extras.CITATION_TOKENS,
    "web_searches_kcount": extras.WEB_SEARCHES,
    "storage_searches_kcount": extras.FILE_SEARCHES,
    "code_executions_kcount": extras.CODE_EXECUTIONS,
}
#: To the package, a service tier is one of these.
_TIER_KEYS = ("service_tier", "processing", "speed")
#: Its prices of these models hold for audio, too, where they have none for it.
_MEDIA_INCLUDED = frozenset({"google"})


def look_up(
    model: str, provider: str | None, now: float, tier: str | None = None
) -> tuple[Rate | None, float | None]:
    """Return what a model costs at a moment, and until when that holds; None: always.

    The first is None for a model that is not in the list, or has no prices of that service tier
    there. now: Unix time. tier: None for the standard one.
    """
    for known_as in _provider_ids(provider):
        snapshot = DataSnapshot(data.providers, from_auto_update=False)  # its cache has no bound
        try:
            sold_by, found = snapshot.find_provider_model(model, None, known_as, None)
        except LookupError:
            continue
        at = datetime.fromtimestamp(now, UTC)
        changes = [] if isinstance(found.prices, ModelPrice) else list(_changes(found.prices, at))
        variants = [] if tier is None else _variants(found, tier)
        changes += _changes(variants, at)
        until = min(changes).timestamp() if changes else None
        if tier is None:
            prices = found.get_prices(at)
        elif any(each.constraint is None or each.constraint.active(at) for each in variants):
            prices = found.get_prices(at, dict.fromkeys(_TIER_KEYS, tier))
        else:
            return None, until
        return _rate(prices, media_included=sold_by.id in _MEDIA_INCLUDED), until
    return None, None


def _variants(model: ModelInfo, tier: str) -> list[PriceVariant]:
    """Return the prices of a service tier. Older versions of the package have none."""
    every = getattr(model, "price_variants", None) or []
    context = dict.fromkeys(_TIER_KEYS, tier)
    return [each for each in every if each.when.items() <= context.items()]


def _provider_ids(provider: str | None) -> Iterator[str]:
    """Yield where to look, in this order."""
    name = canonical(provider or "")
    known = find_provider_by_id(data.providers, name) if name else None
    if known is not None:
        yield known.id
    if known is None or known.id in SPOKEN_BY_OTHERS:
        yield _BY_NAME


def _rate(prices: ModelPrice, *, media_included: bool) -> Rate:
    found: dict[str, Tiers] = {}
    for key, kind in _KINDS.items():
        price: Decimal | TieredPrices | None = getattr(prices, key, None)
        if price is None:
            continue
        tiers = _tiers(price)
        if kind in rates.PER_PIECE:
            tiers = rates.shifted(tiers, -3)
        found[kind] = tiers
    return Rate(found, media_included=media_included)


def _tiers(price: Decimal | TieredPrices) -> Tiers:
    if isinstance(price, TieredPrices):
        return ((-1, price.base), *((tier.start, tier.price) for tier in price.tiers))
    return rates.flat(price)


def _changes(prices: Sequence[ConditionalPrice | PriceVariant], at: datetime) -> Iterator[datetime]:
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
