"""Which rows of a text differ from those of the text before.

In most texts the series are where they were in the text before. Then a comparison place by place
shows which rows are others, without a look into any. Where a few series came or went, what follows
is some rows further on; only where that does not do is every row looked up by its series.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import compress, count
from operator import ne
from typing import TYPE_CHECKING, AnyStr, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

T = TypeVar("T")
#: Rows that may have come, or gone, in a row.
_MOST_TOGETHER = 64
#: So often, and once more for each so many rows, it is looked where the texts go on alike.
_LOOKS = 100


class UnusualError(Exception):
    """The text has to be read as a whole."""


@dataclass(slots=True)
class Changes(Generic[AnyStr, T]):
    """What is different in a text. Places are those of its rows."""

    values: list[tuple[int, T | None, AnyStr]] = field(default_factory=list)
    """Place, slot and value of each series with another value."""
    came: list[int] = field(default_factory=list)
    """Places of series that were not there, or somewhere else."""
    gone: list[T] = field(default_factory=list)
    """Slots of those that are not there any more, or somewhere else."""
    slots: list[T | None] | None = None
    """Of all rows; None for one that came. None altogether if every series is where it was."""


class LineDiff(Generic[AnyStr, T]):
    """Rows of text or of bytes that end in a value, and something for each series."""

    def __init__(self, before_value: AnyStr) -> None:
        """before_value: what separates a series from its value."""
        self._before_value: AnyStr = before_value
        self._rows: list[AnyStr] = []
        self._slots: list[T | None] = []
        """None for a row that is no series, or of none that is wanted."""

    def __bool__(self) -> bool:
        """True if there are any rows."""
        return bool(self._rows)

    def __iter__(self) -> Iterator[tuple[AnyStr, T]]:
        """Yield every row that has a slot, with it."""
        for row, slot in zip(self._rows, self._slots, strict=True):
            if slot is not None:
                yield row, slot

    @property
    def slots(self) -> Sequence[T | None]:
        """Return what there is for each row."""
        return self._slots

    def series(self, row: AnyStr) -> AnyStr:
        """Return a row without its value."""
        return row.rpartition(self._before_value)[0]

    def changes(self, rows: Sequence[AnyStr]) -> Changes[AnyStr, T]:
        """Return what is different in a text. Raises UnusualError if a series was there twice."""
        return self._in_place(rows) or self._aligned(rows) or self._by_series(rows)

    def replace(self, rows: list[AnyStr], changes: Changes[AnyStr, T]) -> None:
        """Take over the rows; by now ``changes`` has the slots of those that came."""
        if changes.slots is not None:
            self._rows, self._slots = rows, changes.slots
            return
        for place, _, _ in changes.values:  # the others stay the objects they are
            self._rows[place] = rows[place]

    def _in_place(self, rows: Sequence[AnyStr]) -> Changes[AnyStr, T] | None:
        if len(rows) != len(self._rows):
            return None
        found = Changes[AnyStr, T]()
        for place in compress(count(), map(ne, self._rows, rows)):
            value = self._value(self._rows[place], rows[place])
            if value is None:
                return None
            found.values.append((place, self._slots[place], value))
        return found

    def _aligned(self, rows: Sequence[AnyStr]) -> Changes[AnyStr, T] | None:
        found, slots = Changes[AnyStr, T](), list[T | None]()
        old, old_slots = self._rows, self._slots
        place = before = 0
        looks = _LOOKS + len(rows) // _LOOKS  # a target may change its text all over, on purpose
        while place < len(rows):
            row, was = rows[place], old[before] if before < len(old) else None
            same = was == row
            value = None if same or was is None else self._value(was, row)
            if same or value is not None:
                if value is not None:
                    found.values.append((place, old_slots[before], value))
                slots.append(old_slots[before])
                place, before = place + 1, before + 1
                continue
            looks -= 1
            step = self._step(rows, place, before) if looks else None
            if step is None:
                return None
            came, gone = step
            found.came += range(place, place + came)
            slots += [None] * came
            found.gone += [slot for slot in old_slots[before : before + gone] if slot is not None]
            place, before = place + came, before + gone
        found.gone += [slot for slot in old_slots[before:] if slot is not None]
        found.slots = slots
        return found

    def _step(self, rows: Sequence[AnyStr], place: int, before: int) -> tuple[int, int] | None:
        """Return how many rows came and how many went until both texts go on alike."""
        came = [self.series(row) for row in rows[place : place + _MOST_TOGETHER]]
        gone = [self.series(row) for row in self._rows[before : before + _MOST_TOGETHER]]
        if not gone:
            return len(rows) - place, 0
        for number in range(1, _MOST_TOGETHER):
            if gone[0] in came[number : number + 1]:
                return number, 0
            if came[0] in gone[number : number + 1]:
                return 0, number
            if came[number : number + 1] == gone[number : number + 1] != []:
                return number, number
        return None

    def _by_series(self, rows: Sequence[AnyStr]) -> Changes[AnyStr, T]:
        known: dict[AnyStr, tuple[AnyStr, T]] = {}
        for row, slot in self:
            if known.setdefault(self.series(row), (row, slot)) != (row, slot):
                raise UnusualError
        found, slots = Changes[AnyStr, T](), list[T | None]()
        for place, row in enumerate(rows):
            series, before_value, value = row.rpartition(self._before_value)
            stood = known.pop(series, None) if before_value else None
            slots.append(None if stood is None else stood[1])
            if stood is None:
                found.came.append(place)
            elif row != stood[0]:
                found.values.append((place, stood[1], value))
        found.gone += [slot for _, slot in known.values()]
        found.slots = slots
        return found

    def _value(self, was: AnyStr, row: AnyStr) -> AnyStr | None:
        """Return the value of a row if it is of the same series as another one."""
        series, before_value, value = row.rpartition(self._before_value)
        return value if before_value and self.series(was) == series else None
