"""Shared budgets in the steps of a sidecar, and of a replay: how they stand, and whom it concerns.

In each step ``begin``, before use is taken in: edits, and windows that end. Then ``settle``: what
changed of which group, which runs go on in a budget that is low, and whose verdicts no longer hold.
Then ``of``, for each run that is judged. What is to be stored goes into the commit of the step.

Nothing here costs anything for a run whose budgets did not change: there is one object for all runs
that share the same groups, made when the first of them is judged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.core.budget import Budget, Mode, WhenLow, WindowKind, WindowSpan
from otel_budget.core.top_up import TopUpRefusal, TopUpRefusedError
from otel_budget.core.verdict import LimitStatus
from otel_budget.policy.budgets import NO_POOLS, Pools, budget_state, outline_of, weighed
from otel_budget.policy.pool_pace import PoolPaces
from otel_budget.sidecar.budget_report import BudgetReport, GroupReport
from otel_budget.sidecar.finishing_runs import FinishingRuns
from otel_budget.sidecar.storage.base import SharedChanges
from otel_budget.sidecar.top_ups import TopUps, sum_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from otel_budget.core.budget import BudgetKey, Group, TopUp
    from otel_budget.core.quantities import Number
    from otel_budget.core.top_up import TopUpRequest
    from otel_budget.core.verdict import BudgetState
    from otel_budget.ledger.book_values import GroupUse
    from otel_budget.ledger.ledger import Ledger
    from otel_budget.ledger.run import RunTotals
    from otel_budget.policy.finish_most import Choice
    from otel_budget.policy.verdicts import Rules

#: Combinations of groups that are kept beside those that runs have, at most; and as many again.
_LEFT_MOST: Final = 1000


class _Standing(NamedTuple):
    """How a group stands, and what that is worked out from."""

    revision: int
    """Of its books."""
    state: BudgetState
    top_ups: tuple[TopUp, ...]
    counted_from: float


class _Shared(NamedTuple):
    """The budgets of all runs that share the same groups."""

    keys: tuple[BudgetKey, ...]
    states: tuple[BudgetState, ...]
    """Of those that have books, in the order of ``keys``."""
    pools: Pools
    own: tuple[tuple[Budget, Group], ...]
    """Budgets over each run by itself."""


class SharedBudgets:
    """The shared budgets of one ledger. Used from one thread at a time."""

    def __init__(self, top_ups: Iterable[TopUp] = (), choices: Iterable[Choice] = ()) -> None:
        """Begin with what was stored: grants, and who was told to go on."""
        self._top_ups = TopUps(top_ups)
        self._finishing = FinishingRuns(choices)
        self._budgets: dict[str, Budget] = {}
        self._configured: tuple[Budget, ...] = ()
        self._ledger: Ledger | None = None
        self._now = 0.0
        self._standing: dict[BudgetKey, _Standing] = {}
        self._low: set[BudgetKey] = set()
        """Those with ``finish_most`` that are past their warning line."""
        self._stale: set[BudgetKey] = set()
        """Groups whose top-ups changed."""
        self._shared: dict[int, _Shared] = {}
        """By the id of its keys, which the books keep."""
        self._shared_most = _LEFT_MOST
        self._checked: set[int] = set()
        """Those that were found to be as of this step."""
        self._concerned: set[BudgetKey] = set()
        self._concerns: dict[int, bool] = {}
        self._reports: dict[str, dict[Group, GroupReport]] = {}
        self._since: dict[str, float] = {}
        self._paces = PoolPaces()

    # What a step does, in this order.

    def begin(self, rules: Rules, ledger: Ledger, now: float) -> None:
        """Take note which budgets there are, and let windows end; before use is taken in."""
        self._now, self._ledger = now, ledger
        if rules.budgets is not self._configured or ledger.books.budgets is not rules.budgets:
            ledger.books.granted_in = self._granted_in  # windows may have ended meanwhile
            ledger.use_budgets(rules.budgets, now)
            self._edit(rules.budgets, now)
        if self._configured:
            ledger.books.advance(now)

    def _edit(self, budgets: tuple[Budget, ...], now: float) -> None:
        self._configured, self._budgets = budgets, {one.name: one for one in budgets}
        self._since = {name: self._since.get(name, now) for name in self._budgets}
        self._standing.clear()
        self._shared.clear()
        self._reports.clear()
        self._low.clear()
        if self._ledger is not None:
            for name, budget in self._budgets.items():
                for group in self._ledger.books.groups_of(name):
                    self._note_low((name, group), budget)

    def settle(self, now: float, *, whole: bool = True) -> bool:
        """Find out what changed, once use is taken in; return whether it concerns any run.

        whole: False in a step that looks at some runs alone.
        """
        if not self._configured or self._ledger is None:
            return False
        self._now = now
        self._checked.clear()
        changed = self._ledger.books.take_changed() | self._stale | self._top_ups.ended(now)
        self._stale = set()
        for key in changed:
            if key[0] in self._budgets and self._is_another(key, self._budgets[key[0]]):
                self._concerned.add(key)
        if whole or not self._low.isdisjoint(changed):
            self._choose()
        if len(self._shared) > self._shared_most:
            self._forget_shared(self._ledger)
        self._concerns.clear()
        return self.concerned

    def _forget_shared(self, ledger: Ledger) -> None:
        """Forget combinations of groups that no run has any more. Rare, so it costs next to nothing
        a step.
        """
        live = {id(run.scope.keys) for run in ledger.runs.values() if run.scope is not None}
        self._shared = {number: one for number, one in self._shared.items() if number in live}
        self._shared_most = 2 * len(self._shared) + _LEFT_MOST

    def _is_another(self, key: BudgetKey, budget: Budget) -> bool:
        """Tell whether verdicts on a group's runs would be others by how it stands now."""
        before = self._standing.pop(key, None)
        if budget.window.kind is WindowKind.RUN:
            return True
        now = self._stand(key)
        self._pace(key, budget, now.state)
        self._note_low(key, budget)
        return before is None or outline_of(now.state) != outline_of(before.state)

    def _pace(self, key: BudgetKey, budget: Budget, state: BudgetState) -> None:
        used = {resource: one.used for resource, one in state.resources.items()}
        self._paces.observe(key, budget, used, state.window, self._now)

    def _granted_in(self, key: BudgetKey, start: float, at: float) -> Mapping[str, Number]:
        return sum_of(self._top_ups.held(key, start, at))

    def _note_low(self, key: BudgetKey, budget: Budget) -> None:
        if budget.when_low is WhenLow.FINISH_MOST and budget.window.kind is not WindowKind.RUN:
            if self._stand(key).state.status is LimitStatus.OK:
                self._low.discard(key)
            else:
                self._low.add(key)

    def _choose(self) -> None:
        """Find out which runs go on in budgets that are low."""
        if self._ledger is None or not (self._low or self._finishing.keys):
            return
        low = {key: (self._budgets[key[0]], self._stand(key).state) for key in self._low}
        self._finishing.choose(low, self._ledger, self._now)

    @property
    def concerned(self) -> bool:
        """True if a run has other budgets than it was judged by, not all of which was stored."""
        return bool(self._concerned or self._finishing.changed)

    def concerns(self, run: RunTotals) -> bool:
        """Tell whether a run has to be judged again for its budgets alone."""
        if run.session_id in self._finishing.changed:
            return True
        scope = run.scope
        if scope is None or not self._concerned:
            return False
        found = self._concerns.get(id(scope.keys))
        if found is None:
            found = not self._concerned.isdisjoint(scope.keys)
            self._concerns[id(scope.keys)] = found
        return found

    def of(self, run: RunTotals) -> Pools:
        """Return the budgets of a run as they stand in this step."""
        if not self._configured or self._ledger is None:
            return NO_POOLS
        keys = self._ledger.books.keys_of(run)
        if not keys:
            return NO_POOLS
        shared = self._shared_by(keys)
        pools = shared.pools
        if shared.own:
            own = [(budget, self._own(budget, group, run)) for budget, group in shared.own]
            pools = pools.beside(own)
        if pools.low:
            chosen = (key[0] for key in keys if self._finishing.has(key, run.session_id))
            pools = pools.with_chosen(pools.low.intersection(chosen))
        return pools

    def _shared_by(self, keys: tuple[BudgetKey, ...]) -> _Shared:
        known = self._shared.get(id(keys))
        if known is not None and known.keys is keys and id(keys) in self._checked:
            return known
        kept = [key for key in keys if self._budgets[key[0]].window.kind is not WindowKind.RUN]
        states = tuple([self._stand(key).state for key in kept])
        if known is None or known.keys is not keys or not _same(known.states, states):
            pairs = [(self._budgets[key[0]], s) for key, s in zip(kept, states, strict=True)]
            own = [
                (self._budgets[name], group) for name, group in keys if (name, group) not in kept
            ]
            known = self._shared[id(keys)] = _Shared(keys, states, Pools(pairs), tuple(own))
        self._checked.add(id(keys))
        return known

    def _stand(self, key: BudgetKey) -> _Standing:
        """Return how a group stands; the same object while nothing of it changes."""
        if self._ledger is None:
            raise RuntimeError("before the first step it is not known which budgets there are")
        use = self._ledger.books.use_of(*key)
        known = self._standing.get(key)
        if known is not None and known.revision == use.revision:
            return known
        state, top_ups = self._state_of(key, use)
        known = self._standing[key] = _Standing(use.revision, state, top_ups, use.counted_from)
        return known

    def _state_of(self, key: BudgetKey, use: GroupUse) -> tuple[BudgetState, tuple[TopUp, ...]]:
        budget = self._budgets[key[0]]
        top_ups = self._top_ups.in_force(key, use.span, self._now)
        state = budget_state(
            budget, key[1], use.used, use.span, top_up=sum_of(top_ups), carried=use.carried,
            at_least=use.at_least.intersection(budget.limits),
        )  # fmt: skip
        return state, top_ups

    def _own(self, budget: Budget, group: Group, run: RunTotals) -> BudgetState:
        """Return how a budget over each run by itself stands for one: by its own use."""
        span = WindowSpan(run.first_seen_at if run.started_at is None else run.started_at)
        top_ups = self._top_ups.in_force((budget.name, group), span, self._now)
        return budget_state(
            budget, group, weighed(budget, run), span, top_up=sum_of(top_ups),
            at_least=run.uncertainty.at_least.intersection(budget.limits),
        )  # fmt: skip

    def standings(self, run: RunTotals) -> list[tuple[Budget, Group, BudgetState]]:
        """Return how the budgets of a run that are enforced stand right now.

        Between steps, after ``begin``; what the next step finds changed is what it was before.
        """
        if self._ledger is None:
            return []
        found = []
        for name, group in self._ledger.books.keys_of(run):
            budget = self._budgets[name]
            if budget.mode is not Mode.ENFORCE:
                continue
            if budget.window.kind is WindowKind.RUN:
                state = self._own(budget, group, run)
            else:
                state, _ = self._state_of((name, group), self._ledger.books.use_of(name, group))
            found.append((budget, group, state))
        return found

    # Top-ups.

    def give(self, asked: TopUpRequest, rules: Rules, ledger: Ledger, now: float) -> TopUp:
        """Add to a budget from now on; the same request again is the same grant.

        Raises TopUpRefusedError, and InvalidValueError where there is no reset to hold until.
        """
        self.begin(rules, ledger, now)
        known = self._top_ups.known(asked)
        if known is not None:
            return known
        budget = self._budgets.get(asked.budget)
        if budget is None:
            detail = f"no budget {asked.budget!r} is configured"
            raise TopUpRefusedError(TopUpRefusal.UNKNOWN_BUDGET, detail)
        key = budget.name, asked.group
        given = self._top_ups.give(asked, self._span_of(budget, key), now)
        self._stale.add(key)
        self._standing.pop(key, None)
        return given

    def take_back(self, given: TopUp) -> None:
        """Forget a grant that could not be stored."""
        if given in self._top_ups.unstored[0]:
            self._top_ups.take_back(given)
            self._stale.add((given.budget, given.group))
            self._standing.pop((given.budget, given.group), None)

    def _span_of(self, budget: Budget, key: BudgetKey) -> WindowSpan:
        """Return the present window of a group. Raises TopUpRefusedError for an unknown one."""
        if self._ledger is None:
            raise RuntimeError("before the first step no group is known")
        books = self._ledger.books
        if budget.window.kind is WindowKind.RUN:
            runs = self._ledger.runs.values()
            is_known = not budget.per or any(key in books.keys_of(run) for run in runs)
            span = WindowSpan(self._now)
        else:
            is_known = not budget.per or key[1] in books.groups_of(budget.name)
            span = books.use_of(*key).span
        if not is_known:
            named = budget.group_text(key[1])
            detail = f"budget {budget.name} has no group {named!r} now: no run of it is known"
            raise TopUpRefusedError(TopUpRefusal.UNKNOWN_GROUP, detail)
        return span

    # What is stored, and what is told.

    @property
    def unstored(self) -> SharedChanges:
        """What is not on disk."""
        top_ups, gone = self._top_ups.unstored
        choices, dropped = self._finishing.unstored
        return SharedChanges(top_ups, gone, choices, dropped)

    def stored(self, *, all_judged: bool) -> None:
        """Take note that all of it is on disk. all_judged: True if every run was looked at."""
        self._top_ups.stored()
        self._finishing.stored(all_judged=all_judged)
        if all_judged:
            self._concerned.clear()

    def all_unstored(self) -> None:
        """Take note that nothing of it is on disk."""
        self._top_ups.all_unstored()
        self._finishing.all_unstored()

    def report(self) -> Mapping[str, BudgetReport]:
        """Return how all budgets stand. One object per group, kept while nothing of it changes."""
        if self._ledger is None or not self._configured:
            return {}
        books = self._ledger.books
        found, slackening = {}, self._paces.slackening(self._now)
        for name, budget in self._budgets.items():
            runs = books.by_itself(name)
            groups: dict[Group, GroupReport] = {}
            if budget.window.kind is not WindowKind.RUN:
                listed = set(books.groups_of(name)) | (set() if budget.per else {()})
                groups = {group: self._report(name, group, slackening) for group in listed}
                runs = sum(one.sessions for one in groups.values())
            self._reports[name] = groups
            found[name] = BudgetReport(
                budget, groups, self._since_of(name, groups), runs, books.refused(name)
            )
        self._standing = {
            key: one for key, one in self._standing.items() if key[1] in self._reports[key[0]]
        }
        self._paces.keep(self._standing.keys())
        return found

    def _since_of(self, name: str, groups: Mapping[Group, GroupReport]) -> float:
        """Return since when a budget counts."""
        first = next(iter(groups.values()), None)
        return self._since[name] if first is None else first.counted_from

    def _report(
        self, name: str, group: Group, slackening: Collection[BudgetKey] = ()
    ) -> GroupReport:
        """Return how a group stands. slackening: those whose pace is another without any use."""
        standing = self._stand((name, group))
        sessions = 0 if self._ledger is None else self._ledger.books.use_of(name, group).sessions
        before = self._reports.get(name, {}).get(group)
        if (
            before is not None
            and before.state is standing.state
            and before.sessions == sessions
            and (name, group) not in slackening
        ):
            return before
        return GroupReport(
            group, standing.state, standing.counted_from, sessions, standing.top_ups,
            self._paces.exhaustion_seconds((name, group), standing.state, self._now),
        )  # fmt: skip


def _same(one: tuple[BudgetState, ...], other: tuple[BudgetState, ...]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))
