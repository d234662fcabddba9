"""What the storage holds once: the last sequence, and the time by which its rows grow old."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from otel_budget.sidecar.clock import Boot
from otel_budget.sidecar.storage.archive import Age
from otel_budget.sidecar.storage.row_digest import sealed, unsealed
from otel_budget.sidecar.storage.rows import UNREADABLE_ROW

if TYPE_CHECKING:
    import sqlite3

logger = logging.getLogger(__name__)

_STATE = "state"
#: A sequence that nobody can read goes on so far behind all that are known: none is given twice.
LEAP = 1_000_000


class State(NamedTuple):
    """It, as of one commit."""

    sequence: int
    age: Age
    commit: int = 0
    """Number of the commit."""
    boot: Boot = Boot()
    """When it was, by a clock that nobody sets."""

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
    with suppress(*UNREADABLE_ROW):  # versions of before have none
        sequence, age, commit, boot = state_of(found[_STATE.encode()])
        sequences.append(sequence)
    try:
        sequences.append(int(found[b"sequence"]))
    except UNREADABLE_ROW:
        if age is None:
            sequences.append(published + LEAP)
            logger.error(  # noqa: TRY400 - the file is at fault
                "storage: its last sequence cannot be read: it goes on at %d", published + LEAP
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
