"""What the storage holds once: the last sequence and commit, and the time by which rows grow old.

The number of the last commit is also kept beside the storage for as long as it is open: a log that
was removed or cut off after a kill leaves a storage that is whole, and older. This tells so. It is
written after each commit, not synced, and survives the process, not the machine.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from typing import TYPE_CHECKING, NamedTuple

from otel_budget.sidecar.clock import Boot
from otel_budget.sidecar.storage.records import UNREADABLE_ROW, sealed, unsealed

if TYPE_CHECKING:
    import sqlite3

logger = logging.getLogger(__name__)

_STATE = "state"
#: A sequence that cannot be read goes on so far behind all that are known: none is given twice.
LEAP = 1_000_000
#: Seconds between two commits that are believed to have passed: less than a clock is wrong by.
_BELIEVED = 86_400.0


class Age(NamedTuple):
    """The time by which archived rows grow old, and the system's when it was that."""

    now: float
    wall: float

    def at(self, wall: float) -> Age:
        """Return it as of another reading of the system's clock.

        What lies far ahead of the last one, or behind, is a clock that was set, or a long rest:
        which of the two is not known, and rows that are kept for longer do no harm.
        """
        step = wall - self.wall
        return Age(self.now + step if 0 <= step <= _BELIEVED else self.now, wall)


class State(NamedTuple):
    """It, as of one commit."""

    sequence: int
    age: Age
    commit: int = 0
    """Number of the commit."""
    boot: Boot = Boot()
    """When it was, by a clock that cannot be set."""

    def next(self, sequence: int, wall: float, boot: Boot) -> State:
        """Return it as of the next commit."""
        return State(sequence, self.age.at(wall), self.commit + 1, boot)

    def clock_was_set(self, wall: float, boot: Boot) -> float:
        """Return by how many seconds the system's clock was set since; 0 if that is not known."""
        passed = boot.since(self.boot)
        return 0.0 if passed is None else wall - self.age.wall - passed


def write_state(db: sqlite3.Connection, state: State) -> None:
    """Write it; the sequence also where versions of before look for it."""
    body = json.dumps(
        {
            "sequence": state.sequence,
            "age": state.age.now,
            "wall": state.age.wall,
            "commit": state.commit,
            "boot": state.boot,
        },
        separators=(",", ":"),
    )
    db.executemany(
        "INSERT OR REPLACE INTO meta VALUES (?, ?)",
        [("sequence", str(state.sequence)), (_STATE, sealed(body, _STATE))],
    )


def read_state(db: sqlite3.Connection, wall: float, published: int) -> State:
    """Return it, as far as it can be read.

    wall: the system's time. published: the largest sequence of the stored verdicts.
    """
    rows = db.execute("SELECT CAST(key AS BLOB), CAST(value AS BLOB) FROM meta").fetchall()
    found = dict(rows)
    sequences, commit, boot = [published], 0, Boot()
    age: Age | None = None
    with contextlib.suppress(*UNREADABLE_ROW):  # versions of before have none
        sequence, age, commit, boot = state_of(found[_STATE.encode()])
        sequences.append(sequence)
    try:
        sequences.append(int(found[b"sequence"]))
    except UNREADABLE_ROW:
        if age is None:
            sequences.append(published + LEAP)
            logger.error(  # noqa: TRY400 - the file is at fault
                "storage: its last sequence cannot be read; numbering continues at %d",
                published + LEAP,
            )
    if age is None:
        (newest,) = db.execute("SELECT max(archived_at) FROM account WHERE archived = 1").fetchone()
        age = Age(newest if isinstance(newest, float) else wall, wall)
    return State(max(sequences), age, commit, boot)


def state_of(body: bytes) -> State:
    """Return the state in its row. Raises one of UNREADABLE_ROW."""
    state = json.loads(unsealed(body, _STATE))
    age = Age(float(state["age"]), float(state["wall"]))
    machine, seconds = state["boot"]
    return State(int(state["sequence"]), age, int(state["commit"]), Boot(machine, seconds))


_END = "-commit"


class LastCommit:
    """The file beside the storage with the number of the last commit."""

    def __init__(self, path: str) -> None:
        """Take the storage's path; nothing is opened."""
        self._path = os.path.realpath(path) + _END
        self._handle: int | None = None

    def read(self) -> tuple[int, int]:
        """Return the commit and the sequence that were noted; zeros if there are none."""
        try:
            with open(self._path, "rb") as file:  # noqa: PTH123 - as it is written
                commit, sequence = map(int, file.read(64).split())
        except (OSError, ValueError):
            return 0, 0
        return commit, sequence

    def note(self, commit: int, sequence: int) -> None:
        """Write them. What cannot be written is not known later; that fails no commit."""
        with contextlib.suppress(OSError):
            if self._handle is None:
                self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            os.pwrite(self._handle, b"%020d %020d\n" % (commit, sequence), 0)

    def close(self, *, whole: bool) -> None:
        """Close it; without a file if the storage is whole without its log."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        if whole:
            with contextlib.suppress(OSError):
                os.unlink(self._path)  # noqa: PTH108 - as it is opened
