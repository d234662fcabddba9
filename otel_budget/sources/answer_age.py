"""How old an answer was when it came, and what time it is where it came from. Pure.

A cache on the way (a proxy, a gateway, a CDN) answers with what was so some time ago, and says in
``Age`` for how many seconds it had it. ``Date`` is the clock of who made the answer: timestamps in
it are to be held against that one, should it differ from ours.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Seconds, the most an ``Age`` can be: what is above that is no less old.
_OLDEST: Final = 1e9
#: Seconds by which two clocks may differ before theirs is taken: ``Date`` has whole seconds.
_TOLERANCE: Final = 2.0


def age_of(ages: Sequence[str]) -> float:
    """Return the seconds for which a cache had an answer. ages: values of its ``Age`` headers.

    Of several the largest; what is no number says nothing.
    """
    words = (word.strip() for text in ages for word in text.split(","))
    return max((min(float(word), _OLDEST) for word in words if word.isdecimal()), default=0.0)


def time_there(date: str, age: float, wall: float) -> float:
    """Return the Unix time for who made an answer, when it came. date: its ``Date`` header.

    age: as of ``age_of``. wall: our own time, which it is but for a clock that is clearly off.
    """
    try:
        theirs = parsedate_to_datetime(date).timestamp() + age
    except (ValueError, TypeError, OverflowError):
        return wall
    return theirs if abs(theirs - wall) > _TOLERANCE else wall
