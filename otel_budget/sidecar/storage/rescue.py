"""Put what was salvaged of a damaged storage into one that is whole."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from otel_budget.sidecar.storage.recovery import recovered
from otel_budget.sidecar.storage.state import LEAP, State, write_state

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

    from otel_budget.ledger.run import RunTotals
    from otel_budget.sidecar.storage.salvage import Salvaged
    from otel_budget.sidecar.storage.writes import Writer


def state_after(found: Salvaged, known: State) -> State:
    """Return the state behind all of which there is something: no sequence is given twice."""
    published = max((v.sequence or 0 for v in found.verdicts.values()), default=0)
    if found.state is None:
        return State(published + LEAP, known.age, max(known.commit, found.commit))
    sequence = max(published, found.state.sequence, known.sequence)
    return found.state._replace(sequence=sequence, commit=max(known.commit, found.commit))


def put_in(
    db: sqlite3.Connection, writer: Writer, found: Salvaged, state: State, now: float, *, live: bool
) -> None:
    """Write it. now: Unix time.

    live: False where it is known which runs are live: all of them are archived then.
    """
    newest: dict[str, RunTotals] = {}
    with db:
        db.execute("BEGIN IMMEDIATE")
        for _, account, at in sorted(found.accounts.values(), key=itemgetter(0)):
            before = newest.pop(account.session_id, None)
            if before is not None:
                writer.archived(before, state.age.now, state.commit)
            if live and at is None:
                newest[account.session_id] = account
            else:
                writer.archived(account, at or state.age.now, state.commit)
        if live:
            known = {*newest, *writer.live}
            newest.update((a.session_id, a) for a in _others(found, known, now))
            writer.verdicts(found.verdicts.values())
        writer.accounts(list(newest.values()), state.commit)
        for key, order in sorted(found.orders, key=lambda given: given[1].at):
            writer.order(key, order)
        write_state(db, state)


def _others(found: Salvaged, known: Collection[str], now: float) -> list[RunTotals]:
    """Return those runs of which only the verdict is there. known: ids of those that are live."""
    others = []
    for key, verdict in found.verdicts.items():
        if key.session_id not in known and key not in found.accounts:
            orders = [order for run, order in found.orders if run == key]
            orders.sort(key=lambda order: order.at)
            others.append(recovered(key.session_id, key.start, now, verdict=verdict, orders=orders))
    return others


def newer_than(found: Salvaged, known: State) -> Salvaged:
    """Leave only what was written after a commit."""
    found.accounts = {key: row for key, row in found.accounts.items() if row[0] > known.commit}
    found.verdicts = {
        key: v for key, v in found.verdicts.items() if (v.sequence or 0) > known.sequence
    }
    return found
