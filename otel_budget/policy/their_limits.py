"""What a sidecar's verdict limits, held against the run's own counts as they go on.

A verdict knows of the run what was scraped of it. What the run has used since then is off the room
that the verdict named: of the sidecar's ceilings, and of the budgets that the run shares. Where the
sidecar knew of more than the run did (another process of it), the rest is taken to be used.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from otel_budget.core.budget import Mode
from otel_budget.core.resources import TIMES, ZERO
from otel_budget.policy.bounds import Bound, bounds_in
from otel_budget.policy.budgets import plus
from otel_budget.policy.status import minus, ratio_of, remaining_of, status_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import BudgetResource, BudgetState, Verdict
    from otel_budget.policy.bounds import Bounds


class TheirLimits(NamedTuple):
    """A verdict of the sidecar's, and what the run had used when it came."""

    verdict: Verdict
    used: Mapping[str, Number]
    """By the run's own counts."""

    def ceilings(self) -> Bounds:
        """Return the limits that are not the run's own, by the run's own counts.

        Their warning lines are the sidecar's affair: they are where the limits are.
        """
        found = {}
        for name, limited in bounds_in(self.verdict).items():
            limit = limited.limit
            if name not in TIMES and name in self.used:
                limit = self._of_the_run(name, minus(limit, self.verdict.resources[name].used))
            found[name] = Bound(limit, limit, limited.origin)
        return found

    def pooled(self) -> Bounds:
        """Return where the budgets that are enforced would be used up by the run alone."""
        found: Bounds = {}
        for budget in self.verdict.budgets:
            if budget.mode is not Mode.ENFORCE:
                continue
            for name, one in budget.resources.items():
                if name in self.used:
                    limit = self._of_the_run(name, one.remaining)
                    if name not in found or limit < found[name].limit:
                        found[name] = Bound(limit, limit, budget.origin)
        return found

    def named(self) -> tuple[object, ...]:
        """Return which limits there are, whatever was used of them."""
        ceilings = [(n, b.limit, b.origin) for n, b in bounds_in(self.verdict).items()]
        budgets = [
            (
                budget.origin,
                budget.window.start,
                [(n, r.limit) for n, r in budget.resources.items()],
            )
            for budget in self.verdict.budgets
        ]
        return ceilings, budgets

    def budgets(self, used: Mapping[str, Number]) -> tuple[BudgetState, ...]:
        """Return the budgets as they stand with what the run has used since.

        used: by now, by the run's own counts.
        """
        return tuple(
            replace(
                budget,
                binds=False,
                resources={
                    name: self._advanced(budget, name, one, used)
                    for name, one in budget.resources.items()
                },
            )
            for budget in self.verdict.budgets
        )

    def _advanced(
        self, budget: BudgetState, name: str, one: BudgetResource, used: Mapping[str, Number]
    ) -> BudgetResource:
        if name not in used or name not in self.used:
            return one
        more = minus(used[name], self._known(name))
        amount = plus(one.used, max(more, ZERO[name]))
        limited = Bound(one.limit, one.warning_at, budget.origin)
        return one._replace(
            used=amount,
            remaining=remaining_of(amount, one.limit),
            ratio=ratio_of(amount, one.limit),
            status=status_of(amount, limited),
        )

    def _of_the_run(self, name: str, room: Number) -> Number:
        """Return at how much use of the run itself a room is used up that the verdict named."""
        return max(plus(self._known(name), room), ZERO[name])

    def _known(self, name: str) -> Number:
        """Return what the verdict knew to be used, as far as it is the run's own."""
        state, own = self.verdict.resources.get(name), self.used[name]
        return own if state is None else min(state.used, own)
