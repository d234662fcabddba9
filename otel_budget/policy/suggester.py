"""The newest runs of each workflow that are over, and the ceilings that are suggested by them.

Nothing here grows without end: of each workflow the newest hundred runs that ended well are known,
and the newest hundred that a suggestion cut; of workflows the two hundred of which a run ended
last, where names that nothing is suggested for yet take no more than half of the room from others.
What is older than all that is known of a full kind is not taken in again. Cut ones that are older
than every run that ended well say nothing any more. What is suggested is worked out when a run
ends, never when one is judged.
"""

from __future__ import annotations

import math
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

_NO_ROOM: Final = f"runs of {WORKFLOWS_MOST} other workflows ended later: no more are known"

RunKey = tuple[str, float | None]
"""Session id and start."""


class PastRun(NamedTuple):
    """How one run ended."""

    workflow: str
    session_id: str
    started_at: float | None
    at: float
    """Unix time at which it ended, as far as that is known: always the same of one end."""
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
    """What is known of one workflow."""

    __slots__ = ("cut", "good", "limits", "newest_at")

    def __init__(self) -> None:
        self.good: dict[RunKey, PastRun] = {}
        self.cut: dict[RunKey, PastRun] = {}
        self.limits: Mapping[str, Number] = {}
        """What is suggested."""
        self.newest_at = -math.inf
        """When the newest of its runs ended."""

    def has_newer(self, at: float, *, ended_well: bool) -> bool:
        """Tell whether it is full of runs that ended no earlier than one that is not known."""
        kinds = (self.good,) if ended_well else (self.good, self.cut)
        return any(
            len(kind) >= RUNS_MOST and at <= min(one.at for one in kind.values()) for kind in kinds
        )

    def take(self, past_run: PastRun) -> list[PastRun]:
        """Take in a run; return those that are not known any more."""
        self.leave(past_run.key)
        kind = self.good if past_run.run.ended_well else self.cut
        kind[past_run.key] = past_run
        self.newest_at = max(self.newest_at, past_run.at)
        gone = []
        if len(kind) > RUNS_MOST:
            gone.append(kind.pop(min(kind, key=lambda key: kind[key].at)))
        if len(self.good) == RUNS_MOST:
            oldest = min(one.at for one in self.good.values())
            old = [key for key, one in self.cut.items() if one.at < oldest]
            gone += [self.cut.pop(key) for key in old]
        return gone

    def leave(self, key: RunKey) -> None:
        """Forget a run, if it is known."""
        self.good.pop(key, None)
        self.cut.pop(key, None)

    @property
    def past_runs(self) -> Iterator[PastRun]:
        """All runs."""
        yield from self.good.values()
        yield from self.cut.values()


class Suggester:
    """Takes in runs that are over, and gives the rules with what is suggested by them."""

    def __init__(self, past_runs: Iterable[PastRun] = ()) -> None:
        """Begin with what is known of runs that ended before, in any order."""
        self._workflows: dict[str, _Workflow] = {}
        self._base: Rules | None = None
        self._rules: Rules | None = None
        self._known: dict[RunKey, PastRun] = {}
        self.runs: Mapping[str, int] = {}
        """By workflow, how many runs that ended well are known, up to ``RUNS_MOST``."""
        self.limits: Mapping[str, Mapping[str, Number]] = {}
        """By workflow, the limits that are suggested, by resource."""
        self.changes: list[SuggestedChange] = []
        """What became of suggestions since they were last taken from here."""
        for past_run in sorted(past_runs, key=lambda one: one.at):
            self._note(past_run)

    def rules(self, base: Rules) -> Rules:
        """Return rules with what is suggested under them."""
        if base is not self._base or self._rules is None:
            self._base, self._rules = base, base
            self._work_out(self._workflows)
        return self._rules

    def take(self, past_runs: Iterable[PastRun]) -> list[PastRun]:
        """Take in runs that are over; return those that are not known any more.

        Only those that ended well, or that a suggestion cut, say anything.
        """
        gone: list[PastRun] = []
        touched: dict[str, None] = {}
        for past_run in past_runs:
            says_something = past_run.run.ended_well or past_run.run.cut
            if says_something and not self._is_outdated(past_run):
                gone += self._note(past_run)
                touched[past_run.workflow] = None
        self._work_out(touched)
        return gone

    def past_run(self, key: RunKey) -> PastRun | None:
        """Return how a run ended, as it was taken in; None if it was not, or is too long ago."""
        return self._known.get(key)

    def has_newer(self, workflow: str, at: float) -> bool:
        """Tell whether as many runs of a workflow as are known ended well after a moment."""
        known = self._workflows.get(workflow)
        return known is not None and known.has_newer(at, ended_well=True)

    @property
    def past_runs(self) -> list[PastRun]:
        """All that is known."""
        return list(self._known.values())

    def _is_outdated(self, past_run: PastRun) -> bool:
        """Tell whether a run had to make room for what ended later, or would at once.

        It is shown, and so judged, long after its end.
        """
        if past_run.key in self._known:
            return False
        workflow = self._workflows.get(past_run.workflow)
        if workflow is not None:
            return workflow.has_newer(past_run.at, ended_well=past_run.run.ended_well)
        if len(self._workflows) < WORKFLOWS_MOST:
            return False
        return past_run.at <= self._workflows[self._next_to_go()].newest_at

    def _next_to_go(self) -> str:
        """Return the workflow that makes room.

        Names that are made up, or another one for each run, leave half of the room to those that
        something can be suggested for.
        """
        new = [name for name, one in self._workflows.items() if len(one.good) < LEAST_RUNS]
        among = new if len(new) > WORKFLOWS_MOST // 2 else self._workflows
        return min(among, key=lambda name: self._workflows[name].newest_at)

    def _note(self, past_run: PastRun) -> list[PastRun]:
        before = self._known.get(past_run.key)
        if before is not None and before.workflow != past_run.workflow:
            self._workflows[before.workflow].leave(past_run.key)
        workflow = self._workflows.setdefault(past_run.workflow, _Workflow())
        self._known[past_run.key] = past_run
        gone = workflow.take(past_run)
        if len(self._workflows) > WORKFLOWS_MOST:
            gone += self._make_room()
        for one in gone:
            del self._known[one.key]
        return gone

    def _make_room(self) -> Iterator[PastRun]:
        """Forget a workflow; return its runs. Note what is not suggested any more."""
        name = self._next_to_go()
        gone = self._workflows.pop(name)
        for resource, limit in gone.limits.items():
            nothing = Suggestion(resource, 0, 0, {}, None, None, _NO_ROOM)
            self.changes.append(SuggestedChange(name, resource, limit, None, nothing))
        return gone.past_runs

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
        runs = [past_run.run for past_run in workflow.past_runs]
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
