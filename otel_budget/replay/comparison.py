"""One trace under two configurations: what each does to the same runs.

The lines are read once; each configuration has a replay of its own, so none knows of the other.
"""

from __future__ import annotations

from itertools import starmap
from typing import TYPE_CHECKING, NamedTuple

from otel_budget.replay.engine import Replay
from otel_budget.replay.frontier import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from otel_budget.policy.verdicts import Rules
    from otel_budget.replay.changes import Found
    from otel_budget.replay.summary import Summary
    from otel_budget.replay.trace import TraceLine


class Policy(NamedTuple):
    """What is tried."""

    name: str
    """Its configuration file."""
    rules: Rules


class Pair(NamedTuple):
    """What became of one run under the first policy and under the other."""

    first: Outcome
    other: Outcome

    @property
    def distance(self) -> int:
        """Return 2 if only one of them stops it, 1 if both do but not alike, else 0."""
        if (self.first.stop is None) is not (self.other.stop is None):
            return 2
        return int(self.first.stop != self.other.stop)


class Comparison:
    """Two policies on the same lines."""

    def __init__(
        self,
        policies: Sequence[Policy],
        *,
        keep_going: bool = False,
        forecast_at: Sequence[float] = (),
    ) -> None:
        """Begin before the first line. The rest is as for ``Replay``."""
        self.policies = tuple(policies)
        self._outcomes: list[list[Outcome]] = [[] for _ in policies]
        self.replays = tuple(
            Replay(policy.rules, keep_going=keep_going, forecast_at=forecast_at,
                   on_outcome=outcomes.append)
            for policy, outcomes in zip(policies, self._outcomes, strict=True)
        )  # fmt: skip

    @property
    def open_runs(self) -> tuple[str, ...]:
        """Session ids of the runs that began and did not end."""
        return self.replays[0].open_runs

    def take(self, line: TraceLine) -> Iterator[tuple[str, Found]]:
        """Take the next line; yield what is new, with the name of its policy.

        Raises as ``Replay.take``.
        """
        for policy, replay in zip(self.policies, self.replays, strict=True):
            for found in replay.take(line):
                yield policy.name, found

    def finish(self) -> tuple[tuple[Summary, ...], list[Pair]]:
        """Return what came of each policy, and the runs, when nothing more comes."""
        summaries = tuple(replay.finish() for replay in self.replays)
        return summaries, pairs(*self._outcomes)


def pairs(first: Iterable[Outcome], other: Iterable[Outcome]) -> list[Pair]:
    """Return what two policies did to each run, those first that they treat most differently.

    Both in the order in which the runs of one trace were over.
    """
    return sorted(starmap(Pair, zip(first, other, strict=True)), key=lambda p: -p.distance)
