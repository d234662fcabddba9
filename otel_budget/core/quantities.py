"""What amounts of a resource are: a count, seconds, or money.

What must live here: all that differs between the three. A count is whole and an int, seconds are a
float, money is an exact Decimal in US dollars; nothing else decides that by a resource's name.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from decimal import ROUND_DOWN, Context, Decimal
from typing import Final

from otel_budget.core import validation
from otel_budget.errors import InvalidValueError

#: What a resource is counted in: tokens and calls are int, seconds float, money Decimal.
Number = int | float | Decimal

#: US dollars as text.
MONEY_PATTERN: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")

#: Wide enough that a threshold (17 digits) times a limit (up to 34) is never rounded.
_EXACT: Final = Context(prec=100)
#: Not the caller's context: a run that counts with six digits can still be told its cost.
_CUT: Final = Context(prec=100, rounding=ROUND_DOWN)
_TENTHS_BELOW: Final = 100
#: Digits of a sum of floats that mean something: what a million additions make up is behind them.
#: So 0.10973400000000001 is 0.109734, and no sum is changed by more than 5e-10 of it.
_SUM_DIGITS: Final = 10


class Quantity(ABC):
    """How amounts of one kind are read, checked, rounded and written."""

    zero: Number
    """Nothing of it, in its own type."""

    @abstractmethod
    def from_sample(self, value: float) -> Number:
        """Return a plausible value of a sample in its own type; no use is lost by rounding."""

    def from_float_sum(self, value: float) -> Number:
        """Return the same of a program that adds up floats, without what the adding made up."""
        return self.from_sample(value)

    @abstractmethod
    def limit(self, key: str, value: object) -> Number | None:
        """Return a limit in its own type, None for unlimited. Raises InvalidValueError."""

    def limit_from_json(self, key: str, value: object) -> Number | None:
        """Return the same of a limit that JSON has. Raises InvalidValueError."""
        return self.limit(key, value)

    def from_dict(self, _key: str, value: object) -> object:
        """Return a limit that ``to_dict`` wrote, to be checked like what a caller gives."""
        return value

    @abstractmethod
    def as_limit(self, limit: Number) -> Number:
        """Return a limit in its own type, equal ones spelled the same."""

    @abstractmethod
    def at_least(self, exact: Decimal) -> Number:
        """Return the smallest amount in its own type that is not below an exact one."""

    def text(self, value: Number) -> str:
        """Say an amount to people."""
        return f"{value:,}"

    def is_stored_as(self, value: object) -> bool:
        """Tell whether an amount read from JSON is of its kind: money alone is text."""
        return not isinstance(value, str)


class _Count(Quantity):
    zero: Number = 0

    def from_sample(self, value: float) -> Number:
        return math.ceil(value)  # a fraction of one is rounded up

    def limit(self, key: str, value: object) -> Number | None:
        return validation.whole_limit(key, value)

    def as_limit(self, limit: Number) -> Number:
        return math.ceil(limit)

    def at_least(self, exact: Decimal) -> Number:
        return math.ceil(exact)


class _Seconds(Quantity):
    zero: Number = 0.0

    def from_sample(self, value: float) -> Number:
        return abs(float(value))  # abs: -0.0 is 0

    def limit(self, key: str, value: object) -> Number | None:
        return None if value is None else validation.seconds(key, value)

    def as_limit(self, limit: Number) -> Number:
        return float(limit)

    def at_least(self, exact: Decimal) -> Number:
        rounded = float(exact)
        return math.nextafter(rounded, math.inf) if Decimal(rounded) < exact else rounded

    def text(self, value: Number) -> str:
        step = Decimal("0.1") if value < _TENTHS_BELOW else Decimal(1)
        return f"{Decimal(repr(value)).quantize(step, context=_CUT):,} s"


class _Money(Quantity):
    zero: Number = Decimal(0)

    def from_sample(self, value: float) -> Number:
        return Decimal(repr(abs(value)))  # abs: -0.0 is 0

    def from_float_sum(self, value: float) -> Number:
        # As the digits are always as many, a counter that only grows still does.
        return _plain(Decimal(f"{abs(value):.{_SUM_DIGITS}g}"))

    def limit(self, key: str, value: object) -> Number | None:
        return None if value is None else validation.money(key, value)

    def limit_from_json(self, key: str, value: object) -> Number | None:
        if not isinstance(value, str):
            return self.limit(key, value)
        if MONEY_PATTERN.fullmatch(value) is None:
            raise InvalidValueError(key, value, "an amount in US dollars such as 2.50")
        return validation.money_text(key, value)

    def from_dict(self, key: str, value: object) -> object:
        return None if value is None else validation.money_text(key, value)

    def as_limit(self, limit: Number) -> Number:
        return _plain(limit if isinstance(limit, Decimal) else Decimal(repr(limit)))

    def at_least(self, exact: Decimal) -> Number:
        return _plain(exact)

    def text(self, value: Number) -> str:
        money = value if isinstance(value, Decimal) else Decimal(repr(value))
        cents = money.quantize(Decimal("0.01"), context=_CUT)
        return f"${cents:,}" if cents == money else f"${money.normalize(_CUT):,f}"

    def is_stored_as(self, value: object) -> bool:
        return isinstance(value, str)


def _plain(money: Decimal) -> Decimal:
    """Return the same amount always spelled the same: equal limits give equal verdicts."""
    if money == money.to_integral_value():
        return money.quantize(Decimal(1), context=_EXACT)
    return money.normalize(_EXACT)


COUNT: Final[Quantity] = _Count()
SECONDS: Final[Quantity] = _Seconds()
MONEY: Final[Quantity] = _Money()


def as_json(amount: Number) -> int | float | str:
    """Return an amount as a JSON type: money is a string, so that it stays exact.

    Without an exponent, as ``MONEY_PATTERN`` has it: ``str`` writes one below a millionth.
    """
    return f"{amount:f}" if isinstance(amount, Decimal) else amount
