"""What came of a replay as a whole: sums over runs, each of them forgotten once it is over."""

from __future__ import annotations

import math
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_budget.core.resources import COUNTED, ZERO
from otel_budget.core.verdict import LimitStatus
from otel_budget.replay import budget_use
from otel_budget.replay.frontier import Tally
from otel_budget.replay.json_numbers import numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import Verdict
    from otel_budget.replay.budget_use import BudgetUse
    from otel_budget.replay.frontier import Outcome, Point, Stop


_NONE: Final[Mapping[str, Mapping[str, int]]] = MappingProxyType({})


class Summary(NamedTuple):
    """All runs of a replay."""

    point: Point
    """What the policy did to them: use, stops before the end, resolved runs kept."""
    open_runs: int
    """Those of them of which the end is not known."""
    stopped: int
    """Those that were told to stop and never to go on again; also with their last line."""
    stopped_by: Mapping[str, Mapping[str, int]]
    """The same by ``reason``, ``limit_from`` and ``resource``, the most frequent first; a run may
    have been stopped by several resources."""
    judged: int
    """Runs of which it is known whether they were resolved."""
    overshoot: Mapping[str, Number]
    """Per counted resource, what was used after a stop: counted where it was kept going, else it is
    what the stops saved."""
    unknown_usage_calls: int
    unpriced_calls: int
    began_at: float | None
    """Unix time of the first tick, in seconds; None if there was none."""
    ended_at: float | None
    """The same of the last one."""
    ticks: int
    changes: int
    """Verdicts that were given."""
    inconclusive: int
    """Those of them for want of good data."""
    dropped: Mapping[str, int]
    """Reason to samples of a history that were refused."""
    revision: str
    """Names the policy."""
    would_stop: Mapping[str, Mapping[str, int]] = _NONE
    """By ``reason`` and ``limit_from``, runs that would have been told to stop if nothing were in
    shadow, as of the first such verdict on each."""
    budgets: tuple[BudgetUse, ...] = ()
    """What was used of each shared budget, by name."""


class Counts:
    """Adds it up."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.open_runs = self._stopped = self._judged = self._inconclusive = self._changes = 0
        self._ticks = self._unknown = self._unpriced = 0
        self._began_at, self._ended_at = math.inf, -math.inf
        self._by: dict[str, Counter[str]] = {}
        self._would: dict[str, Counter[str]] = {}
        self._overshoot: dict[str, Number] = {}
        self._tally = Tally()

    def tick(self, now: float) -> None:
        """Take note of a tick."""
        self._ticks += 1
        self._began_at, self._ended_at = min(self._began_at, now), max(self._ended_at, now)

    def change(self, verdict: Verdict) -> None:
        """Take note of a verdict that was given."""
        self._changes += 1
        self._inconclusive += verdict.status is LimitStatus.INCONCLUSIVE

    def unsure(self, unknown_usage_calls: int, unpriced_calls: int) -> None:
        """Take note of calls of which something is unknown."""
        self._unknown += unknown_usage_calls
        self._unpriced += unpriced_calls

    def run(
        self,
        outcome: Outcome,
        stop: Stop | None,
        resources: Iterable[str],
        late: Mapping[str, Number],
    ) -> None:
        """Take a run that is over.

        stop: the verdict in force that told it to stop, also with its last line. resources: those
        that this came from. late: what it used after it.
        """
        self._tally.add(outcome)
        self._judged += outcome.resolved is not None
        for name in COUNTED:
            if name in late:
                self._overshoot[name] = self._overshoot.get(name, ZERO[name]) + late[name]  # type: ignore[operator] # of one type
        if stop is None:
            return
        self._stopped += 1
        for key, names in (*_why(stop), ("resource", resources)):
            self._by.setdefault(key, Counter()).update(names)

    def would_stop(self, stop: Stop) -> None:
        """Take a run that would have been told to stop."""
        for key, names in _why(stop):
            self._would.setdefault(key, Counter()).update(names)

    def summary(
        self, dropped: Mapping[str, int], revision: str, budgets: tuple[BudgetUse, ...] = ()
    ) -> Summary:
        """Return all of it. dropped, budgets: as in Summary."""
        by, would = (
            {key: dict(counter.most_common()) for key, counter in counted.items()}
            for counted in (self._by, self._would)
        )
        began = None if self._began_at == math.inf else self._began_at
        return Summary(
            self._tally.point(), self.open_runs, self._stopped, by, self._judged,
            dict(self._overshoot), self._unknown, self._unpriced, began,
            None if began is None else self._ended_at, self._ticks, self._changes,
            self._inconclusive, dict(dropped), revision, would, budgets,
        )  # fmt: skip


def _why(stop: Stop) -> tuple[tuple[str, tuple[str, ...]], ...]:
    origin = "none" if stop.limit_from is None else stop.limit_from
    return ("reason", (stop.reason,)), ("limit_from", (origin,))


def as_json(summary: Summary, *, keep_going: bool) -> dict[str, Any]:
    """Return a summary as JSON types; money is a number."""
    point = summary.point
    saved = {name: point.recorded[name] - point.used[name] for name in point.recorded}  # type: ignore[operator] # of one type
    overshoot = summary.overshoot if keep_going else {}
    return {
        "runs": point.runs,
        "open": summary.open_runs,
        "stopped": summary.stopped,
        "stopped_by": {key: dict(counts) for key, counts in summary.stopped_by.items()},
        "cut": point.cut,
        "resolved": {
            "judged": summary.judged,
            "resolved": point.resolved,
            "kept": point.resolved_kept,
            "cut": point.resolved - point.resolved_kept,
        },
        "keep_going": keep_going,
        "used": numbers(point.used),
        "recorded": numbers(point.recorded),
        "saved": numbers(saved),
        "overshoot": numbers({name: overshoot.get(name, ZERO[name]) for name in point.used}),
        "unknown_usage_calls": summary.unknown_usage_calls,
        "unpriced_calls": summary.unpriced_calls,
        "from": summary.began_at,
        "to": summary.ended_at,
        "ticks": summary.ticks,
        "changes": summary.changes,
        "inconclusive": summary.inconclusive,
        "dropped": dict(summary.dropped),
        "policy_revision": summary.revision,
        **_shared_as_json(summary),
    }


def _shared_as_json(summary: Summary) -> dict[str, Any]:
    """Return what there is to say of shared budgets, and of what is in shadow."""
    data: dict[str, Any] = {}
    if summary.would_stop:
        data["would_stop"] = {key: dict(counts) for key, counts in summary.would_stop.items()}
    if summary.budgets:
        stopped, would = (
            by.get("limit_from", {}) for by in (summary.stopped_by, summary.would_stop)
        )
        data["budgets"] = [budget_use.as_json(each, stopped, would) for each in summary.budgets]
    return data
