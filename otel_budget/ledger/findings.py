"""What the ledger tells people: what is strange about a run, and what a mistake in here cost it.

Values, as the core logs nothing. What is strange is counted all the same. A failure costs its run
alone, which is inconclusive from then on.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class FindingKind(StrEnum):
    """What is strange."""

    CONCURRENT = "concurrent"
    """Several processes are alive under one id at the same time."""
    SECOND_TARGET = "second_target"
    """Another target shows a process beside the one that does."""
    NAMELESS = "nameless"
    """Another target shows the run and does not say which process it is."""
    PUSHED_TOO = "pushed_too"
    """It is pushed, and a target shows it as well."""
    START_AHEAD = "start_ahead"
    """A start time lies far ahead, and is not believed."""
    GOES_ON = "goes_on"
    """It says that it is over, and goes on."""
    RESTARTS = "restarts"
    """Runs of one id follow each other, and none of them completes."""
    BOUND_ELSEWHERE = "bound_elsewhere"
    """A target shows it that it is not bound to; refused."""
    CARRIED_ELSEWHERE = "carried_elsewhere"
    """Another target shows it while the one that carries it goes on; refused."""
    ALTERNATING = "alternating"
    """Several processes write one series."""
    LABELS_CHANGED = "labels_changed"
    """It counts in another group of a budget from now on, as its labels changed."""
    GROUPS_FULL = "groups_full"
    """A budget has no place for its group."""
    OWN_DESCENDANT = "own_descendant"
    """It names a parent that is below it, or itself; ignored."""
    PARENT_UNKNOWN = "parent_unknown"
    """It names a parent that nobody shows; ignored until somebody does."""
    PARENT_OVER = "parent_over"
    """It names a parent that was over before it began; ignored."""
    FAMILY_DEEP = "family_deep"
    """Too many runs are one below the other; its parent is ignored."""


#: Why a parent that a run names does not hold for it.
IGNORED_PARENTS: Final = (
    FindingKind.OWN_DESCENDANT,
    FindingKind.PARENT_UNKNOWN,
    FindingKind.PARENT_OVER,
    FindingKind.FAMILY_DEEP,
)


class Finding(NamedTuple):
    """One such finding."""

    kind: FindingKind
    session_id: str
    targets: tuple[str, ...] = ()
    """Where it was seen, sorted."""
    what: str = ""
    """The resource, labels or budget it is about, if it is about any."""
    said: str = ""
    """More of it, for people."""


class FailedStep(StrEnum):
    """What failed for a run."""

    ACCOUNT = "accounted for"
    FORGET = "forgotten"
    JUDGE = "judged"
    STORE = "stored"


class RunFailure(NamedTuple):
    """One such mistake."""

    session_id: str
    place: FailedStep
    error: Exception
