"""What goes into the audit log: noted as it happens, numbered, and kept until it is on disk.

An entry is stored with what it tells of: whatever a step that fails had noted is offered again by
the next one. Its verdicts are not, as the next step makes them anew.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from otel_budget._version import __version__
from otel_budget.core import verdict_json
from otel_budget.core.audit import AuditEntry, AuditKind
from otel_budget.core.verdict import judged
from otel_budget.sidecar import budget_audit
from otel_budget.sidecar.budget_audit import amounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from otel_budget.core.override import Override
    from otel_budget.core.verdict import Verdict
    from otel_budget.ledger.run import RunTotals
    from otel_budget.policy.verdicts import Rules
    from otel_budget.sidecar.storage.base import Restored, StorageStats
    from otel_budget.sidecar.tick_result import Change

#: Entries that wait at most, while nothing can be stored.
_WAITING_MOST: Final = 10_000
#: What of a verdict is for readers who act by it; the rest explains it.
_NOT_LOGGED: Final = ("version", "lease_seconds", "valid_until", "ends_first")
_BUDGET: Final = "budget:"


class AuditTrail:
    """The entries of one evaluator. Any thread may note some; the rest is the evaluator's."""

    def __init__(self, restored: Restored, now: float) -> None:
        """Begin with what the storage held, and that this process started."""
        self._number = restored.audit_number
        self._noted: deque[AuditEntry] = deque(maxlen=_WAITING_MOST)
        self._waiting: list[AuditEntry] = []
        """Noted, and offered to the storage again until it has them."""
        self._offered: tuple[AuditEntry, ...] = ()
        self._rules: Rules | None = None
        self._full: set[str] = set()
        """Budgets that have more groups than they may."""
        self._dropped = 0
        """Entries that the storage had deleted when that was noted last."""
        self.note_sidecar(
            now, event="started", version=__version__, runs=len(restored.runs),
            sequence=restored.sequence,
        )  # fmt: skip
        for incident in restored.incidents:
            self.note_sidecar(now, **incident)

    @property
    def number(self) -> int:
        """The number of the newest entry that is on disk."""
        return self._number

    def note(self, entry: AuditEntry) -> None:
        """Have an entry stored with the next step. Its number is given then."""
        self._noted.append(entry)

    def note_sidecar(self, at: float, **body: Any) -> None:
        """Note something of the process, its clock or its log. body: JSON types."""
        self.note(AuditEntry(AuditKind.SIDECAR, at, body))

    def note_refused(self, problem: str, at: float) -> None:
        """Note a configuration that was not taken."""
        body = {"event": "refused", "problem": problem}
        self.note(AuditEntry(AuditKind.CONFIGURATION, at, body))

    def note_rules(self, rules: Rules, now: float) -> None:
        """Note the rules that a step goes by, if they are other ones than before."""
        if rules is self._rules:
            return
        self.note(_taken(rules, now))
        if self._rules is not None:
            for entry in budget_audit.edits(self._rules.budgets, rules.budgets, now):
                self.note(entry)
        self._rules = rules

    def note_groups(self, refused: Callable[[str], int], now: float) -> None:
        """Note budgets whose groups became too many. refused: as ``Books.refused``."""
        names = [] if self._rules is None else [budget.name for budget in self._rules.budgets]
        full = {name for name in names if refused(name)}
        for name in sorted(full - self._full):
            self.note(AuditEntry(AuditKind.BUDGET, now, {"event": "groups_full"}, budget=name))
        self._full = full

    def note_anew(self, now: float) -> None:
        """Note that the log begins anew, in a storage that took another one's place."""
        self.note_sidecar(now, event="log_begun_anew", why="the storage was replaced")
        if self._rules is not None:
            self.note(_taken(self._rules, now))

    def note_storage(self, stats: StorageStats, now: float) -> None:
        """Note that the oldest entries were deleted, once that is done for now."""
        if stats.audit_dropped > self._dropped and not stats.audit_is_behind:
            entries, self._dropped = stats.audit_dropped - self._dropped, stats.audit_dropped
            self.note_sidecar(now, event="log_shortened", entries=entries)

    def offer(
        self,
        changes: Iterable[Change],
        runs: Mapping[str, RunTotals],
        override: tuple[RunTotals, Override] | None,
        others: Iterable[AuditEntry] = (),
    ) -> Sequence[AuditEntry]:
        """Return all that is to be stored with a step: what was noted, an order, its verdicts.

        runs: the live ones by session id. others: what else is in the same commit.
        """
        while self._noted:
            self._waiting.append(self._noted.popleft())
        del self._waiting[:-_WAITING_MOST]
        entries = [*self._waiting, *others]
        if override is not None:
            entries.append(order_entry(*override))
        entries += [verdict_entry(c, runs.get(c.verdict.session_id)) for c in changes]
        first = self._number + 1
        self._offered = tuple(replace(e, number=n) for n, e in enumerate(entries, first))
        return self._offered

    def stored(self) -> tuple[AuditEntry, ...]:
        """Take note that what was offered last is on disk, and return it."""
        entries, self._offered = self._offered, ()
        if entries:
            self._number = entries[-1].number
        self._waiting.clear()
        return entries


def verdict_entry(change: Change, run: RunTotals | None) -> AuditEntry:
    """Return the entry of a verdict that changed. run: as it is known; None: not any more."""
    verdict = _plain(change.verdict)
    said = verdict_json.to_dict(verdict)
    for key in _NOT_LOGGED:
        del said[key]
    body = {
        "verdict": said,
        "before": None if change.before is None else _in_short(_plain(change.before)),
        "run": None if run is None else _of_run(run),
    }
    return AuditEntry(
        AuditKind.VERDICT, verdict.evaluated_at, body, verdict.session_id, verdict.started_at,
        _budget_in(verdict.limit_from),
    )  # fmt: skip


def order_entry(run: RunTotals, override: Override) -> AuditEntry:
    """Return the entry of what an operator ordered."""
    body = {
        "event": str(override.kind),
        "reason": override.reason,
        "by": override.by,
        "until": None if override.until is None else verdict_json.timestamp(override.until),
        "limits": amounts(override.limits),
        **({"now": True} if override.now else {}),
    }
    return AuditEntry(AuditKind.ORDER, override.at, body, run.session_id, run.started_at)


def _taken(rules: Rules, now: float) -> AuditEntry:
    body = {"event": "taken", "revision": rules.revision, "policy": rules.text}
    return AuditEntry(AuditKind.CONFIGURATION, now, body)


def _plain(verdict: Verdict) -> Verdict:
    """Return a verdict without forecasts: they decide nothing, and take time to work out."""
    return replace(verdict, resources=judged(verdict.resources))


def _in_short(verdict: Verdict) -> dict[str, Any]:
    return {
        "action": str(verdict.action),
        "status": str(verdict.status),
        "reason": str(verdict.reason),
        "limit_from": verdict.limit_from,
        "sequence": verdict.sequence,
        "run_started_at": verdict.started_at,
    }


def _of_run(run: RunTotals) -> dict[str, Any]:
    """Return what a run says of itself that a verdict does not show."""
    attributes = run.attributes
    return {
        "labels": dict(attributes.labels or {}),
        "parent": attributes.parent,
        "limits": amounts(attributes.limits),
        "thresholds": dict(attributes.thresholds),
        "targets": sorted(run.targets),
    }


def _budget_in(limit_from: str | None) -> str:
    """Return the name of the budget that bound a verdict; empty if none did."""
    if limit_from is None or not limit_from.startswith(_BUDGET):
        return ""
    return limit_from.removeprefix(_BUDGET).partition("{")[0]
