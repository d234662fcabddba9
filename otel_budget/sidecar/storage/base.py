"""What the sidecar needs of a storage: the protocol, what goes through it, and what it raises.

- A commit is all or nothing, and happens before anything of it is published.
- Whatever its medium raises leaves a storage as one of the errors here.
- A storage decides nothing about a run. What it cannot read of a run costs that run alone, which
  then comes back as one that has used "at least" what is known (recovery.py).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from otel_budget.errors import OtelBudgetError
from otel_budget.ledger.book_values import NO_BOOK_CHANGES, NO_BOOKS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from otel_budget.core.audit import AuditEntry, AuditPage, AuditQuery
    from otel_budget.core.budget import BudgetKey, Group, TopUp
    from otel_budget.core.override import Override
    from otel_budget.core.verdict import Verdict
    from otel_budget.ledger.book_values import BookChanges, ClosedWindow, StoredBooks
    from otel_budget.ledger.holds import Hold
    from otel_budget.ledger.run import RunTotals
    from otel_budget.policy.finish_most import Choice
    from otel_budget.policy.suggester import PastRun, RunKey


class StorageError(OtelBudgetError):
    """Say that the storage could not be read or written just now. Nothing was stored then."""


class UnusableStorageError(StorageError):
    """Say that the storage cannot be used at all, and what to do.

    path: where it is. problem: what is wrong with it.
    """

    def __init__(self, path: str, problem: str, advice: str) -> None:
        self.path, self.problem, self.advice = path, problem, advice
        super().__init__(f"storage {path}: {problem}; {advice}")


class SharedChanges(NamedTuple):
    """What of shared budgets beside their books is new."""

    top_ups: tuple[TopUp, ...] = ()
    """Grants that were given."""
    gone: tuple[str, ...] = ()
    """Keys of grants that are not needed any more."""
    choices: tuple[Choice, ...] = ()
    """Runs that were told to go on in a budget that is low."""
    dropped: tuple[tuple[BudgetKey, str], ...] = ()
    """Budget, group and session id of those that are not any more."""
    holds: tuple[Hold, ...] = ()
    """Reservations that are new, or other ones than before."""
    forgotten: tuple[str, ...] = ()
    """Ids of those that are not needed any more."""

    def __bool__(self) -> bool:
        """True if there is anything to write."""
        return any(self)


NO_SHARED_CHANGES: Final = SharedChanges()


@dataclass(frozen=True, slots=True)
class Restored:
    """What the last process left behind."""

    runs: tuple[RunTotals, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    """The last published verdict of each of these runs."""
    sequence: int = 0
    """The last one given out; 0 before the first."""
    past_runs: tuple[PastRun, ...] = ()
    """How runs ended, from which limits are suggested."""
    books: StoredBooks = NO_BOOKS
    """What was used of budgets that runs share."""
    clock_set: float = 0.0
    """Seconds by which the system's clock was set since it was written."""
    stored_at: float | None = None
    """When it was written last, in Unix time of the system's clock; None: never."""
    audit_number: int = 0
    """The last one given to an entry of the audit log, or a larger one."""
    incidents: tuple[Mapping[str, Any], ...] = ()
    """What was wrong with the storage, as bodies of entries of the audit log."""
    top_ups: tuple[TopUp, ...] = ()
    """What operators added to shared budgets."""
    choices: tuple[Choice, ...] = ()
    """Runs that were told to go on in a budget that is low."""
    holds: tuple[Hold, ...] = ()
    """What is reserved in shared budgets, by the system's clock."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What one tick changed."""

    sequence: int
    runs: Sequence[RunTotals] = dataclasses.field(default=())
    """Live runs with something new in them."""
    archived: Sequence[RunTotals] = dataclasses.field(default=())
    """Runs that were forgotten, or superseded by a new run."""
    verdicts: Sequence[Verdict] = dataclasses.field(default=())
    """Those with a new sequence."""
    override: tuple[RunTotals, Override] | None = None
    """What an operator ordered, for which run."""
    past_runs: Sequence[PastRun] = dataclasses.field(default=())
    """How runs ended, from which limits are suggested."""
    dropped: Sequence[RunKey] = dataclasses.field(default=())
    """Runs of which that is not needed any more."""
    audit: Sequence[AuditEntry] = dataclasses.field(default=())
    """What happened, each with its number."""
    books: BookChanges = NO_BOOK_CHANGES
    """What changed in the books of budgets that runs share."""
    shared: SharedChanges = NO_SHARED_CHANGES
    """What of shared budgets beside their books is new."""
    unsynced: bool = False
    """True if the machine may lose it that fails in the next moment; a process that is killed must
    not."""
    clock_set: float = 0.0
    """Seconds by which the system's clock is ahead of that by which what is stored was, and is."""

    def __bool__(self) -> bool:
        """True if there is anything to write. A sequence moves only along with a verdict."""
        runs = self.runs or self.archived or self.verdicts or self.override
        budgets = self.books or self.shared
        return bool(runs or self.past_runs or self.dropped or self.audit or budgets)


class StorageStats(NamedTuple):
    """How the storage is; the counts are since the process began."""

    size: int = 0
    """Bytes that it takes now."""
    unreadable: int = 0
    """Rows that could not be read."""
    evicted: int = 0
    """Archived runs that were deleted before their time, for want of room."""
    renewals: int = 0
    """How often it was replaced by a new one, because it was gone or damaged."""
    audit_dropped: int = 0
    """Entries of the audit log that were deleted, for their age or for want of room."""
    audit_is_behind: bool = False
    """True while more of them are to be deleted."""


NO_STATS = StorageStats()


class Storage(Protocol):
    """Where the ledger and the last verdicts outlive the process. Used by one thread at a time."""

    def renew(self) -> bool:
        """Replace the storage by a new one if it is gone or damaged.

        Return True if what was stored is not in the new one, so that all has to be committed again.
        Raises StorageError for as long as that cannot be done.
        """

    def commit(self, changes: Changes) -> None:
        """Write what changed, all or nothing. Raises StorageError; nothing is written then."""

    def archived(self, session_id: str, started_at: float | None) -> RunTotals | None:
        """Return a run that was archived; None if it never was. Raises StorageError."""

    def overrides(self, session_id: str, started_at: float | None, most: int) -> list[Override]:
        """Return what operators ordered for a run, the newest first. Raises StorageError.

        most: how many to return at most; -1 for all.
        """

    def closed_windows(self, budget: str, group: Group, most: int) -> list[ClosedWindow]:
        """Return the windows of a budget's group that are over, the newest first.

        group: None for that of all that found no place. most: how many to return at most; -1 for
        all. Raises StorageError.
        """

    def audit(self, query: AuditQuery) -> AuditPage:
        """Return entries of the audit log. Raises StorageError."""

    def stats(self) -> StorageStats:
        """Return how the storage is."""

    def close(self) -> None:
        """Close it. Nothing may be called after that."""
