"""The fields of a decoded JSON object, each read as what it must be, or refused by its name."""

from __future__ import annotations

import math
import sys
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from otel_budget.core.quantities import MONEY
from otel_budget.core.resources import RESOURCES
from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Callable, ItemsView, Mapping
    from enum import StrEnum
    from typing import Concatenate

    from otel_budget.core.quantities import Number

    E = TypeVar("E", bound=StrEnum)

T = TypeVar("T")
P = ParamSpec("P")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Fields:
    """Reads one object; every method raises InvalidValueError with the path of the field."""

    def __init__(self, what: str, data: object, prefix: str = "") -> None:
        """Take a decoded object. what: its name in errors; prefix: comes before its fields'."""
        if not isinstance(data, dict):
            raise InvalidValueError(what, data, "a JSON object")
        self._data: Mapping[str, Any] = data
        self._prefix = prefix

    def maybe(
        self, read: Callable[Concatenate[str, P], T], key: str, *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        """Return what ``read`` makes of a field; None where it is absent or null."""
        return None if self._data.get(key) is None else read(key, *args, **kwargs)

    def text(self, key: str) -> str:
        """Return a string."""
        value = self._data.get(key)
        if not isinstance(value, str):
            raise self._refused(key, "a string")
        return value

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self._data.get(key)
        if not isinstance(value, bool):
            raise self._refused(key, "true or false")
        return value

    def whole(self, key: str) -> int:
        """Return an integer of at least 0."""
        value = self._data.get(key)
        if type(value) is not int or value < 0:
            raise self._refused(key, "an integer of at least 0")
        return value

    def real(self, key: str, most: float = math.inf) -> float:
        """Return a finite number of at least 0, and at most ``most``."""
        value = self._number(key)
        if not 0 <= value <= most:
            top = "" if most == math.inf else f" and at most {most:g}"
            raise self._refused(key, f"a finite number of at least 0{top}")
        return float(value)

    def share(self, key: str) -> float:
        """Return a number from 0 to 1."""
        return self.real(key, 1.0)

    def amount(self, key: str, resource: str) -> Number:
        """Return an amount of a resource. Money is a string; so may be what is not known here."""
        value = self._data.get(key)
        row = RESOURCES.get(resource)
        is_money = isinstance(value, str) if row is None else row.quantity is MONEY
        return self._money(key) if is_money else self._number(key)

    def time(self, key: str) -> float:
        """Return a time as Unix seconds."""
        text = self.text(key)
        try:
            return (datetime.fromisoformat(text) - _EPOCH).total_seconds()
        except (ValueError, TypeError, OverflowError) as exc:
            raise self._refused(key, "a time as in 2026-01-01T12:00:00.120Z") from exc

    def one_of(self, kind: type[E], key: str) -> E:
        """Return a member of an enumeration."""
        value = self._data.get(key)
        for member in kind:
            if member.value == value:
                return member
        raise self._refused(key, ", ".join(kind))

    def mapping(self, key: str) -> ItemsView[str, Any]:
        """Return the items of an object."""
        value = self._data.get(key)
        if not isinstance(value, dict):
            raise self._refused(key, "a JSON object")
        return value.items()

    def within(self, key: str, read: Callable[[Fields], T]) -> T:
        """Return what ``read`` makes of the fields of an object."""
        path = f"{self._prefix}{key}"
        return read(Fields(path, self._data.get(key), f"{path}."))

    def reals(self, key: str) -> list[float]:
        """Return an array of finite numbers of at least 0."""
        value = self._data.get(key)
        if not isinstance(value, list):
            raise self._refused(key, "an array of numbers")
        return [Fields(key, {key: item}, self._prefix).real(key) for item in value]

    def range_around(self, key: str, value: float) -> tuple[float, float]:
        """Return two finite numbers of at least 0, between which a value lies, or is one of."""
        match self.reals(key):
            case [low, high] if low <= value <= high:
                return low, high
        raise self._refused(key, f"two numbers around {value:g}")

    def mappings(self, key: str) -> list[dict[str, Any]]:
        """Return an array of objects."""
        value = self._data.get(key)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._refused(key, "an array of JSON objects")
        return value

    def texts(self, key: str) -> list[str]:
        """Return an array of strings."""
        value = self._data.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._refused(key, "an array of strings")
        return value

    def _number(self, key: str) -> int | float:
        value = self._data.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._refused(key, "a number")
        if not abs(value) <= sys.float_info.max:  # NaN compares false; an int may be larger
            raise self._refused(key, "a finite number")
        return value

    def _money(self, key: str) -> Decimal:
        text = self.text(key)
        try:
            amount = Decimal(text)
        except InvalidOperation as exc:
            raise self._refused(key, "a decimal string") from exc
        if not amount.is_finite():
            raise self._refused(key, "a finite decimal string")
        return amount

    def _refused(self, key: str, allowed: str) -> InvalidValueError:
        return InvalidValueError(f"{self._prefix}{key}", self._data.get(key), allowed)
