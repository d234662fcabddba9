"""When a window begins and ends. The rules:

- A boundary is found in local time and compared as an instant: a day may have 23 or 25 hours.
- It is the first instant at which the local clock shows its time or a later one: of a time that
  is there twice the first, of one that is skipped the first instant after the gap.
- The n-th boundary follows from n alone, never from the one before it: a window from day 31 begins
  on 31 January, 28 February, 31 March.
- An hour begins each time the local clock shows :00, and where a :00 is skipped, at the jump.
- A window of FIRST_USE opens at the first use of its group, the next at the first after its end.

Nothing here looks up a zone: ``Window.tz`` is one. All times are Unix time, of the years 1970 to
2100; boundaries are whole seconds.
"""

from __future__ import annotations

import datetime as dt
import math
from calendar import monthrange
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from otel_budget.core.budget import Window, WindowKind, WindowSpan

_HOUR: Final = 3600
_DAYS_OF_WEEK: Final = 7
_MONTHS_OF_YEAR: Final = 12


def span_at(window: Window, at: float, opened_at: float | None = None) -> WindowSpan:
    """Return the window that holds a moment: ``start <= at < end``.

    opened_at: of FIRST_USE when the latest window opened (None: at ``at``), of TOTAL and RUN since
    when is counted. A moment before the latest window of FIRST_USE is in one that ends where that
    one opens: which ones there were before only the books know.
    """
    if window.kind is WindowKind.CALENDAR:
        begin, end = map(float, (_hour if window.every == "hour" else _days)(window, at))
        return WindowSpan(begin, end, end)
    if window.kind is WindowKind.FIRST_USE:
        return _first_use(window, at, opened_at)
    if window.kind is WindowKind.ROLLING:
        return WindowSpan(at - window.seconds)
    return WindowSpan(-math.inf if opened_at is None else opened_at)


def span_after(window: Window, span: WindowSpan) -> WindowSpan | None:
    """Return the window that follows one; None where none follows, or only when it is used."""
    if window.kind is WindowKind.CALENDAR:
        return span_at(window, span.end)
    return None


def span_before(window: Window, span: WindowSpan) -> WindowSpan | None:
    """Return the window before one; None where there was none, or only the books know it."""
    if window.kind is WindowKind.CALENDAR:
        return span_at(window, span.start - 1)
    return None


def _first_use(window: Window, at: float, opened_at: float | None) -> WindowSpan:
    if opened_at is None or at >= opened_at + window.seconds:
        opened_at = at
    elif at < opened_at:
        end = min(at + window.seconds, opened_at)
        return WindowSpan(at, end, end)
    end = opened_at + window.seconds
    return WindowSpan(opened_at, end, end)


# Windows of days and more: each unit has a number that follows from a local date.


class _Unit(NamedTuple):
    """How windows of whole days are numbered."""

    number: Callable[[dt.date, int], int]
    """From a local date and ``Window.day`` to the number of the window that begins on that date or
    was the last to begin before it, give or take one."""
    first_day: Callable[[int, int], dt.date]
    """From a window's number and ``Window.day`` to the local date on which it begins."""


def _months(count: int) -> _Unit:
    """Return the unit of so many months, the first of which is that of January."""

    def number(date: dt.date, _day: int) -> int:
        return (date.year * _MONTHS_OF_YEAR + date.month - 1) // count

    def first_day(n: int, day: int) -> dt.date:
        year, month = divmod(n * count, _MONTHS_OF_YEAR)
        month += 1
        return dt.date(year, month, min(day, monthrange(year, month)[1]))

    return _Unit(number, first_day)


def _week_number(date: dt.date, day: int) -> int:
    # Day 1 of the calendar was a Monday.
    return (date.toordinal() - day) // _DAYS_OF_WEEK


def _week_first_day(n: int, day: int) -> dt.date:
    return dt.date.fromordinal(n * _DAYS_OF_WEEK + day)


