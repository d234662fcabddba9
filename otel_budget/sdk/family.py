"""Runs of one process that belong together: a run's limits hold for all below it, at once.

What a descendant counts is added to every run above it as soon as it is counted, beside what that
counts itself: it is in no counter that is exported, and in no checkpoint. A run that stops wakes
those below it, which then stop, too. Across processes the sidecar does both.

A run without a parent and without children has no family, and pays nothing for one.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Final

from otel_budget.core.reasons import Reason
from otel_budget.core.resources import TIMES
from otel_budget.logs.logger import logger
from otel_budget.policy.families import NOTHING_ABOVE, Above
from otel_budget.runtime.fork import in_child
from otel_budget.sdk.below import Below, counts_of
from otel_budget.sdk.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from otel_budget.core.quantities import Number
    from otel_budget.sdk import phases
    from otel_budget.sdk.guard import Guard
    from otel_budget.sdk.lifecycle.run_controller import RunController
    from otel_budget.sdk.phases import Holds
    from otel_budget.sdk.usage_arguments import OperationUsage

#: The newest run of each session id that a monitor of this process has.
_RUNS: Final[weakref.WeakValueDictionary[str, RunController]] = weakref.WeakValueDictionary()


class _Lock:
    """Guards who is below whom; a new one in a forked child."""

    held = threading.RLock()


def _free_lock() -> None:
    _Lock.held = threading.RLock()


in_child(_free_lock)


class Family:
    """A run's place among those of its process."""

    def __init__(self, run: RunController, parent: Family | None) -> None:
        """Begin without children. parent: that of the run it is a child of."""
        self.run, self.parent = run, parent
        self._children: weakref.WeakSet[Family] = weakref.WeakSet()
        self._given = Below()

    @property
    def guard(self) -> Guard:
        """The guard of the run, which is another one in a forked child."""
        return self.run.guard

    def add_child(self, child: Family) -> None:
        """Have a run be below this one."""
        with _Lock.held:
            self._children.add(child)
            if self.run.record.below is None:
                self.run.record.below = Below()
        self.guard.family = self

    def ancestors(self) -> Iterator[Family]:
        """Yield those above it, the nearest first."""
        family = self.parent
        while family is not None:
            yield family
            family = family.parent

    def pass_on(self) -> None:
        """Add what the run has counted since the last time to every run above it."""
        self.run.record.exclusively(self._pass_on)
        for family in self.ancestors():
            family.guard.check_below()

    def _pass_on(self) -> None:
        now = counts_of(self.run.record)
        more = now.less(self._given)
        if more:
            self._given = now
            for family in self.ancestors():
                family.guard.add_below(more)

    def above(self) -> Above:
        """Return what holds for the run because of those above it, as they were looked at last."""
        for family in self.ancestors():
            stop = family.guard.standing
            if stop is None:
                continue
            if stop.reason != Reason.PARENT_STOPPED:
                return Above(stop.session_id, stop.message)
            if family.parent is None:  # by one of another process
                return Above(stop.stopped_by or stop.session_id, stop.message)
        return NOTHING_ABOVE

    def left_above(self) -> dict[str, Number]:
        """Return per counted resource the least that is left of the limits of those above it."""
        least: dict[str, Number] = {}
        for family in self.ancestors():
            for name, left in family.guard.left().items():
                if name not in TIMES:
                    least[name] = min(left, least.get(name, left))
        return least

    def look_above(self) -> None:
        """Look at those above it, if time alone may have changed what holds for them."""
        if self.parent is not None and self.parent.guard.is_due():
            guard = self.parent.guard
            guard.reconsider(guard.progress)

    def change_above_at(self) -> float | None:
        """Return when the passing of time alone may change what holds above it, by the clock."""
        return None if self.parent is None else self.parent.guard.next_change_at()

    def wake_children(self) -> None:
        """Have those below it look again: it may be stopped, or not be any more."""
        with _Lock.held:
            children = tuple(self._children)
        for child in children:
            if child.run.record.closed_at is None:
                child.guard.reconsider(child.guard.progress)
            else:  # it has nothing to hear any more; those below it may
                child.wake_children()


class DescendantRecorder(Recorder):
    """Counts what a run uses that is below another one of its process."""

    def add_tokens(self, tokens: int, api_call: bool) -> None:  # noqa: FBT001 - as of what it is in place of
        """Count a call in the usual way, and for all above the run."""
        super().add_tokens(tokens, api_call)
        self._pass_on()

    def add(
        self,
        usage: OperationUsage,
        model: str | None,
        provider: str | None,
        phase: phases.Phase | None = None,
    ) -> tuple[OperationUsage, Decimal | None]:
        """Count an operation, and for all above the run."""
        counted = super().add(usage, model, provider, phase)
        self._pass_on()
        return counted

    def settle(self, hold: Holds, tokens: int, api_call: bool, cost: Decimal | None) -> None:  # noqa: FBT001 - as above
        """Have it hold so much less once it has been counted for all above the run."""
        self._pass_on()
        super().settle(hold, tokens, api_call, cost)

    def _pass_on(self) -> None:
        family = self._run.family
        if family is not None:
            family.pass_on()


def join(run: RunController, parent: str | None) -> type[Recorder]:
    """Take a run into the families of this process; return what counts for it.

    parent: session id of the run that it is below; one of another process is the sidecar's affair.
    """
    session_id = run.record.session_id
    above = None if parent is None else _RUNS.get(parent)
    _RUNS[session_id] = run
    if above is None:
        return Recorder
    if above.record.closed_at is not None:
        logger.warning("run %r: its parent %r is over: no limit of it holds", session_id, parent)
        return Recorder
    place = above.family
    if not isinstance(place, Family):
        place = above.family = Family(above, None)
    lineage = [place, *place.ancestors()]
    if any(each.run.record.session_id == session_id for each in lineage):
        logger.warning(
            "run %r: it would be its own descendant: its parent %r is ignored", session_id, parent
        )
        return Recorder
    own = run.family = run.guard.family = Family(run, place)
    place.add_child(own)
    run.room.join(above.room)
    own.pass_on()  # what it brings along from a checkpoint
    return DescendantRecorder
