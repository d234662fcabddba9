"""What others say, as what it must be; None for what it cannot be. Pure."""

from __future__ import annotations

import math
import re
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from otel_budget.core.validation import MAX_COUNT

_DIGITS: Final = re.compile(r"\s*[0-9]{1,16}\s*")
#: US dollars. Less is no price, and would make long numbers of all sums.
_LEAST: Final = Decimal("1e-15")


def as_count(value: object) -> int | None:
    """Return a value as a count; None for what cannot be one. A fraction is rounded up."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value <= MAX_COUNT:  # NaN compares false
        return None
    return math.ceil(value)


def as_money(value: object) -> Decimal | None:
    """Return a value as US dollars; None for what cannot be money."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        cost = value if isinstance(value, Decimal) else Decimal(str(value).strip())
    except (InvalidOperation, ValueError):  # the latter: an integer of too many digits
        return None
    if not cost.is_finite() or not 0 <= cost <= MAX_COUNT or 0 < cost < _LEAST:
        return None
    return cost.copy_abs()  # -0 is 0


def field(value: Any, *names_of_it: str) -> Any:
    """Return the first of some attributes, or keys, that has a value."""
    for name in names_of_it:
        found = value.get(name) if isinstance(value, dict) else getattr(value, name, None)
        if found is not None:
            return found
    return None


def mapping(value: object) -> dict[str, Any]:
    """Return a mapping as it is, and an empty one for anything else."""
    return value if isinstance(value, dict) else {}
