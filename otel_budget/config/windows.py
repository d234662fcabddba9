"""What people write for the window of a budget, and what it means (design, section 6).

``run``, ``total``, ``{rolling: 24h}``, ``{every: month, time_zone: …, at: "06:00", day: 15}``, or
``{every: 5h, from: first_use}``. A refusal names the key below the window.
"""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from typing import TYPE_CHECKING, Final, NoReturn

from otel_budget.config.section import RefusedKey
from otel_budget.core import validation
from otel_budget.core.budget import Window, WindowKind
from otel_budget.core.budget_text import WEEKDAYS
from otel_budget.errors import InvalidValueError
from otel_budget.files.yaml_file import THE_KEYS, meant

if TYPE_CHECKING:
    from collections.abc import Mapping

ROLLING: Final = "rolling"
EVERY: Final = "every"
FROM: Final = "from"
FIRST_USE: Final = "first_use"
TIME_ZONE: Final = "time_zone"
AT: Final = "at"
DAY: Final = "day"

#: Seconds of the shortest window of each unit: hours of half the length are there where clocks are
#: moved by half an hour, and say nothing about the data.
SHORTEST: Final[Mapping[str, float]] = {
    "hour": 3600.0,
    "day": 23 * 3600.0,
    "week": 167 * 3600.0,
    "month": 28 * 86400.0 - 3600.0,
    "quarter": 90 * 86400.0 - 3600.0,
    "year": 365 * 86400.0 - 3600.0,
}
_UNITS: Final = tuple(SHORTEST)
#: Units that begin at a day of their own.
_WITH_DAY: Final = ("week", "month", "quarter", "year")
_LAST_DAY: Final = 31
#: Days. Time is told up to the year 9999, and no budget is.
_LONGEST: Final = 3660

_FORMS: Final = (
    "run, total, {rolling: 24h}, {every: hour, day, week, month, quarter or year}, or "
    "{every: 5h, from: first_use}"
)
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_TIME_ALLOWED: Final = 'a time of day in quotes, from "00:00" to "23:59"'
_ZONE_ALLOWED: Final = "the name of an IANA time zone, such as Europe/Berlin or UTC"
_MINUTES_OF_DAY: Final = 24 * 60


def window(value: object) -> Window:
    """Return a window. Raises InvalidValueError, RefusedKey for what is wrong below a key."""
    if isinstance(value, Window):
        return value
    if isinstance(value, str) and value in (WindowKind.RUN, WindowKind.TOTAL):
        return Window(WindowKind(value))
    if not isinstance(value, dict):
        raise InvalidValueError("", value, _FORMS)
    if ROLLING in value:
        _only(value, ROLLING)
        return Window(WindowKind.ROLLING, seconds=_length(value, ROLLING))
    if EVERY not in value:
        _only(value, ROLLING, EVERY, FROM, TIME_ZONE, AT, DAY)
        raise InvalidValueError("", value, _FORMS)
    if FROM in value or value[EVERY] not in _UNITS:
        return _first_use(value)
    return _calendar(value)


def _first_use(value: Mapping[object, object]) -> Window:
    """Return a window that opens at the first use."""
    every = value[EVERY]
    if every in _UNITS:
        raise RefusedKey(
            (FROM,),
            f"goes with a length of time, such as {{{EVERY}: 5h, {FROM}: {FIRST_USE}}}; a {every} "
            "begins by the calendar",
        )
    try:
        validation.duration("", every)
    except InvalidValueError as exc:
        allowed = f"{', '.join(_UNITS)}, or a length of time with {FROM}: {FIRST_USE}"
        _refuse(EVERY, every, allowed + meant(str(every), _UNITS), exc)
    if FROM not in value:
        raise RefusedKey(
            (EVERY,),
            f"{every!r} is a length of time, and does not say when the first one begins: give "
            f"{{{EVERY}: {every}, {FROM}: {FIRST_USE}}} or {{{ROLLING}: {every}}}, or one of "
            f"{', '.join(_UNITS)}",
        )
    _only(value, EVERY, FROM)
    if value[FROM] != FIRST_USE:
        _refuse(FROM, value[FROM], FIRST_USE)
    return Window(WindowKind.FIRST_USE, seconds=_length(value, EVERY))


