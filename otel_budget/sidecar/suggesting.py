"""Suggested limits in the steps of a sidecar: which runs ended, whom it concerns, what is to store.

A suggestion follows from runs that are over, and holds from the next step. What was not stored yet
is offered again at every step until it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.resources import COUNTED
from otel_budget.policy.suggester import PastRun, Suggester
from otel_budget.policy.suggestion import ended_run, workflow_of
from otel_budget.sidecar.tick_result import NO_SUGGESTIONS, SuggestionReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from otel_budget.core.quantities import Number
    from otel_budget.ledger.run import RunTotals
    from otel_budget.policy.suggester import RunKey, SuggestedChange
    from otel_budget.policy.suggestion import EndedRun
    from otel_budget.policy.verdicts import Rules
    from otel_budget.sidecar.verdict_cache import CachedVerdict

_NOBODY: Final[frozenset[str]] = frozenset()
_OVER: Final = frozenset(semconv.OVER_STATES)


class SuggestedLimits:
    """Suggests limits to one evaluator."""

    def __init__(self, past_runs: Iterable[PastRun], now: float) -> None:
        """Begin with what is stored of how runs ended, by a clock that may have been ahead."""
        self.suggester = Suggester(one._replace(at=min(one.at, now)) for one in past_runs)
        self.concerned: frozenset[str] = _NOBODY
        """Workflows whose runs have other ceilings than at the step before."""
        self._base: Rules | None = None
        self._unstored: dict[RunKey, PastRun] = {}
        self._dropped: dict[RunKey, None] = {}
        self._changes: list[SuggestedChange] = []

    def rules(self, base: Rules) -> Rules:
        """Return the rules to judge by in a step, and note whom they are new to."""
        self._base = base
        rules = self.suggester.rules(base)
        found = self.suggester.changes
        if found:
            self.concerned = self.concerned.union(change.workflow for change in found)
            self._changes += found
            found.clear()
        return rules

    def concerns(self, run: RunTotals) -> bool:
        """Tell whether a run has other ceilings than at the step before."""
        return workflow_of(run.attributes) in self.concerned

    def rules_of(self, run: RunTotals, rules: Rules) -> Rules:
        """Return the rules for one run: what ended well is not held against what follows from it.

        rules: those of this step.
        """
        if not rules.suggested or run.ended_at is None or self._base is None:
            return rules
        past_run = self.suggester.past_run((run.session_id, run.started_at))
        if past_run is None:  # it just ended, or did so long ago
            is_past = self.suggester.has_newer(workflow_of(run.attributes), run.ended_at)
        else:
            is_past = past_run.run.ended_well
        return self._base if is_past else rules

    def take(
        self,
        judged: Iterable[CachedVerdict],
        runs: Mapping[str, RunTotals],
        rules: Rules,
        now: float,
    ) -> None:
        """Take in those of the runs just judged that are over. runs: all, by session id."""
        if rules.suggesting is None:
            return
        ended = [
            past_run
            for one in judged
            if one.verdict.run_state in _OVER
            and (run := runs.get(one.verdict.session_id)) is not None
            and (past_run := self._past_run(one, run, now)) is not None
        ]
        if not ended:
            return
        for gone in self.suggester.take(ended):
            self._unstored.pop(gone.key, None)
            self._dropped[gone.key] = None
        for past_run in ended:
            if self.suggester.past_run(past_run.key) is past_run:
                self._unstored[past_run.key] = past_run
                self._dropped.pop(past_run.key, None)

    def _past_run(self, judged: CachedVerdict, run: RunTotals, now: float) -> PastRun | None:
        """Return how a run ended; None if that is known, or says nothing."""
        ended = ended_run(judged.verdict)
        if not ended.ended_well and not ended.cut:
            return None
        known = self.suggester.past_run((run.session_id, run.started_at))
        if known is not None and _counted(known.run) == _counted(ended):
            return None  # as it is at each renewal of its lease
        ended_at = run.vanished_at if run.ended_at is None else run.ended_at
        at = now if ended_at is None else min(ended_at, now)
        return PastRun(workflow_of(run.attributes), run.session_id, run.started_at, at, ended)

    def all_unstored(self) -> None:
        """Take note that nothing of it is on disk."""
        self._unstored = {past_run.key: past_run for past_run in self.suggester.past_runs}
        self._dropped.clear()

    @property
    def unstored(self) -> tuple[Sequence[PastRun], Sequence[RunKey]]:
        """What is to be written, and of which runs what is written is to be deleted."""
        return list(self._unstored.values()), list(self._dropped)

    def stored(self, *, all_judged: bool) -> None:
        """Take note that all of it is on disk. all_judged: True if every run was looked at."""
        self._unstored.clear()
        self._dropped.clear()
        if all_judged:
            self.concerned = _NOBODY

    def report(self) -> SuggestionReport:
        """Return what is suggested, and what became something else since this was asked last."""
        if self._base is None or self._base.suggesting is None:
            return NO_SUGGESTIONS
        changes = tuple(self._changes)
        self._changes.clear()
        return SuggestionReport(self.suggester.runs, self.suggester.limits, changes)


def _counted(run: EndedRun) -> list[Number | None]:
    """Return what a run used, without its times."""
    return [run.used.get(resource) for resource in COUNTED]
