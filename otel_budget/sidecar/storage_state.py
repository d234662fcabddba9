"""What the storage holds once: the last sequence, and the time by which its rows grow old."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, NamedTuple

from otel_budget.ledger.seal import sealed, unsealed
from otel_budget.sidecar.archive import Age
from otel_budget.sidecar.storage_rows import UNREADABLE_ROW

if TYPE_CHECKING:
    import sqlite3

logger = logging.getLogger(__name__)

_STATE = "state"
#: A sequence that nobody can read goes on so far behind all that are known: none is given twice.
_LEAP = 1_000_000


class State(NamedTuple):
    """It, as of one commit."""

    sequence: int
    age: Age


def write_state(db: sqlite3.Connection, state: State) -> None:
    """Write it; the sequence also where versions of before look for it."""
    body = json.dumps({"sequence": state.sequence, "age": state.age.now, "wall": state.age.wall})
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
    sequences, age = [published], None
    try:
        state = json.loads(unsealed(found[_STATE.encode()], _STATE))
        sequences.append(int(state["sequence"]))
        age = Age(float(state["age"]), float(state["wall"]))
    except UNREADABLE_ROW:
        pass  # versions of before have none; it is written at the next commit
    try:
        sequences.append(int(found[b"sequence"]))
    except UNREADABLE_ROW:
        if age is None:
            sequences.append(published + _LEAP)
            logger.error(  # noqa: TRY400 - the file is at fault
                "storage: its last sequence cannot be read: it goes on at %d", published + _LEAP
            )
    if age is None:
        (newest,) = db.execute("SELECT max(archived_at) FROM account WHERE archived = 1").fetchone()
        age = Age(newest if isinstance(newest, float) else wall, wall)
    return State(max(sequences), age)
