"""How people, queries and files name the groups and windows of budgets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from otel_budget.core.budget import NONE, OTHER, Budget, Group, Window, WindowKind
from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Days of a week by their ISO number, from 1.
WEEKDAYS: Final = (
    "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday",
)  # fmt: skip
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "m"))
#: Bytes that are percent-encoded, and a percent sign that stands for none.
_BYTES: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_STRAY: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def group_from_text(budget: Budget, text: str) -> Group:
    """Return a group as ``Budget.group_text`` writes it, its labels in any order.

    Raises InvalidValueError.
    """
    if text == OTHER and budget.per:
        return None
    labels: dict[str, str] = {}
    for part in text.split(",") if text else ():
        label, equals, value = part.partition("=")
        if not equals or label in labels or "=" in value or _STRAY.search(value):
            raise _no_group(budget, text)
        try:
            labels[label] = _BYTES.sub(_text, value)
        except UnicodeDecodeError as exc:
            raise _no_group(budget, text) from exc
    if labels.keys() != set(budget.per):
        raise _no_group(budget, text)
    return group_from_labels(budget, labels)


def _text(encoded: re.Match[str]) -> str:
    return bytes.fromhex(encoded[0].replace("%", "")).decode()


def group_from_labels(budget: Budget, labels: Mapping[str, object]) -> Group:
    """Return the group with these labels: those of ``per``, each with its value.

    Raises InvalidValueError.
    """
    if labels == budget.group_labels(None) and budget.per and OTHER not in budget.per:
        return None
    if labels.keys() != set(budget.per):
        raise _no_group(budget, labels)
    values = [labels[label] for label in budget.per]
    if not all(isinstance(value, str) for value in values):
        raise _no_group(budget, labels)
    return tuple(map(str, values))


def shown_group(labels: Mapping[str, str]) -> str:
    """Return a group for people: ``user=ann, team=(none)``; empty without labels."""
    if labels == {OTHER: "true"}:
        return OTHER
    return ", ".join(f"{label}={value or NONE}" for label, value in labels.items())


def window_json(window: Window) -> str | dict[str, Any]:
    """Return a window as a configuration file has it, with its defaults."""
    match window.kind:
        case WindowKind.ROLLING:
            return {"rolling": duration_text(window.seconds)}
        case WindowKind.FIRST_USE:
            return {"every": duration_text(window.seconds), "from": "first_use"}
        case WindowKind.CALENDAR:
            rule: dict[str, Any] = {"every": window.every, "time_zone": window.zone}
            if window.every != "hour":
                rule["at"] = _clock(window)
            if window.every == "week":
                rule["day"] = WEEKDAYS[window.day - 1]
            elif window.every not in ("hour", "day"):
                rule["day"] = window.day
            return rule
        case WindowKind.RUN | WindowKind.TOTAL:
            return str(window.kind)


def window_text(window: Window) -> str:
    """Say over what time a budget adds up: ``each month, from day 1 at 00:00 (Europe/Berlin)``."""
    match window.kind:
        case WindowKind.RUN:
            return "each run by itself"
        case WindowKind.TOTAL:
            return "in total"
        case WindowKind.ROLLING:
            return f"the last {duration_text(window.seconds)}"
        case WindowKind.FIRST_USE:
            return f"{duration_text(window.seconds)} from the first use"
        case WindowKind.CALENDAR:
            return f"each {window.every}{_begins(window)} ({window.zone})"


def _begins(window: Window) -> str:
    match window.every:
        case "hour":
            return ""
        case "day":
            return f", from {_clock(window)}"
        case "week":
            return f", from {WEEKDAYS[window.day - 1].title()} at {_clock(window)}"
        case _:
            return f", from day {window.day} at {_clock(window)}"


def duration_text(seconds: float) -> str:
    """Return a duration as it is configured: ``24h``, ``5h``, ``90s``; 7 days are ``7d``."""
    for size, unit in _UNITS:
        if seconds >= size and seconds % size == 0 and (unit != "d" or seconds > size):
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def _clock(window: Window) -> str:
    timespec = "seconds" if window.at.second else "minutes"
    return window.at.isoformat(timespec=timespec)


def _no_group(budget: Budget, given: object) -> InvalidValueError:
    labels = ",".join(f"{label}=VALUE" for label in budget.per)
    allowed = f"{labels}, or {OTHER}" if labels else f"none: {budget.name} has no groups"
    return InvalidValueError("group", given, allowed)