_UNITS: Final[Mapping[str, _Unit]] = {
    "day": _Unit(lambda date, _: date.toordinal(), lambda n, _: dt.date.fromordinal(n)),
    "week": _Unit(_week_number, _week_first_day),
    "month": _months(1),
    "quarter": _months(3),
    "year": _months(_MONTHS_OF_YEAR),
}


def _days(window: Window, at: float) -> tuple[float, float]:
    """Return begin and end. Where a day does not exist at all (its zone crossed the date line),
    its window has no length, and none is told.
    """
    unit = _UNITS[window.every]

    def begin(n: int) -> float:
        date = unit.first_day(n, window.day)
        return _instant(dt.datetime.combine(date, window.at), window.tz)

    n = unit.number(dt.datetime.fromtimestamp(math.floor(at), window.tz).date(), window.day)
    # The local date is off by at most a day, so these are two steps at most, of the day unit.
    while begin(n) > at:
        n -= 1
    while (end := begin(n + 1)) <= at:
        n += 1
    return begin(n), end


def _instant(wall: dt.datetime, tz: dt.tzinfo) -> float:
    """Return the first instant at which the local clock shows a time or a later one."""
    local = wall.replace(tzinfo=tz)
    first = math.floor(local.timestamp())
    if _shown(first, tz) == wall:
        return first
    # A gap: read with the offset after it, the time lies before it.
    before = math.floor(local.replace(fold=1).timestamp())
    return _bisect(before, first, lambda instant: _shown(instant, tz) >= wall)


def _shown(instant: float, tz: dt.tzinfo) -> dt.datetime:
    """Return what the local clock shows."""
    return dt.datetime.fromtimestamp(instant, tz).replace(tzinfo=None, fold=0)


# Hours: they follow the offset of the zone, which may change within one.


def _hour(window: Window, at: float) -> tuple[float, float]:
    moment, tz = math.floor(at), window.tz
    shown = (moment + _offset(moment, tz)) % _HOUR
    return _last_hour(moment, moment - shown, tz), _next_hour(moment, moment - shown + _HOUR, tz)


def _last_hour(moment: int, full: int, tz: dt.tzinfo) -> int:
    """Return the last boundary up to a moment. full: the last :00 by the offset of the moment."""
    if _offset(full, tz) == _offset(moment, tz):
        return full
    jump = _Jump.between(full, moment, tz)
    if jump.is_boundary:
        return jump.at
    return jump.at - ((jump.at + jump.before) % _HOUR or _HOUR)


def _next_hour(moment: int, full: int, tz: dt.tzinfo) -> int:
    """Return the first boundary after a moment. full: the next :00 by the offset of the moment."""
    if _offset(full, tz) == _offset(moment, tz):
        return full
    jump = _Jump.between(moment, full, tz)
    if jump.is_boundary:
        return jump.at
    return jump.at + _HOUR - (jump.at + jump.after) % _HOUR


class _Jump(NamedTuple):
    """A change of a zone's offset."""

    at: int
    before: int
    """Seconds east of UTC."""
    after: int

    @classmethod
    def between(cls, low: int, high: int, tz: dt.tzinfo) -> _Jump:
        """Return the one after ``low`` and up to ``high``; there is no other within an hour."""
        after = _offset(high, tz)
        at = _bisect(low, high, lambda instant: _offset(instant, tz) == after)
        return cls(at, _offset(low, tz), after)

    @property
    def is_boundary(self) -> bool:
        """True if the clock shows :00 after it, or a :00 is skipped by it."""
        old, new = self.at + self.before, self.at + self.after
        return new % _HOUR == 0 or old + -old % _HOUR < new


def _offset(instant: float, tz: dt.tzinfo) -> int:
    """Return the seconds that a zone is east of UTC."""
    offset = dt.datetime.fromtimestamp(instant, tz).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def _bisect(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the first instant after ``low`` at which something holds that holds from then on, up
    to ``high``, where it does.
    """
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high
