"""Points in time as people write them: RFC 3339, Unix seconds, ``now``, or how long ago."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Final

from otel_budget.core.validation import duration
from otel_budget.errors import InvalidValueError

#: In words, for errors.
ALLOWED: Final = (
    "a time such as 2026-03-01T08:00:00Z (with its offset), Unix seconds, now, or -7d (that long "
    "ago)"
)
_RFC_3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_SECONDS: Final = re.compile(r"\d{1,10}(\.\d{1,9})?", re.ASCII)


def moment(key: str, text: str, now: float) -> float:
    """Return Unix seconds. key: of whom it is, for the error. now: the present.

    Raises InvalidValueError.
    """
    words = text.strip()
    if words == "now":
        return now
    if words.startswith(("-", "now-")):
        ago = words.removeprefix("now").removeprefix("-")
        try:
            found = now - duration(key, ago)
        except InvalidValueError as exc:
            raise InvalidValueError(key, text, ALLOWED) from exc
        if found < 0:
            raise InvalidValueError(key, text, ALLOWED)
        return found
    if _SECONDS.fullmatch(words):
        return float(words)
    if _RFC_3339.fullmatch(words):
        try:
            found = datetime.fromisoformat(words.upper()).timestamp()
        except (ValueError, OverflowError) as exc:
            raise InvalidValueError(key, text, ALLOWED) from exc
        if math.isfinite(found) and found >= 0:
            return found
    raise InvalidValueError(key, text, ALLOWED)


def utc(seconds: float) -> str:
    """Return a Unix time for people, in UTC and whole seconds."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f}"
