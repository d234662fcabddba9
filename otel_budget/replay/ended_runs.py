"""The runs of a trace or a history that are over: what each used and how it ended, by workflow."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from otel_budget import semconv
from otel_budget.policy.bounds import bound
from otel_budget.policy.suggestion import (
    SUGGESTED,
    EndedRun,
    known_use,
    suggestion,
    workflow_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from otel_budget.core.quantities import Number
    from otel_budget.ledger.run import RunTotals
    from otel_budget.policy.suggestion import Suggestion
    from otel_budget.replay.trace import TraceLine

#: How a run ended that completed and did not do what it was for.
NOT_RESOLVED = "not_resolved"


class Cut(NamedTuple):
    """Runs that used at least a limit, or came to its warning line: by their use alone, whatever
    they would have done about it.
    """

    ended_well: int
    """Runs that ended well and used as much as the limit."""
    warned: int
    """Runs that ended well and came to the warning line; those before among them."""
    every: int
    """Runs that used as much as the limit, however they ended."""
    known: int
    """Runs of which the use is known, however they ended."""


class Group:
    """The runs of one workflow, or all."""

    def __init__(self) -> None:
        """Begin with no run."""
        self.runs: list[EndedRun] = []
        self.ends: Counter[str] = Counter()
        """State, or NOT_RESOLVED, to the runs that ended so."""

    @property
    def ended_well(self) -> int:
        """How many of them completed, and were not judged to have failed at what they were for."""
        return sum(run.ended_well for run in self.runs)

    def add(self, run: EndedRun, end: str) -> None:
        """Take a run."""
        self.runs.append(run)
        self.ends[end] += 1

    def suggest(
        self, resources: Iterable[str], thresholds: Mapping[str, float], default: float
    ) -> list[Suggestion]:
        """Return what is proposed for resources. default: the threshold of those without one."""
        return [suggestion(name, self.runs, thresholds.get(name, default)) for name in resources]

    def cut_by(self, resource: str, limit: Number, threshold: float) -> Cut:
        """Return which of them a limit would have cut."""
        used = [(run.used[resource], run.ended_well) for run in self.runs if resource in run.used]
        line = bound(resource, limit, threshold, SUGGESTED).warning_at
        return Cut(
            sum(well and amount >= limit for amount, well in used),
            sum(well and amount >= line for amount, well in used),
            sum(amount >= limit for amount, _ in used),
            len(used),
        )


class EndedRuns:
    """Takes runs that are over, as a replay tells of them."""

    def __init__(self, *, by_workflow: bool) -> None:
        """by_workflow: False puts all into one group, that of the empty name."""
        self._by_workflow = by_workflow
        self._known: dict[tuple[str, float | None], tuple[str, EndedRun, str]] = {}
        """Of a history, as a run may go on: its workflow, what it used, and its end."""
        self._groups: dict[str, Group] = {}

    def end(self, run: RunTotals, line: TraceLine) -> None:
        """Take a run of a trace, with the line that ends it."""
        ended = _ended(run, line.at, line.end, resolved=line.resolved)
        end = NOT_RESOLVED if line.resolved is False and ended.completed else line.end or ""
        self._group(run).add(ended.run, end)

    def note(self, changed: Sequence[RunTotals]) -> None:
        """Take runs of a history with something new in them."""
        for run in changed:
            key = run.session_id, run.started_at
            state = run.attributes.state
            if run.ended_at is None or state is None:
                self._known.pop(key, None)
                continue
            workflow = workflow_of(run.attributes) if self._by_workflow else ""
            self._known[key] = workflow, _ended(run, run.ended_at, state).run, state

    def groups(self) -> dict[str, Group]:
        """Return the runs by workflow, in the order of their names."""
        for workflow, run, state in self._known.values():
            self._groups.setdefault(workflow, Group()).add(run, state)
        self._known.clear()
        return dict(sorted(self._groups.items()))

    def _group(self, run: RunTotals) -> Group:
        workflow = workflow_of(run.attributes) if self._by_workflow else ""
        return self._groups.setdefault(workflow, Group())


class _Ended(NamedTuple):
    run: EndedRun
    completed: bool


def _ended(run: RunTotals, at: float, state: str | None, *, resolved: bool | None = None) -> _Ended:
    """Return what a run used that is over as of ``at``, as policy knows it."""
    used: dict[str, Number] = {semconv.DURATION: run.duration(at), **run.totals()}
    known, completed = known_use(used, run.uncertainty.at_least), state == semconv.COMPLETED
    return _Ended(EndedRun(known, completed and resolved is not False), completed)
