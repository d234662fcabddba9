"""What runs share in the steps of a replay of a trace: budgets, and the families they belong to.

All of it is done by the parts that a sidecar's steps have. Here is which windows end when, and
whom it concerns. It costs nothing where runs share nothing.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

from otel_budget.policy.budgets import NO_POOLS, Pools
from otel_budget.policy.families import NOTHING_ABOVE, Above
from otel_budget.replay.budget_use import BudgetTally
from otel_budget.sidecar.family_verdicts import FamilyVerdicts
from otel_budget.sidecar.shared_budgets import SharedBudgets

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from otel_budget.ledger.ledger import Ledger
    from otel_budget.ledger.run import RunTotals
    from otel_budget.policy.verdicts import Rules
    from otel_budget.replay.budget_use import BudgetUse
    from otel_budget.replay.trace import TraceLine
    from otel_budget.sidecar.verdict_cache import CachedVerdict

#: Steps from one look for windows that are over to the next.
_COLLECT_EVERY: Final = 1000


class SharedSteps:
    """What the runs of one replay share, as a sidecar keeps it."""

    def __init__(self, rules: Rules, ledger: Ledger) -> None:
        """Begin before the first step."""
        self._rules, self._ledger = rules, ledger
        self._has_budgets, self._has_families = bool(rules.budgets), False
        self._budgets = SharedBudgets()
        self._families = FamilyVerdicts(ledger.families)
        self._tally = BudgetTally(rules.budgets)
        self._ends: list[float] = []
        self._known_ends: set[float] = set()
        """When windows end in which somebody was judged."""
        self._now: float | None = None
        self._steps = 0
        self.limited = frozenset(name for each in rules.budgets for name in each.limits)
        """Resources that a budget limits."""
        self.weigh_tokens = any(each.weights for each in rules.budgets)
        """True if a budget tells tokens apart."""

    @property
    def are_there(self) -> bool:
        """True if what one run does may concern another."""
        return self._has_budgets or self._has_families

    def begin(self, now: float, line: TraceLine | None = None) -> bool:
        """Let windows end that are over, before anything is booked.

        line: the next one, if it is not only a window that ends. Returns True if runs share
        something from now on that shared nothing before.
        """
        # Lines may be out of order by a second, windows are not.
        self._now = now if self._now is None else max(self._now, now)
        before = self.are_there
        if line is not None and line.parent is not None:
            self._has_families = True
        if self._has_budgets:
            self._budgets.begin(self._rules, self._ledger, self._now)
        return self.are_there and not before

    def settle(self) -> bool:
        """Take note of what was booked; return whether it may concern others."""
        now = 0.0 if self._now is None else self._now
        if self._has_families:
            self._ledger.settle_families(now)
        concerned = self._has_budgets and self._budgets.settle(now)
        return concerned or self._families.are_there

    def in_order(self, runs: Mapping[str, RunTotals]) -> Iterable[str]:
        """Return session ids with those of parents before those of their children."""
        return [session_id for session_id, _ in self._families.in_order(runs.items())]

    def concerns(self, run: RunTotals, before: CachedVerdict | None) -> bool:
        """Tell whether a run is to be judged for what it shares. before: its last verdict."""
        session_id = run.session_id
        if self._has_budgets and self._budgets.concerns(run):
            return True
        return self._families.are_there and self._families.concerns(
            session_id, self._families.above(session_id), before
        )

    def of(self, run: RunTotals) -> tuple[Pools, Above]:
        """Return the budgets of a run as they stand, and what holds because of those above it."""
        pools = self._budgets.of(run) if self._has_budgets else NO_POOLS
        above = NOTHING_ABOVE
        if self._families.are_there:
            above = self._families.above(run.session_id)
        return pools, above

    def note(self, decided: CachedVerdict) -> None:
        """Take note of the verdict on a run that was looked at, for those below it."""
        verdict = decided.verdict
        if self._families.are_there:
            self._families.note(verdict, self._families.above(verdict.session_id))
        for budget in verdict.budgets:
            end = budget.window.resets_at
            if end is not None and end not in self._known_ends:
                self._known_ends.add(end)
                heapq.heappush(self._ends, end)

    def next_end(self, until: float) -> float | None:
        """Return when the next window ended, once each; None if none did by a time."""
        if not self._ends or self._ends[0] > until:
            return None
        end = heapq.heappop(self._ends)
        self._known_ends.discard(end)
        return end

    def done(self, judged: Collection[str]) -> None:
        """Take note that all who are concerned were judged. judged: their session ids."""
        self._families.published(judged, ())
        if self._has_budgets:
            self._budgets.stored(all_judged=True)
            self._steps += 1
            if self._steps % _COLLECT_EVERY == 0:
                self._collect()

    def keeps(self, run: RunTotals) -> bool:
        """Tell whether a run that is over still holds for others."""
        return self._has_families and self._ledger.families.keeps(run)

    def drop(self, run: RunTotals) -> None:
        """Take a run out of the ledger that is over."""
        ledger = self._ledger
        ledger.books.leave(run)
        del ledger.runs[run.session_id]
        if self._has_families:
            ledger.families.forget(run)
            self._families.published((), (run.session_id,))

    def uses(self) -> tuple[BudgetUse, ...]:
        """Return what was used of each budget, by name."""
        if not self._has_budgets:
            return ()
        self._collect()
        return self._tally.uses(self._budgets.report())

    def _collect(self) -> None:
        """Take what is over out of the books."""
        books = self._ledger.books
        self._tally.close(books.unstored().closings)
        books.stored()