def _calendar(value: Mapping[object, object]) -> Window:
    """Return a window that begins by the calendar."""
    every = str(value[EVERY])
    _only(value, EVERY, FROM, TIME_ZONE, AT, DAY)
    zone = value.get(TIME_ZONE, "UTC")
    return Window(
        WindowKind.CALENDAR,
        every=every,
        zone=str(zone),
        tz=_zone(zone),
        at=_time(value[AT], every) if AT in value else dt.time(0),
        day=_day(value[DAY], every) if DAY in value else 1,
    )


def _only(value: Mapping[object, object], *known: str) -> None:
    """Refuse a key that is not known here."""
    for key in value:
        if key not in known:
            keys = "is only" if len(known) == 1 else "are " + THE_KEYS.strip()
            said = f"is not a key here; there {keys} {', '.join(known)}{meant(str(key), known)}"
            raise RefusedKey((str(key),), said)


def _length(value: Mapping[object, object], key: str) -> float:
    try:
        seconds = validation.duration("", value[key])
    except InvalidValueError as exc:
        _refuse(key, value[key], exc.allowed, exc)
    if seconds > _LONGEST * 86400:
        _refuse(key, value[key], f"at most {_LONGEST}d; for all time say window: total")
    return seconds


def _zone(value: object) -> dt.tzinfo:
    """Return a zone by its name, from the system's zones or from those of tzdata."""
    if value == "UTC":
        return dt.UTC
    near = ""
    if isinstance(value, str):
        try:
            return zoneinfo.ZoneInfo(value)
        except (KeyError, ValueError, OSError):  # unknown; no name; a folder of zones
            near = meant(value, sorted(zoneinfo.available_timezones()))
    raise RefusedKey((TIME_ZONE,), "", value=value, allowed=_ZONE_ALLOWED + near)


def _time(value: object, every: str) -> dt.time:
    if every == "hour":
        raise RefusedKey((AT,), "is not for hours, which begin when the local clock shows :00")
    if type(value) is int and 0 <= value < _MINUTES_OF_DAY * 60:
        raise RefusedKey((AT,), unquoted(value))
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        _refuse(AT, value, _TIME_ALLOWED)
    return dt.time(int(match[1]), int(match[2]))


def unquoted(value: object) -> str:
    """Say what is wrong with a time of day without quotes, and how to write it.

    value: text, or what YAML made of it: 10:30 is 630, as minutes; 10:30:00 is 37800, as seconds.
    """
    if type(value) is int:
        minutes = value if value < _MINUTES_OF_DAY else value // 60
        value = f"{minutes // 60:02}:{minutes % 60:02}"
    return f'has no quotes, and YAML may read a time as a number: write {AT}: "{value}"'


def _day(value: object, every: str) -> int:
    if every not in _WITH_DAY:
        sentence = f"is for {', '.join(_WITH_DAY[:-1])} and {_WITH_DAY[-1]}, not for {every}"
        raise RefusedKey((DAY,), sentence)
    if every == "week":
        if value not in WEEKDAYS:
            _refuse(DAY, value, " or ".join(WEEKDAYS))
        return WEEKDAYS.index(str(value)) + 1
    if type(value) is not int or not 1 <= value <= _LAST_DAY:
        _refuse(DAY, value, f"a day of the month from 1 to {_LAST_DAY}")
    return value


def _refuse(
    key: str, value: object, allowed: str, cause: InvalidValueError | None = None
) -> NoReturn:
    raise RefusedKey((key,), "", value=value, allowed=allowed) from cause
