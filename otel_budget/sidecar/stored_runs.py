"""What of the runs is on disk, what of them is to be written, and which leave for the archive.

Runs are stored by the system's clock, as a next process begins by it; the steps have their own.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from otel_budget.ledger.findings import FailedStep, RunFailure
from otel_budget.sidecar.clock import CLOCK_SET, move
from otel_budget.sidecar.failing_runs import by_wall
from otel_budget.sidecar.storage.base import NO_SHARED_CHANGES, Changes, SharedChanges, StorageError
from otel_budget.sidecar.storage.recovery import recovered
from otel_budget.sidecar.stored_mark import StoredMark, is_stored

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from otel_budget.core.audit import AuditEntry
    from otel_budget.core.override import Override
    from otel_budget.core.verdict import Verdict
    from otel_budget.ledger.book_values import BookChanges
    from otel_budget.ledger.run import RunTotals
    from otel_budget.policy.suggester import PastRun, RunKey
    from otel_budget.sidecar.storage.base import Storage

logger = logging.getLogger(__name__)

#: Runs that wait to be archived at most, while nothing can be stored.
_LEAVING_MOST = 20_000


class StoredRuns:
    """Knows which state of each run is on disk, and writes what is not."""

    def __init__(self, storage: Storage, failures: list[RunFailure]) -> None:
        """Begin with nothing on disk. failures: of runs that cannot be read; added to."""
        self.ahead = 0.0
        """Seconds by which the system's clock is ahead of the clock of the steps."""
        self.leaving: list[RunTotals] = []
        """Runs that were taken out of the ledger, and wait to be archived."""
        self._storage, self._failures = storage, failures
        self._marks: dict[str, StoredMark] = {}

    def note(self, run: RunTotals) -> None:
        """Take note that a live run is on disk as it is."""
        self._marks[run.session_id] = StoredMark.of(run)

    def has(self, run: RunTotals) -> bool:
        """Tell whether a live run is on disk as it is."""
        return is_stored(run, self._marks.get(run.session_id))

    def unstored(
        self, runs: Iterable[tuple[str, RunTotals]], *, but: Collection[str]
    ) -> list[RunTotals]:
        """Return those of live runs, by session id, that are not on disk as they are.

        but: session ids of runs that are left out.
        """
        marks = self._marks
        return [
            run
            for session_id, run in runs
            if not is_stored(run, marks.get(session_id)) and session_id not in but
        ]

    def let_go(self, runs: Iterable[RunTotals]) -> None:
        """Have runs archived by the next write."""
        self.leaving += runs
        del self.leaving[:-_LEAVING_MOST]

    def leave_out(self, session_ids: Collection[str]) -> None:
        """Archive none of these runs, as they cannot be."""
        self.leaving = [run for run in self.leaving if run.session_id not in session_ids]

    def take_archived(self, session_id: str, start: float | None, now: float) -> RunTotals | None:
        """Return a run that was let go, as ``look_up`` does; it is live from now on."""
        run = self.look_up(session_id, start, now)
        if run in self.leaving:
            self.leaving.remove(run)
        elif run is not None:
            self._marks[session_id] = StoredMark.of(run, archived=True)
        return run

    def look_up(self, session_id: str, start: float | None, now: float) -> RunTotals | None:
        """Return a run that was let go, on the clock of the steps; None if it is not known.

        One that cannot be read comes back as one that used at least what is known, and is a
        failure. Raises StorageError.
        """
        for leaving in self.leaving:  # taken out by a step that could not be stored
            if (leaving.session_id, leaving.started_at) == (session_id, start):
                return leaving
        try:
            run = self._storage.archived(session_id, start)
        except StorageError:
            raise
        except Exception as exc:  # noqa: BLE001 - it must not begin as if nothing were known
            self._failures.append(RunFailure(session_id, FailedStep.ACCOUNT, exc))
            run = recovered(session_id, start, now)
        if run is not None:
            move(run, -self.ahead)
            if run.started_at is None:
                run.known_from = now  # it was away, and may be another run
        return run

    def set_since(self, ahead: float) -> float:
        """Return the seconds by which the system's clock was set since that was noted; 0 if not.

        ahead: as below.
        """
        seconds = ahead - self.ahead
        return seconds if abs(seconds) >= CLOCK_SET else 0.0

    def note_wall_clock(self, ahead: float) -> bool:
        """Have all runs stored again if the system's clock was set since they were; return if so.

        ahead: seconds by which it is ahead of the clock of the steps.
        """
        if not self.set_since(ahead):
            return False
        self.ahead = ahead
        self._marks.clear()
        logger.warning(
            "the system's clock was set since this process began, by %+.0f s: times in verdicts "
            "are off by as much until the sidecar is restarted; ages and durations are not",
            self.ahead,
        )  # fmt: skip
        return True

    def renew(self) -> bool:
        """Tell whether the storage was replaced by a new one, which has nothing of any run."""
        renewed = self._storage.renew()
        if renewed:
            self._marks.clear()
        return renewed

    def write(
        self,
        sequence: int,
        fresh: Sequence[RunTotals],
        live: Collection[str],
        verdicts: Sequence[Verdict],
        override: tuple[RunTotals, Override] | None,
        *,
        ends: tuple[Sequence[PastRun], Sequence[RunKey]],
        books: BookChanges,
        entries: Sequence[AuditEntry] = (),
        shared: SharedChanges = NO_SHARED_CHANGES,
    ) -> None:
        """Store live runs, those that leave, verdicts, an order and ends, as one change.

        fresh: runs that are not on disk as they are. live: session ids in the ledger. ends: how
        runs ended, and of which that is not needed any more. books, shared: what changed in the
        books of shared budgets, and beside them. entries: of the audit log. Raises whatever the
        storage does; nothing is
        stored then.
        """
        gone = [
            run
            for run in self.leaving
            if self._marks.get(run.session_id) != StoredMark.of(run, archived=True)
        ]
        self._storage.commit(
            Changes(
                sequence,
                self._by_wall(fresh),
                self._by_wall(gone),
                verdicts,
                override,
                *ends,
                books=books,
                audit=entries,
                shared=shared,
            )
        )
        for run in self.leaving:
            if run.session_id not in live:
                self._marks.pop(run.session_id, None)
        self._marks.update((run.session_id, StoredMark.of(run)) for run in fresh)
        self.leaving.clear()

    def _by_wall(self, runs: Sequence[RunTotals]) -> Sequence[RunTotals]:
        """Return runs as they are to be stored."""
        return [by_wall(run, self.ahead) for run in runs] if self.ahead else runs
