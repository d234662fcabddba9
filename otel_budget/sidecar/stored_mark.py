"""Which state of a run is on disk, so that only what changed is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from otel_budget.ledger.run import RunTotals


class StoredMark(NamedTuple):
    """What of a run is on disk."""

    run: RunTotals
    started_at: float | None
    revision: int
    archived: bool

    @classmethod
    def of(cls, run: RunTotals, *, archived: bool = False) -> StoredMark:
        """Return the mark of a run as it is now."""
        return cls(run, run.started_at, run.revision, archived)


def is_stored(run: RunTotals, mark: StoredMark | None) -> bool:
    """Tell whether a live run is on disk as it is."""
    return (
        mark is not None
        and mark.run is run
        and mark.revision == run.revision
        and mark.started_at == run.started_at
        and not mark.archived
    )
