"""The newest runs of each workflow that are over, and the ceilings that are suggested by them.

Nothing here grows without end: of each workflow the newest hundred runs that ended well are known,
and the newest hundred that a suggestion cut; of workflows the two hundred of which a run ended
last. Cut ones that are older than every run that ended well say nothing any more. What is suggested
is worked out when a run ends, never when one is judged.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.core.limits import DEFAULT_THRESHOLD
from otel_budget.policy.bounds import bounds_from, stricter
from otel_budget.policy.suggestion import (
    LEAST_RUNS,
    SUGGESTED,
    EndedRun,
    Suggestion,
    suggestion,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.policy.verdicts import Rules

#: Runs of a workflow that are known at most, of each kind.
RUNS_MOST: Final = 100
WORKFLOWS_MOST: Final = 200

RunKey = tuple[str, float | None]
"""Session id and start."""


class Outcome(NamedTuple):
    """How one run ended."""

    workflow: str
    session_id: str
    started_at: float | None
    at: float
    """Unix time at which it was found to be over."""
    run: EndedRun

    @property
    def key(self) -> RunKey:
        """Name the run."""
        return self.session_id, self.started_at


class SuggestedChange(NamedTuple):
    """Another limit is suggested for a workflow than before."""

    workflow: str
    resource: str
    before: Number | None
    """The one before; None: there was none."""
    limit: Number | None
    """The one that holds from now on; None: what holds for every run, alone."""
    suggestion: Suggestion


class _Workflow:
    """What is known of one workflow; of the same kind, the newest is last."""

    __slots__ = ("cut", "good", "limits")

    def __init__(self) -> None:
        self.good: dict[RunKey, Outcome] = {}
        self.cut: dict[RunKey, Outcome] = {}
        self.limits: Mapping[str, Number] = {}
        """What is suggested."""

    def take(self, outcome: Outcome) -> list[Outcome]:
        """Take in a run; return those that are not known any more."""
        self.leave(outcome.key)
        kind = self.good if outcome.run.ended_well else self.cut
        kind[outcome.key] = outcome
        gone = [each.pop(next(iter(each))) for each in (self.good, self.cut) if _is_full(each)]
        if len(self.good) == RUNS_MOST:
            oldest = next(iter(self.good.values())).at
            old = [key for key, one in self.cut.items() if one.at < oldest]
            gone += [self.cut.pop(key) for key in old]
        return gone

    def leave(self, key: RunKey) -> None:
        """Forget a run, if it is known."""
        self.good.pop(key, None)
        self.cut.pop(key, None)

    @property
    def outcomes(self) -> Iterator[Outcome]:
        """All runs."""
        yield from self.good.values()
        yield from self.cut.values()


def _is_full(kind: Mapping[RunKey, Outcome]) -> bool:
    return len(kind) > RUNS_MOST


class Suggester:
    """Takes in runs that are over, and gives the rules with what is suggested by them."""

    def __init__(self, outcomes: Iterable[Outcome] = ()) -> None:
        """Begin with what is known of runs that ended before, in any order."""
        self._workflows: dict[str, _Workflow] = {}
        """That of which a run ended last is last."""
        self._base: Rules | None = None
        self._rules: Rules | None = None
        self._known: dict[RunKey, Outcome] = {}
        self.runs: Mapping[str, int] = {}
        """By workflow, how many runs that ended well are known, up to ``RUNS_MOST``."""
        self.limits: Mapping[str, Mapping[str, Number]] = {}
        """By workflow, the limits that are suggested, by resource."""
        self.changes: list[SuggestedChange] = []
        """What became of suggestions since they were last taken from here."""
        for outcome in sorted(outcomes, key=lambda one: one.at):
            self._note(outcome)

    def rules(self, base: Rules) -> Rules:
        """Return rules with what is suggested under them."""
        if base is not self._base or self._rules is None:
            self._base, self._rules = base, base
            self._work_out(self._workflows)
        return self._rules

    def take(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        """Take in runs that are over; return those that are not known any more.

        Only those that ended well, or that a suggestion cut, say anything.
        """
        gone: list[Outcome] = []
        touched: dict[str, None] = {}
        for outcome in outcomes:
            if outcome.run.ended_well or outcome.run.cut:
                gone += self._note(outcome)
                touched[outcome.workflow] = None
        self._work_out(touched)
        return gone

    def outcome(self, key: RunKey) -> Outcome | None:
        """Return how a run ended, as it was taken in; None if it was not, or is too long ago."""
        return self._known.get(key)

    @property
    def outcomes(self) -> list[Outcome]:
        """All that is known."""
        return list(self._known.values())

    def _note(self, outcome: Outcome) -> list[Outcome]:
        before = self._known.get(outcome.key)
        if before is not None and before.workflow != outcome.workflow:
            self._workflows[before.workflow].leave(outcome.key)
        workflow = self._workflows.pop(outcome.workflow, None) or _Workflow()
        self._workflows[outcome.workflow] = workflow
        self._known[outcome.key] = outcome
        gone = workflow.take(outcome)
        if len(self._workflows) > WORKFLOWS_MOST:
            gone += self._workflows.pop(next(iter(self._workflows))).outcomes
        for one in gone:
            del self._known[one.key]
        return gone

    def _work_out(self, names: Collection[str]) -> None:
        """Work out what is suggested for some workflows."""
        base, rules = self._base, self._rules
        if base is None or rules is None:
            return
        suggested = {
            name: bounds
            for name, bounds in rules.suggested.items()
            if name in self._workflows and name not in names
        }
        for name in names:
            workflow = self._workflows.get(name)
            if workflow is None:  # it had to make room
                continue
            workflow.limits = self._limits(base, name, workflow)
            if workflow.limits:
                own = bounds_from(workflow.limits, base.thresholds, SUGGESTED)
                suggested[name] = stricter(base.ceilings, own)
        if suggested != rules.suggested:
            self._rules = replace(base, suggested=suggested)
        self.runs = {name: len(known.good) for name, known in self._workflows.items()}
        self.limits = {name: known.limits for name, known in self._workflows.items()}

    def _limits(self, base: Rules, name: str, workflow: _Workflow) -> dict[str, Number]:
        """Return what is suggested for a workflow; note where that is something else."""
        limits: dict[str, Number] = {}
        if base.suggesting is None:
            return limits
        runs = [outcome.run for outcome in workflow.outcomes]
        for resource, most in base.suggesting.at_most.items():
            threshold = base.thresholds.get(resource, DEFAULT_THRESHOLD)
            found = suggestion(resource, runs, threshold)
            limit = within(found.proposed, base.suggesting.at_least.get(resource), most)
            if limit is not None:
                limits[resource] = limit
            before = workflow.limits.get(resource)
            if limit != before:
                self.changes.append(SuggestedChange(name, resource, before, limit, found))
        return limits


def is_enough(runs: int) -> bool:
    """Tell whether so many runs that ended well suggest anything."""
    return runs >= LEAST_RUNS
