"""The rows of one text after the other, and what stands on each: which rows say something else.

In most texts the series are where they were in the text before. Then a comparison place by place
shows which rows are others, without a look into any; only where series came, went or moved is every
row looked up by its series.
"""

from __future__ import annotations

from itertools import compress, count
from operator import ne
from typing import TYPE_CHECKING, AnyStr, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

T = TypeVar("T")


class UnusualError(Exception):
    """The text has to be read as a whole."""


class Rows(Generic[AnyStr, T]):
    """Rows of text or of bytes that end in a value, and something for each series."""

    def __init__(self, before_value: AnyStr) -> None:
        """Begin with none. before_value: what stands between a series and its value."""
        self._before_value: AnyStr = before_value
        self._rows: list[AnyStr] = []
        self._slots: list[T | None] = []
        """None for a row that is no series, or of none that is wanted."""

    def __bool__(self) -> bool:
        """True if there are any rows."""
        return bool(self._rows)

    def others(self, rows: Sequence[AnyStr]) -> list[tuple[int, T | None, AnyStr]] | None:
        """Return place, slot and value of each row that is another one, in order.

        None if not all of them are of the series that was in their place.
        """
        if len(rows) != len(self._rows):
            return None
        found: list[tuple[int, T | None, AnyStr]] = []
        for place in compress(count(), map(ne, self._rows, rows)):
            series, before_value, value = rows[place].rpartition(self._before_value)
            if not before_value or self.series(self._rows[place]) != series:
                return None
            found.append((place, self._slots[place], value))
        return found

    def __iter__(self) -> Iterator[tuple[AnyStr, T]]:
        """Yield every row that has a slot, with it."""
        for row, slot in zip(self._rows, self._slots, strict=True):
            if slot is not None:
                yield row, slot

    def put(self, place: int, row: AnyStr) -> None:
        """Take over a row of the same series."""
        self._rows[place] = row

    def by_series(self) -> dict[AnyStr, tuple[AnyStr, T]]:
        """Return row and slot of every series. Raises UnusualError if one is there twice."""
        found: dict[AnyStr, tuple[AnyStr, T]] = {}
        for row, slot in self:
            if found.setdefault(self.series(row), (row, slot)) != (row, slot):
                raise UnusualError
        return found

    def series(self, row: AnyStr) -> AnyStr:
        """Return a row without its value."""
        return row.rpartition(self._before_value)[0]

    def replace(self, rows: list[AnyStr], slots: list[T | None]) -> None:
        """Take over all rows, with what stands on them."""
        self._rows, self._slots = rows, slots
