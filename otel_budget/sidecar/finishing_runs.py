"""The runs that go on in budgets with ``when_low: finish_most`` that are low; see policy.

Who was told to go on is stored with each step, so that a restart stops none of them. It is looked
at again in each step in which all runs are looked at, or the budget's use changed. Of a run that is
as it was nothing is worked out again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.core.verdict import LimitStatus
from otel_budget.ledger.processes import used_at_progress
from otel_budget.policy.budgets import weight_of
from otel_budget.policy.finish_most import Candidate, Choice, choose, rest_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from otel_budget.core.budget import Budget, BudgetKey
    from otel_budget.core.verdict import BudgetState
    from otel_budget.ledger.ledger import Ledger
    from otel_budget.ledger.run import RunTotals

_NOBODY: Final[Mapping[str, Choice]] = {}


class _Need(NamedTuple):
    """What a run still needs, and of which state of it."""

    run: RunTotals
    revision: int
    candidate: Candidate


class FinishingRuns:
    """Who was told to go on, by budget and group."""

    def __init__(self, choices: Iterable[Choice] = ()) -> None:
        """Begin with what was stored."""
        self._chosen: dict[BudgetKey, dict[str, Choice]] = {}
        self._needs: dict[BudgetKey, dict[str, _Need]] = {}
        self._unstored: dict[tuple[BudgetKey, str], Choice] = {}
        self._dropped: set[tuple[BudgetKey, str]] = set()
        self.changed: set[str] = set()
        """Session ids of runs that are told something else than before, until that is stored."""
        for one in choices:
            self._chosen.setdefault(one.key, {})[one.session_id] = one

    @property
    def keys(self) -> Collection[BudgetKey]:
        """The budgets and groups in which somebody was told to go on."""
        return self._chosen.keys()

    def has(self, key: BudgetKey, session_id: str) -> bool:
        """Tell whether a run goes on in a budget that is low."""
        return session_id in self._chosen.get(key, _NOBODY)

    def choose(
        self,
        low: Mapping[BudgetKey, tuple[Budget, BudgetState]],
        ledger: Ledger,
        now: float,
    ) -> None:
        """Find out who goes on. low: the budgets and groups that are past their warning line.

        Of one that is used up all stop, and it stays as it is who went on.
        """
        for key in [key for key in self._chosen if key not in low]:
            self._take_over(key, {})
        self._needs = {key: needs for key, needs in self._needs.items() if key in low}
        near = {k: v for k, v in low.items() if v[1].status is LimitStatus.APPROACHING}
        members = _members(near, ledger) if near else {}
        for key, runs in members.items():
            budget, state = near[key]
            known = self._needs.get(key, {})
            needs = {
                run.session_id: _need(budget, run, known.get(run.session_id))
                for run in runs
                if _is_going_on(run, now)
            }
            self._needs[key] = needs
            before = self._chosen.get(key, {})
            told = {
                sid: choice.expected
                for sid, choice in before.items()
                if sid in needs and choice.is_of(needs[sid].run.started_at)
            }
            left = {name: float(one.remaining) for name, one in state.resources.items()}
            limits = {name: float(one.limit) for name, one in state.resources.items()}
            found = choose((need.candidate for need in needs.values()), left, limits, told)
            self._take_over(
                key,
                {
                    sid: before[sid]
                    if told.get(sid) is expected
                    else Choice(*key, sid, needs[sid].run.started_at, expected)
                    for sid, expected in found.items()
                },
            )

    def _take_over(self, key: BudgetKey, found: dict[str, Choice]) -> None:
        before = self._chosen.get(key, {})
        for sid in before.keys() - found.keys():
            self._unstored.pop((key, sid), None)
            self._dropped.add((key, sid))
        for sid, choice in found.items():
            if before.get(sid) is not choice:
                self._unstored[key, sid] = choice
                self._dropped.discard((key, sid))
        self.changed |= before.keys() ^ found.keys()
        if found:
            self._chosen[key] = found
        else:
            self._chosen.pop(key, None)

    @property
    def unstored(self) -> tuple[tuple[Choice, ...], tuple[tuple[BudgetKey, str], ...]]:
        """What is not on disk, and of which runs what is there is to be deleted."""
        return tuple(self._unstored.values()), tuple(self._dropped)

    def stored(self, *, all_judged: bool) -> None:
        """Take note that all of it is on disk. all_judged: True if every run was looked at."""
        self._unstored.clear()
        self._dropped.clear()
        if all_judged:
            self.changed.clear()

    def all_unstored(self) -> None:
        """Take note that nothing of it is on disk."""
        self._unstored = {
            (key, sid): choice
            for key, chosen in self._chosen.items()
            for sid, choice in chosen.items()
        }
        self._dropped.clear()


def _members(keys: Collection[BudgetKey], ledger: Ledger) -> dict[BudgetKey, list[RunTotals]]:
    """Return the runs of some groups."""
    members: dict[BudgetKey, list[RunTotals]] = {key: [] for key in keys}
    known: dict[int, list[list[RunTotals]]] = {}
    for run in ledger.runs.values():
        of = ledger.books.keys_of(run)
        lists = known.get(id(of))
        if lists is None:
            lists = known[id(of)] = [members[key] for key in of if key in members]
        for each in lists:
            each.append(run)
    return members


def _is_going_on(run: RunTotals, now: float) -> bool:
    """Tell whether a run may still finish: as far as is known it is there, and not stopped."""
    if run.ended_at is not None or run.vanished_at is not None:
        return False
    return run.overrides.holding(now).stop is None


def _need(budget: Budget, run: RunTotals, known: _Need | None) -> _Need:
    if known is not None and known.run is run and known.revision == run.revision:
        return known
    totals = run.totals()
    at = used_at_progress(run.attributes, totals, run.speakers)
    rest = rest_of(totals, at, run.attributes.progress, run.pace, budget.limits)
    used = {name: float(totals.get(name, 0)) for name in budget.limits}
    weight = weight_of(budget, run)
    candidate = Candidate(run.session_id, weight(used), None if rest is None else weight(rest))
    return _Need(run, run.revision, candidate)
