"""What a limit keeps and what it spends: shares of the good runs kept, and of the use left.

Pure arithmetic over what became of each run. Whether a run was stopped, and what it had used by
then, is the ledger's and the policy's to say.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from otel_budget import semconv
from otel_budget.core.resources import COUNTED, ZERO

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.quantities import Number


class Stop(NamedTuple):
    """The verdict that told a run to stop before its end."""

    at: float
    """Unix time, in seconds."""
    reason: str
    limit_from: str | None
    """Whose limit decided; None: nobody's."""


class Outcome(NamedTuple):
    """What became of one run under one policy."""

    session_id: str
    used: Mapping[str, Number]
    """Per counted resource, until it was stopped or its trace was over."""
    recorded: Mapping[str, Number]
    """The same of the whole trace: what was used without the policy."""
    resolved: bool | None = None
    """Whether the run did what it was for, by itself; None: not judged."""
    stop: Stop | None = None
    """None: it was never told to stop."""


class Point(NamedTuple):
    """What one policy did to all runs."""

    runs: int
    cut: int
    """Runs that were told to stop before their end."""
    cut_by: Mapping[str, int]
    """The same by reason, the most frequent first."""
    resolved: int
    """Runs that were resolved in the trace."""
    resolved_kept: int
    """Those of them that were not cut."""
    used: Mapping[str, Number]
    """Per counted resource, by all runs."""
    recorded: Mapping[str, Number]
    """The same without the policy."""

    @property
    def kept_share(self) -> float | None:
        """Resolved runs kept, of all that were resolved; None if no run was."""
        return self.resolved_kept / self.resolved if self.resolved else None

    @property
    def uncut_share(self) -> float | None:
        """Runs not cut, of all; None if there was no run."""
        return (self.runs - self.cut) / self.runs if self.runs else None

    @property
    def spent_shares(self) -> Mapping[str, float]:
        """Per counted resource, use of what would have been used; absent where nothing was."""
        return {
            name: float(self.used[name]) / float(amount)
            for name, amount in self.recorded.items()
            if amount
        }


class Curve(NamedTuple):
    """One policy at each of several limits."""

    name: str
    """The policy's: its configuration file."""
    resource: str
    """What is limited."""
    points: tuple[tuple[Number, Point], ...]
    """Each limit, ascending, with what it did to the same runs."""

    @property
    def spent_in(self) -> str:
        """The resource in which spending is shown: the limited one, or tokens if that is a time."""
        return self.resource if self.resource in COUNTED else semconv.TOKENS


class Tally:
    """Adds up the runs of one policy, in any order; it holds sums, not runs."""

    def __init__(self) -> None:
        """Begin with no run."""
        self._runs = self._resolved = self._kept = 0
        self._cut_by: Counter[str] = Counter()
        self._used: dict[str, Number] = {}
        self._recorded: dict[str, Number] = {}

    def add(self, outcome: Outcome) -> None:
        """Take one run."""
        self._runs += 1
        if outcome.stop is not None:
            self._cut_by[outcome.stop.reason] += 1
        if outcome.resolved:
            self._resolved += 1
            self._kept += outcome.stop is None
        _add(self._used, outcome.used)
        _add(self._recorded, outcome.recorded)

    def point(self) -> Point:
        """Return what came of all runs so far."""
        frequent_first = sorted(self._cut_by.items(), key=lambda item: (-item[1], item[0]))
        return Point(
            self._runs, self._cut_by.total(), dict(frequent_first), self._resolved, self._kept,
            {name: self._used.get(name, ZERO[name]) for name in self._recorded},
            dict(self._recorded),
        )  # fmt: skip


def _add(sums: dict[str, Number], amounts: Mapping[str, Number]) -> None:
    for name in COUNTED:
        if name in amounts:
            sums[name] = sums.get(name, ZERO[name]) + amounts[name]  # type: ignore[operator] # of one type each
