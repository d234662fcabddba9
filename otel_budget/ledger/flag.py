"""What a ledger finds strange about a run and counts all the same: for people to look into."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What is strange."""

    CONCURRENT = "concurrent"
    """Several processes are alive under one id at the same time."""
    SECOND_TARGET = "second_target"
    """Another target shows a process beside the one that does."""
    NAMELESS = "nameless"
    """Another target shows the run and does not say which process it is."""
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


class Flag(NamedTuple):
    """One such finding."""

    kind: Kind
    session_id: str
    targets: tuple[str, ...] = ()
    """Where it was seen, sorted."""
    what: str = ""
    """The resource it is about, if it is about one."""
    said: str = ""
    """More of it, for people."""
