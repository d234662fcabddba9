"""Whether a run is still there: what its target tells when it shows the run no more.

A run that was live, and whose target was taken away while it answered, or answers and does not show
it any more, has vanished: nobody waits for it, and what it used stays known. It is there again with
its next sample. One whose target gives nothing is missed: its process may have died. And so is one
whose process still follows its verdict: it lives, and is not seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget.core.observation import plain_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_budget.core.observation import Observation
    from otel_budget.core.verdict import Reason
    from otel_budget.ledger.run import RunTotals

#: Seconds within which a target that gives nothing is taken away if its process ended in order: a
#: Prometheus takes some to hear of it.
_LEFT = 30.0


class Whereabouts:
    """What targets there were at the last whole reading."""

    def __init__(self) -> None:
        """Begin without a reading."""
        self.readings = 0
        """Those so far that know all targets."""
        self.vanished: list[str] = []
        """Session id of each run that was found to have vanished."""
        self.is_followed: Callable[[str], bool] = lambda _session_id: False
        """Tells whether somebody follows the verdict on a run, as its own process does."""
        self._targets: frozenset[str] | None = None
        self._down: frozenset[str] = frozenset()
        self._pending: frozenset[str] = frozenset()

    def note(self, reading: Observation) -> None:
        """Take note of a whole reading."""
        self.readings += reading.targets is not None
        self._targets, self._down = reading.targets, reading.down
        self._pending = reading.pending

    def is_down(self, target: str) -> bool:
        """Tell whether a target gave nothing at the last whole reading, or was taken away."""
        place = plain_target(target)
        return place in self._down or (self._targets is not None and place not in self._targets)

    def seen(self, run: RunTotals) -> None:
        """Take note that the present reading shows a run."""
        run.shown_in = self.readings
        if run.lost_target_at is not None or run.vanished_at is not None:
            run.lost_target_at = run.vanished_at = None
            run.revision += 1

    def has_vanished(self, run: RunTotals, trouble: Reason | None, now: float) -> bool:
        """Tell whether a run that the last reading did not show is not there any more.

        Not if its target gives nothing, or has not answered yet, nor if that was taken away long
        after: then its process died.
        """
        if run.vanished_at is not None:
            if not self.is_followed(run.session_id):
                return True
            run.vanished_at = None
            run.revision += 1
        if run.ended_at is not None or self._targets is None:
            return False
        places = {plain_target(target) for target in run.targets}
        if trouble is not None or not places.isdisjoint(self._down):
            if run.lost_target_at is None:
                run.lost_target_at = now
            return False
        lost_at = run.lost_target_at
        died = lost_at is not None and now - lost_at > _LEFT and places.isdisjoint(self._targets)
        if died or not places.isdisjoint(self._pending):
            return False
        if self.is_followed(run.session_id):
            return False
        run.vanished_at = now
        run.revision += 1
        self.vanished.append(run.session_id)
        return True
