"""A monitor that a forked child inherited: its run is the parent's, and stays there.

The child goes on by the limits and counts it found, but shows, saves and ends nothing: a second
process that said how the same run stands would only contradict the first.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from otel_budget.logs.logger import logger
from otel_budget.runtime.fork import in_child
from otel_budget.sdk.checkpoints.run_checkpoints import RunCheckpoints
from otel_budget.sdk.guard import Guard
from otel_budget.sdk.lifecycle.run_controller import RunController

if TYPE_CHECKING:
    from pathlib import Path


class HoldsRun(Protocol):
    """What takes part in a run, and must not in a forked child."""

    def leave_to_parent(self) -> None:
        """Take no part in the run any more: this is a forked child."""


_holders: weakref.WeakSet[HoldsRun] = weakref.WeakSet()


def watch(holder: HoldsRun) -> None:
    """Have it leave its run to the parent in every forked child."""
    _holders.add(holder)


class InheritedRun(RunController):
    """Takes part in none of what a run shows to the world."""

    def cut_off(self) -> None:
        """Begin in the child, where no lock is to be trusted and no thread is left."""
        self.record.lock = threading.RLock()
        # Another thread may have been adding when the process was forked.
        self.record.rebuild_totals()
        self.record.nobody_waits()
        self._warned = False
        self._client = self._lease = self.engagement = self._span_context = self.span = None
        if self._verdict_callback is not None:
            self._verdict_callback = self._verdict_callback.for_child()
        before = self.guard
        self.guard = Guard(
            self.record,
            self.record.clock,
            lease=None,
            stop_without_sidecar=False,
            on_status=self._status_changed,
            on_change=self._verdict_changed,
            nudge=lambda: None,
        )
        self.guard.family = self.family
        self.room.forget()
        self.guard.withdrawn, self.guard.told_to_stop = before.withdrawn, before.told_to_stop
        state, self.checkpoints = (
            self.checkpoints.state,
            _NoCheckpoints(self.record, None, self._event),
        )
        self.checkpoints.state = state

    def begin(self) -> None:
        """Say, once, that this is the wrong process. Starts nothing."""
        if self._warned:
            return
        self._warned = True
        logger.warning(
            "run %r: this run belongs to process %s; what is recorded here, in a process "
            "forked from it, is in no metric and no checkpoint: make a new monitor in the child",
            self.record.session_id, self._process,
        )  # fmt: skip

    def enter(self) -> None:
        """Open no span: the run has one."""
        self.begin()

    def close(
        self,
        outcome: str,
        timeout: float = 0.0,  # noqa: ARG002 - it is not scraped here
        *,
        orderly: bool = True,  # noqa: ARG002 - and it saves nothing
    ) -> None:
        """End the run for this process alone."""
        if self.record.close(outcome):
            self.guard.ended()

    def leave(self, exc: BaseException | None) -> None:
        """Leave the span to the parent."""


class _NoCheckpoints(RunCheckpoints):
    def begin(self) -> None:
        """Write nothing now and then."""

    def checkpoint(self, state: Any = None) -> Path | None:
        """Write nothing: the newest checkpoint is the parent's."""
        if state is not None:
            self.keep_state(state)
        logger.error(
            "run %r: no checkpoint was written: the run belongs to the process this one was "
            "forked from", self._record.session_id,
        )  # fmt: skip
        return None


def _leave_all_to_parent() -> None:
    for holder in list(_holders):
        holder.leave_to_parent()


in_child(_leave_all_to_parent)
