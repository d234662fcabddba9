"""One trace under each of a range of limits.

The lines are read once; each limit of each policy has a replay of its own: none knows of another.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from otel_budget.core.limits import DEFAULT_THRESHOLD
from otel_budget.core.resources import RESOURCES
from otel_budget.policy.bounds import bound
from otel_budget.replay.engine import Replay
from otel_budget.replay.frontier import Curve, Point

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_budget.core.quantities import Number
    from otel_budget.policy.verdicts import Rules
    from otel_budget.replay.comparison import Policy
    from otel_budget.replay.limit_range import LimitRange
    from otel_budget.replay.trace import TraceLine

#: Whose a limit that is tried is: it stands where that of the sidecar's file would.
_ORIGIN: Final = "sidecar"


class Sweep:
    """Each limit of a range, in the place of the one that the policies have."""

    def __init__(self, policies: Sequence[Policy], swept: LimitRange) -> None:
        """Begin before the first line."""
        self._swept = swept
        self._replays = [
            (policy.name, [Replay(with_limit(policy.rules, swept.resource, limit))
                           for limit in swept.limits])
            for policy in policies
        ]  # fmt: skip
        self.limited_themselves = 0
        """Runs so far that have a limit of their own on the resource: the stricter one holds."""

    @property
    def open_runs(self) -> tuple[str, ...]:
        """Session ids of the runs that began and did not end."""
        return self._replays[0][1][0].open_runs

    def take(self, line: TraceLine) -> None:
        """Take the next line. Raises as ``Replay.take``."""
        if line.start and line.limits is not None:
            own = RESOURCES[self._swept.resource].limit_of(line.limits)
            self.limited_themselves += own is not None
        for _, replays in self._replays:
            for each in replays:
                each.take(line)

    def finish(self) -> tuple[Curve, ...]:
        """Return what each limit kept and spent, for each policy, when nothing more comes."""
        limits, resource = self._swept.limits, self._swept.resource
        return tuple(
            Curve(name, resource, tuple(zip(limits, _points(replays), strict=True)))
            for name, replays in self._replays
        )


def with_limit(rules: Rules, resource: str, limit: Number) -> Rules:
    """Return the rules with this limit for every run; a run's own holds beside it, as ever."""
    threshold = rules.thresholds.get(resource, DEFAULT_THRESHOLD)
    ceiling = bound(resource, limit, threshold, _ORIGIN)
    return replace(rules, ceilings={**rules.ceilings, resource: ceiling})


def _points(replays: Sequence[Replay]) -> list[Point]:
    return [each.finish().point for each in replays]
