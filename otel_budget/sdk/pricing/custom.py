"""The user's own prices, from the ``prices:`` section of a YAML file, read strictly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otel_budget.core import extras, limits, validation
from otel_budget.errors import InvalidValueError
from otel_budget.files.yaml_file import THE_KEYS, KeyPath, YamlFile, dotted, meant
from otel_budget.sdk.pricing import rates
from otel_budget.sdk.pricing.providers import canonical
from otel_budget.sdk.pricing.rates import Rate

if TYPE_CHECKING:
    from decimal import Decimal
    from os import PathLike

SECTION = "prices"
CURRENCY = "currency"
PROVIDER = "provider"
SERVICE_TIER = "service_tier"
_KINDS = {
    "input": rates.INPUT,
    "output": rates.OUTPUT,
    "cache_read": rates.CACHE_READ,
    "cache_write": rates.CACHE_WRITE,
    "per_request": rates.REQUEST,
    "cache_write_1h": extras.CACHE_WRITE_1H,
    "input_audio": "input_audio_tokens",
    "input_image": "input_image_tokens",
    "input_video": "input_video_tokens",
    "cache_audio_read": "cache_audio_read_tokens",
    "cache_image_read": "cache_image_read_tokens",
    "cache_video_read": "cache_video_read_tokens",
    "output_audio": "output_audio_tokens",
    "output_image": "output_image_tokens",
    "output_video": "output_video_tokens",
    "citation": extras.CITATION_TOKENS,
    "per_web_search": extras.WEB_SEARCHES,
    "per_file_search": extras.FILE_SEARCHES,
    "per_code_execution": extras.CODE_EXECUTIONS,
    "per_tool_call": extras.TOOL_CALLS,
}
#: Limits may stand in the same file.
_TOP_KEYS = (SECTION, CURRENCY, limits.SECTION)
#: Decimal places of a price: more are a slip, and make every sum long.
_MOST_PLACES = 20
_ENTRY_KEYS = (*_KINDS, PROVIDER, SERVICE_TIER)


@dataclass(frozen=True, slots=True)
class OwnPrice:
    """The price of one model, or of all whose names fit a pattern."""

    rate: Rate
    name: str
    """In small letters; names are held against each other whatever their letters' case."""
    provider: str | None
    """None: any provider."""
    service_tier: str | None
    """None: the standard one."""
    pattern: re.Pattern[str] | None
    """What the name stands for if it has a ``*`` or ``?``."""

    @property
    def is_exact(self) -> bool:
        """True if it is of one model alone."""
        return self.pattern is None

    def fits(self, model: str, provider: str | None) -> bool:
        """Tell whether this is the price of a model, as telemetry names it and its provider."""
        if self.provider is not None and not _same_provider(self.provider, provider):
            return False
        model = model.lower()
        return model == self.name or bool(self.pattern and self.pattern.fullmatch(model))


def read(path: str | PathLike[str]) -> list[OwnPrice]:
    """Return the prices in a file, in its order. Raises as ``Prices.from_yaml`` does."""
    file = YamlFile.read(path)
    for key, value in file.data.items():
        if key not in _TOP_KEYS:
            raise _unknown(file, (key,), value, _TOP_KEYS)
    if SECTION not in file.data:
        raise InvalidValueError(
            SECTION, None, "a mapping of models", where=file.path, sentence="the section is missing"
        )
    currency = file.data.get(CURRENCY, "USD")
    if currency != "USD":
        raise _refused(file, (CURRENCY,), currency, "USD: budgets are in US dollars")
    found: list[OwnPrice] = []
    for model, value in file.section(SECTION).data.items():
        if not isinstance(model, str) or not model:
            raise _refused(file, (SECTION, str(model)), model, "the name of a model, a text")
        for keys, entry in _entries((SECTION, model), value):
            found.append(_own_price(file, keys, model, entry))
    return found


def _entries(keys: KeyPath, value: object) -> list[tuple[KeyPath, object]]:
    """Return the prices of one model: one mapping, or a list by provider and tier."""
    if isinstance(value, list) and value:
        return [((*keys, index), entry) for index, entry in enumerate(value)]
    return [(keys, value)]


def _own_price(file: YamlFile, keys: KeyPath, model: str, entry: object) -> OwnPrice:
    if not isinstance(entry, Mapping) or not entry:
        allowed = "a mapping of prices: " + ", ".join(_ENTRY_KEYS)
        raise _refused(file, keys, entry, allowed)
    for key, value in entry.items():
        if key not in _ENTRY_KEYS:
            raise _unknown(file, (*keys, key), value, _ENTRY_KEYS)
    prices = {
        kind: rates.flat(_money(file, (*keys, key), entry[key]))
        for key, kind in _KINDS.items()
        if key in entry
    }
    if not prices:
        raise _refused(file, keys, dict(entry), "one of the prices " + ", ".join(_KINDS))
    provider = entry.get(PROVIDER)
    if provider is not None and (not isinstance(provider, str) or not provider):
        raise _refused(file, (*keys, PROVIDER), provider, "the name of a provider, a text")
    tier = entry.get(SERVICE_TIER)
    if tier is not None and not isinstance(tier, str):
        raise _refused(file, (*keys, SERVICE_TIER), tier, "the name of a service tier, a text")
    name = model.lower()
    return OwnPrice(Rate(prices), name, provider, extras.tier_of(tier), _pattern(name))


def _money(file: YamlFile, keys: KeyPath, value: object) -> Decimal:
    allowed = "US dollars, a number from 0 to 2^53 with at most 20 decimal places"
    try:
        price = validation.money("", value)
    except InvalidValueError as exc:
        raise _refused(file, keys, value, allowed) from exc
    if int(price.as_tuple().exponent) < -_MOST_PLACES:
        raise _refused(file, keys, value, allowed)
    return price


def _pattern(name: str) -> re.Pattern[str] | None:
    if "*" not in name and "?" not in name:
        return None
    return re.compile(re.escape(name).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def _same_provider(named: str, provider: str | None) -> bool:
    return provider is not None and canonical(named) == canonical(provider)


def _unknown(
    file: YamlFile, keys: KeyPath, value: object, known: tuple[str, ...]
) -> InvalidValueError:
    allowed = THE_KEYS + ", ".join(known) + meant(str(keys[-1]), known)
    return _refused(file, keys, value, allowed)


def _refused(file: YamlFile, keys: KeyPath, value: object, allowed: str) -> InvalidValueError:
    return InvalidValueError(dotted(keys), value, allowed, where=file.where(*keys))
