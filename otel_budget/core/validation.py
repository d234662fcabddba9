"""What a value from outside must be; a refusal names the key, the value and what is allowed."""

from __future__ import annotations

import math
import re
from decimal import Decimal, InvalidOperation

from otel_budget.errors import InvalidValueError

#: Above 2**53 a float no longer counts by ones, and every metric is a float on its way out.
MAX_COUNT = 2**53
_NO_MONEY, _MOST_MONEY = Decimal(0), Decimal(MAX_COUNT)

SESSION_ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")
_UNSEEN = (  # controls, what breaks lines or turns them round, what has no width, half characters
    r"\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff"
    r"\ufeff\ufff9-\ufffb"
)
#: One line of text for people, with something in it.
LINE_PATTERN = re.compile(rf"[^{_UNSEEN}]*[^\s{_UNSEEN}][^{_UNSEEN}]*")
_SESSION_ID_ALLOWED = (
    "1 to 128 characters from A-Z a-z 0-9 . _ : @ -, starting with a letter or digit"
)

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_PLAIN_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?")
DURATION_ALLOWED = "a duration above 0, such as 500ms, 1s, 5m, 1h30m, or seconds"


def session_id(value: object) -> str:
    """Return a valid session id, or refuse it."""
    if not isinstance(value, str) or SESSION_ID_PATTERN.fullmatch(value) is None:
        raise InvalidValueError("session_id", value, _SESSION_ID_ALLOWED)
    return value


def count(key: str, value: object) -> int:
    """Return a count: an integer from 0 to 2^53."""
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise InvalidValueError(key, value, "an integer from 0 to 2^53")
    return value


def whole_limit(key: str, value: object) -> int | None:
    """Return a limit of a counted resource: an integer from 0 to 2^53, or None for unlimited."""
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise InvalidValueError(key, value, "an integer from 0 to 2^53")
    return value


def seconds(key: str, value: object, *, positive: bool = False) -> float:
    """Return a number of seconds: finite, at least 0, or above 0 where it must be positive."""
    allowed = "a number of seconds " + ("above 0 and up to 2^53" if positive else "from 0 to 2^53")
    if type(value) not in (int, float) or not 0 <= value <= MAX_COUNT:  # type: ignore[operator]
        raise InvalidValueError(key, value, allowed)
    if positive and value == 0:
        raise InvalidValueError(key, value, allowed)
    return abs(float(value))  # type: ignore[arg-type] # abs: -0.0 is 0


def duration(key: str, value: object) -> float:
    """Return seconds above 0: a number of them, or text such as ``90``, ``500ms``, ``1h30m``.

    The one grammar of every duration that people write, in a file or on a command line.
    """
    found = math.nan
    if isinstance(value, str):
        parts = _DURATION_PART.findall(value)
        if _PLAIN_SECONDS.fullmatch(value):
            found = float(value)
        elif parts and "".join(number + unit for number, unit in parts) == value:
            found = math.fsum(float(number) * _UNITS[unit] for number, unit in parts)
    elif type(value) in (int, float):
        found = value  # type: ignore[assignment] # what is too large for a float is refused below
    if not 0 < found <= MAX_COUNT:
        raise InvalidValueError(key, value, DURATION_ALLOWED)
    return float(found)


def ratio(key: str, value: object) -> float:
    """Return a threshold: above 0 and at most 1."""
    if type(value) not in (int, float) or not 0 < value <= 1:  # type: ignore[operator]
        raise InvalidValueError(key, value, "a number above 0 and at most 1")
    return float(value)  # type: ignore[arg-type]


def progress(value: object) -> float | None:
    """Return a progress: 0 to 1, or None for unknown."""
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= 1:  # type: ignore[operator]
        raise InvalidValueError(
            "progress_estimate", value, "a number from 0 to 1, or None for unknown"
        )
    return float(value)  # type: ignore[arg-type]


def choice(key: str, value: object, allowed: tuple[str, ...]) -> str:
    """Return one of a few words."""
    if not isinstance(value, str) or value not in allowed:
        raise InvalidValueError(key, value, " or ".join(map(repr, allowed)))
    return value


def money(key: str, value: object) -> Decimal:
    """Return US dollars: finite, 0 to 2^53; a float is taken as its shortest decimal."""
    if type(value) is Decimal and value.is_finite() and _NO_MONEY <= value <= _MOST_MONEY:
        return value.copy_abs()  # -0 is 0
    allowed = "an amount in US dollars from 0 to 2^53 (Decimal, int or float)"
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise InvalidValueError(key, value, allowed)
    amount = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not amount.is_finite() or amount < 0 or amount > MAX_COUNT:
        raise InvalidValueError(key, value, allowed)
    return amount.copy_abs()  # -0 is 0


def money_text(key: str, value: object) -> Decimal:
    """Return an amount in US dollars that was written as a string, as in JSON."""
    allowed = "an amount in US dollars as a decimal string"
    if not isinstance(value, str):
        raise InvalidValueError(key, value, allowed)
    try:
        amount = Decimal(value)
    except InvalidOperation as exc:
        raise InvalidValueError(key, value, allowed) from exc
    return money(key, amount)


def line(key: str, value: object, most: int) -> str:
    """Return one line of text, 1 to ``most`` characters, without the spaces around it."""
    allowed = f"one line of 1 to {most} printable characters"
    if not isinstance(value, str) or len(value) > most or LINE_PATTERN.fullmatch(value) is None:
        raise InvalidValueError(key, value, allowed)
    return value.strip()
