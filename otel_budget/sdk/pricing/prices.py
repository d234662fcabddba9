"""The price of a call: the user's own prices first, then the list of the package genai-prices.

A model and its provider are resolved once. Nothing here fetches anything.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from otel_budget.errors import InvalidValueError, how_to_install
from otel_budget.files.watch import file_stamp
from otel_budget.logs.logger import logger
from otel_budget.runtime.environment import setting
from otel_budget.sdk.pricing.rates import NOTHING_KNOWN, Rate, Worth

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal
    from os import PathLike
    from types import ModuleType

    from otel_budget.files.watch import FileStamp
    from otel_budget.sdk.pricing.custom import OwnPrice
    from otel_budget.sdk.usage_arguments import OperationUsage

ENV_PRICES = "OTEL_BUDGET_PRICES"
#: Pairs of model and provider that are remembered.
_MOST_KNOWN = 1024
#: Characters. Nothing with a longer name is sold, and none is worth remembering.
_LONGEST_NAME = 256
#: Not loaded before a model has to be priced.
_MODULE: Final = "otel_budget.sdk.pricing.bundled"


#: By thread that is in the middle of loading the price list: what came there and needs it.
LOADING: dict[int, deque[Callable[[], object]]] = {}


class _Found(NamedTuple):
    rate: Rate | None
    """None: the price is not known."""
    until: float | None
    """Unix time from which it has to be looked up again; None: never."""


_NOT_FOUND = _Found(None, None)
#: Service tiers that cost more than the standard one, wherever there are any.
_NEVER_CHEAPER = frozenset({"fast", "priority"})


class Prices:
    """What calls cost, in US dollars."""

    def __init__(
        self, own: Sequence[OwnPrice] = (), *, clock: Callable[[], float] = time.time
    ) -> None:
        """Take the user's own prices; they come before the bundled ones. clock: for tests."""
        self._own, self._time = tuple(own), clock
        self._known: dict[tuple[str, str | None, str | None], _Found] = {}
        self._failed = False
        self.how_to_install = ""
        """Where the price list is not installed and was needed: what brings it."""

    @classmethod
    def from_yaml(cls, path: str | PathLike[str]) -> Self:
        """Read own prices from the ``prices:`` section of a YAML file (docs/money.md).

        Raises ConfigFileError for a file that cannot be read or is not YAML, InvalidValueError
        (with file, line and key) for a key or a value that is not allowed.
        """
        from otel_budget.sdk.pricing.custom import read

        return cls(read(path))

    def cost_of(self, model: str, provider: str | None, usage: OperationUsage) -> Decimal | None:
        """Return what an operation cost; None where that is not known. Never raises.

        It is not known for a model without a price, without the package genai-prices, and for
        tokens that are not told apart into input and output. Of extras only those count that have a
        price: ``worth`` tells.
        """
        if usage.extras is not None:
            return self.worth(model, provider, usage).cost
        found = self._known.get((model, provider, None))
        if found is None or (found.until is not None and self._time() >= found.until):
            found = self._find(model, provider, None)
        return None if found.rate is None else found.rate.cost(usage)

    def worth(self, model: str, provider: str | None, usage: OperationUsage) -> Worth:
        """Return what an operation cost, and whether that is all of it. Never raises.

        On a service tier without its own prices that cannot be cheaper than the standard one,
        that one's price is what the call cost at least; on another one only its extras are known.
        """
        tier = None if usage.extras is None else usage.extras.service_tier
        rate = self._rate(model, provider, tier)
        if rate is not None:
            return rate.worth(usage)
        standard = None if tier is None else self._rate(model, provider, None)
        if standard is None:
            return NOTHING_KNOWN
        if tier not in _NEVER_CHEAPER:
            usage = usage._replace(usage_unknown=True)
        return standard.worth(usage)._replace(covered=False)

    def worth_of_call(
        self,
        usage: OperationUsage,
        model: str | None,
        provider: str | None,
        charge: Decimal | None,
        estimate: Decimal | None,
    ) -> Worth:
        """Return what a reported call cost: as charged, else by our prices, else as estimated.

        charge: goes before the user's own prices, too: they are a list, and it is what was paid.
        estimate: by the library that reports the call; it stands in for a price of ours, and never
        says that an extra without one is covered.
        """
        if charge is not None:
            return Worth(charge, covered=True)
        ours = NOTHING_KNOWN if model is None else self.worth(model, provider, usage)
        if ours.covered or estimate is None:
            return ours
        known = estimate if ours.cost is None else max(ours.cost, estimate)
        return Worth(known, covered=usage.extras is None)

    def knows(self, model: str, provider: str | None) -> bool:
        """Tell whether a model has a price on the standard tier."""
        return self._rate(model, provider, None) is not None

    def _rate(self, model: str, provider: str | None, tier: str | None) -> Rate | None:
        found = self._known.get((model, provider, tier))
        if found is None or (found.until is not None and self._time() >= found.until):
            found = self._find(model, provider, tier)
        return found.rate

    @staticmethod
    def put_off(work: Callable[[], object]) -> bool:
        """Have something done once the list is loaded, if this thread is in the middle of that.

        Return False if it is not: a signal handler may come there, say.
        """
        waiting = LOADING.get(get_ident()) if LOADING else None
        if waiting is None:
            return False
        waiting.append(work)
        return True

    def _find(self, model: str, provider: str | None, tier: str | None) -> _Found:
        if len(model) > _LONGEST_NAME or len(provider or "") > _LONGEST_NAME:
            return _NOT_FOUND
        if get_ident() in LOADING:
            return _NOT_FOUND  # not known yet, and not to be remembered
        found = self._own_price(model, provider, tier)
        found = found or self._list_price(model, provider, tier)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[model, provider, tier] = found
        return found

    def _own_price(self, model: str, provider: str | None, tier: str | None) -> _Found | None:
        fitting = [own for own in self._own if own.fits(model, provider)]
        of_tier = [own for own in fitting if own.service_tier == tier]
        # The first of the best: a name before a pattern, one with the provider before one without.
        best = max(of_tier, key=lambda own: (own.is_exact, own.provider is not None), default=None)
        if best is not None:
            return _Found(best.rate, None)
        # A tier that the file does not name does not get the list's price beside the file's own.
        return _NOT_FOUND if any(own.service_tier is None for own in fitting) else None

    def _list_price(self, model: str, provider: str | None, tier: str | None) -> _Found:
        try:
            price_list = _load()
            return _Found(*price_list.look_up(model, provider, self._time(), tier))
        except ImportError as exc:
            self.how_to_install = how_to_install("prices")
            self._say_once(
                "prices: calls without cost_usd are unpriced: %s; install the price list: "
                "%s (said once)", exc, self.how_to_install,
            )  # fmt: skip
        except Exception as exc:  # noqa: BLE001 - the list's failure is not the run's: unpriced
            self._say_once("prices: %r cannot be looked up: %r (said once)", model, exc)
        return _NOT_FOUND

    def _say_once(self, text: str, *values: object) -> None:
        level = logging.DEBUG if self._failed else logging.WARNING
        self._failed = True
        logger.log(level, text, *values)


