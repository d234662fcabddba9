"""How long until the sidecar is asked again. Pure: seconds in, seconds out.

Whatever answers at its address, and however, it is not asked without a pause: a proxy that passes
no streams, a page of HTML, a sidecar that has too many readers. What asks to be left alone for a
while is, within bounds; who has verdicts by asking asks three times in a lease, as it is renewed.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

#: Seconds between tries, growing from the first to the second.
FIRST, MOST = 0.1, 2.0
#: The same where there is no way to it, or its stream gave verdicts: it may be back within a lease.
MOST_AWAY: Final = 1.0
#: The same for a stream that is refused, while verdicts are to be had by asking.
MOST_REFUSED: Final = 30.0
#: Seconds a server can ask for at most.
MOST_ASKED: Final = 60.0
#: Seconds a stream lasts that is no failure.
STEADY: Final = 1.0
_LEAST_POLL: Final = 0.25


class Backoff:
    """Grows with each failure."""

    def __init__(self) -> None:
        self._next = FIRST

    def succeeded(self) -> None:
        """Go back to the shortest pause."""
        self._next = FIRST

    def failed(self, most: float = MOST, *, asked: float = 0.0) -> float:
        """Return the seconds to wait, spread so that not all come at once.

        most: seconds. asked: seconds that the server asked for.
        """
        wait, self._next = min(self._next, most), min(self._next * 2, MOST_REFUSED)
        return max(wait * _about(0.5, 1.5), min(asked, MOST_ASKED) * _about(1.0, 1.25))


def between_polls(lease: float) -> float:
    """Return the seconds from one question to the next, where leases are so many seconds."""
    return max(_LEAST_POLL, min(lease / 3, MOST_REFUSED)) * _about(0.8, 1.0)


def asked_for(retry_after: str | None, now: float) -> float:
    """Return the seconds a ``Retry-After`` asks for; 0 without one, or for what is none.

    now: Unix time.
    """
    text = (retry_after or "").strip()
    if text.isdecimal():
        return float(text[:6])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.fromtimestamp(now, UTC)).total_seconds())


def _about(least: float, most: float) -> float:
    return random.uniform(least, most)  # noqa: S311 - not a secret
