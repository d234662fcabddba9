"""What the runs of each owner used, by one label: for people, of the runs that are known now.

Nothing is decided by it: budgets have books of their own, which keep what forgotten runs used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otel_budget import semconv
from otel_budget.core.resources import COUNTED, ZERO
from otel_budget.ledger.scopes import effective_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.ledger.run import RunTotals


class OwnerUse(NamedTuple):
    """What the runs with one value of a label used."""

    value: str
    """Empty: they have none."""
    runs: int
    over: int
    """Of them, those that said that they are over."""
    stopped: int
    """Of the others, those that were told to stop."""
    used: Mapping[str, Number]
    """Per counted resource; absent if no run says it."""
    at_least: frozenset[str]
    """Resources of which a part is not known."""


class _Sum:
    """The same, while it is added up."""

    __slots__ = ("at_least", "over", "runs", "said", "stopped", "used")

    def __init__(self) -> None:
        self.runs = self.over = self.stopped = 0
        self.used: dict[str, Number] = {}
        self.said: dict[str, int] = {}
        self.at_least: frozenset[str] = frozenset()

    def add(self, run: RunTotals, *, stopped: bool) -> None:
        self.runs += 1
        self.over += run.ended_at is not None
        self.stopped += stopped and run.ended_at is None
        for resource, used in run.totals().items():
            so_far = self.used.get(resource, ZERO[resource])
            self.used[resource] = so_far + used  # type: ignore[operator] # both are of one resource
            self.said[resource] = self.said.get(resource, 0) + 1
        self.at_least |= run.uncertainty.at_least

    def value(self, value: str) -> OwnerUse:
        some = {name for name, said in self.said.items() if said < self.runs}
        used = {name: self.used[name] for name in COUNTED if name in self.used}
        at_least = self.at_least.union(some)
        return OwnerUse(value, self.runs, self.over, self.stopped, used, at_least)


def use_by(
    label: str,
    runs: Iterable[RunTotals],
    ancestors: Callable[[str], Iterable[RunTotals]],
    stopped: Container[str],
) -> list[OwnerUse]:
    """Return what the runs of each value of a label used: who used most tokens first.

    A run without the label has that of its nearest ancestor with one. ancestors: returns those of a
    run, by its session id, the nearest first. stopped: ids of runs that were told to stop.
    """
    sums: dict[str, _Sum] = {}
    for run in runs:
        value = (run.attributes.labels or {}).get(label)
        if not value:
            above = [each.attributes.labels or {} for each in ancestors(run.session_id)]
            value = effective_labels([{}, *above])[0].get(label, "")
        found = sums.get(value)
        if found is None:
            found = sums[value] = _Sum()
        found.add(run, stopped=run.session_id in stopped)
    uses = [found.value(value) for value, found in sums.items()]
    return sorted(uses, key=lambda use: (-use.used.get(semconv.TOKENS, 0), -use.runs, use.value))
