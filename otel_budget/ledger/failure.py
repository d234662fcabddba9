"""What went wrong with one run because of a mistake in this program: a value, as the core logs
nothing. It costs that run alone, which is in doubt from then on.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Place(StrEnum):
    """What could not be done for a run."""

    ACCOUNT = "accounted for"
    FORGET = "forgotten"
    JUDGE = "judged"
    STORE = "stored"


class Failure(NamedTuple):
    """One such mistake."""

    session_id: str
    place: Place
    error: Exception
