"""A range of limits as people write it: ``max_tokens=200k..5M/12``.

Logarithmic, both ends in: each limit is the one before it, times the same.
"""

from __future__ import annotations

import math
import re
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.core import validation
from otel_budget.core.quantities import COUNT, SECONDS
from otel_budget.core.resources import RESOURCES
from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    from otel_budget.core.quantities import Number
    from otel_budget.core.resources import Resource

#: What a refused value is said of.
FLAG: Final = "--sweep"
FEWEST_STEPS, DEFAULT_STEPS, MOST_STEPS = 2, 12, 100
_FORM: Final = "such as max_tokens=200k..5M/12"
_RANGE: Final = re.compile(r"([^=]*)=(.*?)\.\.(.*?)(?:/([^/]*))?", re.DOTALL)
_AMOUNT: Final = re.compile(r"([0-9]{1,16}(?:\.[0-9]{1,15})?)([A-Za-z]?)")
_TIMES: Final = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
_COUNT_ALLOWED: Final = "a whole number above 0 and up to 2^53, such as 200000, 200k or 1.5M"
_MONEY_ALLOWED: Final = "US dollars above 0 and up to 2^53, such as 0.50, 20 or 1.5k"
#: Digits that a limit between the ends is rounded to; a count is rounded to a whole number.
_BETWEEN: Final = Context(prec=6)
_MOST: Final = 2**53


class LimitRange(NamedTuple):
    """Limits of one resource to be tried one after the other."""

    resource: str
    limits: tuple[Number, ...]
    """Ascending, all different, above 0, in the resource's own type."""

    @property
    def limit_key(self) -> str:
        """The key of a configuration that each of them could stand under."""
        return RESOURCES[self.resource].limit_key


def limit_range(text: str) -> LimitRange:
    """Read a range of limits. Raises InvalidValueError."""
    match = _RANGE.fullmatch(text)
    if match is None:
        raise InvalidValueError(FLAG, text, f"LIMIT=LOWEST..HIGHEST/STEPS, {_FORM}")
    key, lowest, highest, steps = match.groups()
    row = _resource(key)
    low, high = _amount(row, lowest), _amount(row, highest)
    if low >= high:
        said = f"{lowest}..{highest}: the lower limit comes first, and they differ, {_FORM}"
        raise InvalidValueError(FLAG, text, "", sentence=said)
    number = _steps(steps)
    limits = tuple(_between(row, low, high, index / (number - 1)) for index in range(number))
    if len(set(limits)) < number:
        said = f"there are no {number} different limits between {lowest} and {highest}: fewer steps"
        raise InvalidValueError(FLAG, text, "", sentence=said)
    return LimitRange(row.name, limits)


def _resource(key: str) -> Resource:
    for row in RESOURCES.values():
        if row.limit_key == key:
            return row
    allowed = ", ".join(row.limit_key for row in RESOURCES.values())
    raise InvalidValueError(FLAG, key, f"a limit: {allowed}")


def _amount(row: Resource, text: str) -> Number:
    """Return a limit above 0 in its own type."""
    if row.quantity is SECONDS:
        return validation.duration(FLAG, text)
    allowed = _COUNT_ALLOWED if row.quantity is COUNT else _MONEY_ALLOWED
    match = _AMOUNT.fullmatch(text)
    times = None if match is None else _TIMES.get(match[2])
    if match is None or times is None:
        raise InvalidValueError(FLAG, text, allowed)
    amount = Decimal(match[1]) * times
    if not 0 < amount <= _MOST or (row.quantity is COUNT and amount % 1):
        raise InvalidValueError(FLAG, text, allowed)
    return row.quantity.as_limit(amount)


def _steps(text: str | None) -> int:
    if text is None:
        return DEFAULT_STEPS
    if re.fullmatch(r"[0-9]{1,4}", text) and FEWEST_STEPS <= int(text) <= MOST_STEPS:
        return int(text)
    allowed = f"{FEWEST_STEPS} to {MOST_STEPS} steps: both ends are among them"
    raise InvalidValueError(FLAG, text, allowed)


def _between(row: Resource, low: Number, high: Number, share: float) -> Number:
    """Return the limit at a share of the way, both ends exact."""
    if share in (0.0, 1.0):
        return high if share else low
    exact = math.exp(math.log(low) * (1 - share) + math.log(high) * share)
    if row.quantity is COUNT:
        return round(exact)
    return row.quantity.as_limit(_BETWEEN.create_decimal(repr(exact)))
