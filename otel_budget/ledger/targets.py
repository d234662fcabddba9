"""What is known of targets: which there are, which have a problem, and what that says of a run.

A run that was live, and whose target was taken away while it answered, or answers and does not show
it any more, has vanished: it is not waited for, and what it used stays known. It is there again
with its next sample. One whose target gives nothing is missed: its process may have died. And so is
one whose process still follows its verdict: it lives, and is not seen.

Where nobody listens any more its process has ended for certain (``Observation.left``), if the
source can tell. Such a run has vanished, too, also if its verdict is followed. No more comes of it,
so its silence is none and its duration stands still, until another process takes it up.

No reading says that a run is gone that was pushed: it shows what it pushed until it pushes again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget.core.observation import is_pushed, plain_target
from otel_budget.core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_budget.core.observation import Observation
    from otel_budget.ledger.run import RunTotals

#: Seconds within which a target that gives nothing is taken away if its process ended in order: a
#: Prometheus takes some to hear of it.
_LEFT = 30.0


class Targets:
    """What targets there were at the last whole reading, and which of them have a problem."""

    def __init__(self) -> None:
        """Begin without a reading."""
        self.readings = 0
        """Those so far that know all targets."""
        self.vanished: list[str] = []
        """Session id of each run that was found to have vanished."""
        self.is_followed: Callable[[str], bool] = lambda _session_id: False
        """Tells whether a client follows the verdict on a run, as its own process does."""
        self.trouble: dict[str, Reason] = {}
        """Target to the problem it has; empty for the source as a whole."""
        self._targets: frozenset[str] | None = None
        self._down: frozenset[str] = frozenset()
        self._pending: frozenset[str] = frozenset()
        self._left: frozenset[str] = frozenset()

    def note(self, reading: Observation) -> None:
        """Take note of a reading; one of some targets alone says nothing of the others."""
        trouble = {p.target: p.reason for p in reading.problems}
        if reading.asked is not None:
            others = {t: reason for t, reason in self.trouble.items() if t not in reading.asked}
            self.trouble = {**others, **trouble}
            self._left = (self._left - reading.asked) | reading.left
            return
        self.trouble = trouble
        self.readings += reading.targets is not None
        self._targets, self._down = reading.targets, reading.down
        self._pending, self._left = reading.pending, reading.left

    def is_down(self, target: str) -> bool:
        """Tell whether a target gave nothing at the last whole reading, or was taken away."""
        if is_pushed(target):
            return False
        place = plain_target(target)
        return place in self._down or (self._targets is not None and place not in self._targets)

    def trouble_of_run(self, run: RunTotals) -> Reason | None:
        """Return the trouble of a run if all targets of its newest process have one."""
        if run.lacking:
            return Reason.PARTIAL_DATA
        if not self.trouble:
            return None
        troubles = [self.trouble_at(target) for target in run.targets]
        if not troubles or None in troubles:
            return None
        return min(t for t in troubles if t is not None)

    def gives_nothing(self, run: RunTotals) -> bool:
        """Tell whether all targets of a run give nothing."""
        return all(
            self._own_trouble(target) is Reason.SOURCE_ERROR or self.is_down(target)
            for target in run.targets
        )

    def trouble_at(self, target: str) -> Reason | None:
        """Return the trouble at a target, its own or that of the source as a whole."""
        own = self._own_trouble(target)
        return own if own is not None or is_pushed(target) else self.trouble.get("")

    def _own_trouble(self, target: str) -> Reason | None:
        """Return the trouble that a target has by itself."""
        return self.trouble.get(target) or self.trouble.get(plain_target(target))

    def seen(self, run: RunTotals) -> None:
        """Take note that the present reading shows a run."""
        run.shown_in = self.readings
        if run.lost_target_at is not None or run.vanished_at is not None:
            run.lost_target_at = run.vanished_at = None
            run.has_left = False
            run.revision += 1

    def has_gone_idle(self, run: RunTotals, silent_for: float, now: float) -> bool:
        """Tell whether a run that pushes only what it has used just now is taken to be gone.

        Not while a client follows its verdict. silent_for: watched seconds without a word of it.
        """
        idle_after = run.attributes.idle_after
        if idle_after is None or self.is_followed(run.session_id):
            return False
        if run.vanished_at is None:
            if silent_for <= idle_after:
                return False
            run.vanished_at = now
            run.revision += 1
            self.vanished.append(run.session_id)
        return True

    def has_left(self, run: RunTotals, now: float) -> bool:
        """Tell whether the process of a run has ended for certain, and none took its place."""
        if run.has_left or not self._left or run.ended_at is not None or run.pushed:
            return run.has_left
        places = {plain_target(target) for target in run.targets}
        if not places or not places <= self._left:
            return False
        if run.vanished_at is None:
            self.vanished.append(run.session_id)
        run.has_left, run.vanished_at = True, now
        run.revision += 1
        return True

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
        if run.ended_at is not None or self._targets is None or run.pushed:
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
