"""What comes of one step of the sidecar: verdicts, and what is new about runs and the storage."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.core.verdict import LimitStatus, Verdict
from otel_budget.policy.override_effect import NO_EFFECT, Effect
from otel_budget.sidecar.storage.base import NO_STATS, StorageStats

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.audit import AuditEntry
    from otel_budget.core.budget import BudgetKey, TopUp
    from otel_budget.core.observation import Observation
    from otel_budget.core.quantities import Number
    from otel_budget.ledger.findings import Finding, RunFailure
    from otel_budget.policy.suggester import SuggestedChange
    from otel_budget.sidecar.budget_report import BudgetReport


@dataclass(frozen=True, slots=True)
class Change:
    """A verdict that got a new sequence, and the one before it."""

    before: Verdict | None
    """None for a run that is judged for the first time."""
    verdict: Verdict

    @property
    def is_another_run(self) -> bool:
        """True if the verdict before, if any, was on another run of the same id."""
        if self.before is None:
            return True
        was, now = self.before.started_at, self.verdict.started_at
        return was is not None and now is not None and was != now

    @property
    def became_inconclusive(self) -> bool:
        """True if the run was not inconclusive before, and is now; vanished ones never are said."""
        if self.verdict.run_state == semconv.VANISHED:
            return False
        was = self.before is not None and self.before.status is LimitStatus.INCONCLUSIVE
        return self.verdict.status is LimitStatus.INCONCLUSIVE and not was


@dataclass(frozen=True, slots=True)
class RunEvents:
    """Which runs came and went in one step."""

    begun: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Session ids of runs that were not there before, to where they were seen."""
    ended: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Session ids of runs that said they are over, to the state they ended in."""
    vanished: tuple[str, ...] = ()
    """Session ids of runs that are not there any more, and never said that."""
    abandoned: tuple[str, ...] = ()
    """Session ids of runs that are forgotten and never said that either."""


@dataclass(frozen=True, slots=True)
class SuggestionReport:
    """What is suggested, by workflow; empty where nothing is asked for."""

    runs: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """How many runs that ended well are known."""
    limits: Mapping[str, Mapping[str, Number]] = dataclasses.field(default_factory=dict)
    """The limits in force, by resource; empty where ``at_most`` alone holds."""
    changes: tuple[SuggestedChange, ...] = ()
    """What became something else in this step."""


NO_SUGGESTIONS = SuggestionReport()


@dataclass(frozen=True, slots=True)
class TickResult:
    """What came out of one step."""

    verdicts: tuple[Verdict, ...] = ()
    """Of every live run, none older than the renewal of its lease."""
    evaluated: tuple[Verdict, ...] = ()
    """Those of them that are of now."""
    changes: tuple[Change, ...] = ()
    events: RunEvents = RunEvents()
    forgotten: tuple[str, ...] = ()
    """Session ids that have no verdict any more."""
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Reason to number of samples refused since the process began."""
    flags: tuple[Finding, ...] = ()
    """What was found strange about runs."""
    crowded: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Target to the runs it shows that were too many to be let in."""
    resets: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Reason to number of counter resets since the process began."""
    effect: Effect = NO_EFFECT
    """What came of the order that the step took in."""
    lag: float = 0.0
    """Seconds by which samples arrive late, steadily: the most of any run."""
    storage: StorageStats = NO_STATS
    rest: Observation | None = None
    """What of the reading is for a next step: runs that are new, and too many for one."""
    failures: tuple[RunFailure, ...] = ()
    """What went wrong with single runs as this program failed at them."""
    suggestions: SuggestionReport = NO_SUGGESTIONS
    """What is suggested by now."""
    audit: tuple[AuditEntry, ...] = ()
    """What was added to the audit log."""
    budgets: Mapping[str, BudgetReport] = dataclasses.field(default_factory=dict)
    """How the shared budgets stand, by name."""
    held: Mapping[BudgetKey, Mapping[str, Number]] = dataclasses.field(default_factory=dict)
    """What is reserved of each group of a budget of which something is."""
    holds_refused: Mapping[tuple[str, str], int] = dataclasses.field(default_factory=dict)
    """Reservations that were refused since the process began, by budget and reason."""
    granted: TopUp | None = None
    """What an operator added to a shared budget by this step, or had added before."""
