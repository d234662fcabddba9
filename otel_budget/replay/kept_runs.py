"""The storage of a replay: in memory, as no process has to go on from it."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from otel_budget.core.audit import AuditPage
from otel_budget.sidecar.storage.base import NO_STATS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_budget.core.audit import AuditQuery
    from otel_budget.core.budget import Group
    from otel_budget.core.override import Override
    from otel_budget.ledger.book_values import ClosedWindow
    from otel_budget.ledger.run import RunTotals
    from otel_budget.sidecar.storage.base import Changes, StorageStats

#: Runs that are kept after they were forgotten, in case they turn up again; the newest.
_ARCHIVED_MOST: Final = 10_000


class KeptRuns:
    """Keeps the runs that a sidecar would have in its archive."""

    def __init__(
        self,
        on_change: Callable[[Sequence[RunTotals]], None],
        on_closed: Callable[[Sequence[ClosedWindow]], None] = lambda _closed: None,
    ) -> None:
        """on_change: gets the runs with something new in them, once a tick. on_closed: gets windows
        of shared budgets that are over.
        """
        self._on_change, self._on_closed = on_change, on_closed
        self._archive: OrderedDict[tuple[str, float | None], RunTotals] = OrderedDict()

    def renew(self) -> bool:
        """Return False: nothing happens to it."""
        return False

    def commit(self, changes: Changes) -> None:
        """Take what changed."""
        self._on_change(changes.runs)
        self._on_closed(changes.books.closings)
        for run in changes.archived:
            self._archive[run.session_id, run.started_at] = run
        while len(self._archive) > _ARCHIVED_MOST:
            self._archive.popitem(last=False)

    def archived(self, session_id: str, started_at: float | None) -> RunTotals | None:
        """Return a run that was forgotten; None if there is none."""
        return self._archive.pop((session_id, started_at), None)

    def overrides(self, session_id: str, started_at: float | None, most: int) -> list[Override]:  # noqa: ARG002 - as Storage has it
        """Return nothing: nobody orders anything in a replay."""
        return []

    def closed_windows(self, budget: str, group: Group, most: int) -> list[ClosedWindow]:  # noqa: ARG002 - as Storage has it
        """Return nothing: what a replay shows of windows it has from its steps."""
        return []

    def audit(self, query: AuditQuery) -> AuditPage:  # noqa: ARG002 - as Storage has it
        """Return nothing: a replay keeps no log."""
        return AuditPage()

    def stats(self) -> StorageStats:
        """Return that there is nothing to say."""
        return NO_STATS

    def close(self) -> None:
        """Do nothing."""