def _load() -> ModuleType:
    """Return the module of the price list. The first call loads it, which takes its time."""
    if _MODULE in sys.modules and get_ident() not in LOADING:
        return import_module(_MODULE)
    waiting = deque[Callable[[], object]]()
    try:
        LOADING[get_ident()] = waiting
        return import_module(_MODULE)
    finally:
        LOADING.pop(get_ident(), None)
        for work in waiting:
            try:
                work()
            except InvalidValueError as exc:
                logger.error("an operation was not counted: %s", exc)  # noqa: TRY400 - the arguments are at fault


def prices_of(given: object) -> Prices:
    """Return the prices a monitor was given: as they are, from a file, or those of the process.

    Raises as ``Prices.from_yaml`` does, and InvalidValueError for anything else.
    """
    if isinstance(given, Prices):
        return given
    if given is not None and not isinstance(given, str | os.PathLike):
        allowed = "a Prices, the path of a YAML file with prices, or None"
        raise InvalidValueError("prices", given, allowed)
    path = given if given is not None else setting(ENV_PRICES)
    if not path:
        return _bundled()
    stamp = None
    with suppress(OSError, ValueError):  # reading it says what is wrong
        stamp = file_stamp(Path(path))
    return _of_file(os.fspath(path), stamp)


@lru_cache(maxsize=1)
def _bundled() -> Prices:
    """Return the prices all runs of a process share: what one looked up the others know."""
    return Prices()


@lru_cache(maxsize=8)
def _of_file(path: str, _stamp: FileStamp | None) -> Prices:
    return Prices.from_yaml(path)
