"""A run that was told to stop waits until it may go on: it asks for more instead of ending.

What lets it go on is the verdict alone: a raise of its own limits, an order of an operator, a
top-up or a new window of a budget. What ends the wait without that: an operator's stop that is
given while it waits (a refusal), the timeout, and the end of the run. Any other stop is only one
more reason to wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.sdk import wait

if TYPE_CHECKING:
    from otel_budget.core.verdict import Verdict
    from otel_budget.sdk.lifecycle.run_controller import RunController


def wait_until_allowed(run: RunController, timeout: float | None) -> Verdict | None:
    """Block until the run may go on; return the verdict. None: it is over, or the time is.

    Raises BudgetExceeded if it is refused.
    """
    asking = _Asking(run, timeout)
    try:
        return wait.block(run.guard, asking.look)
    finally:
        asking.end()


async def wait_until_allowed_async(
    run: RunController,
    timeout: float | None,  # noqa: ASYNC109 - returns None then, like its blocking twin
) -> Verdict | None:
    """Do the same without blocking the event loop."""
    asking = _Asking(run, timeout)
    try:
        return await wait.block_async(run.guard, asking.look)
    finally:
        asking.end()


class _Asking:
    """One wait."""

    def __init__(self, run: RunController, timeout: float | None) -> None:
        self._run, self._guard, self._record = run, run.guard, run.record
        self._deadline = wait.Deadline(run.guard, run.record, timeout)
        self._waits = False

    def look(self) -> tuple[Verdict | None, float]:
        """Return the verdict if the run may go on, and the seconds until the next look; 0 when the
        wait is over. Raises BudgetExceeded with a refusal.
        """
        verdict = self._guard.reconsider(self._guard.progress)
        self._guard.told_to_stop = not verdict.should_continue
        if self._record.closed_at is not None:
            return None, 0.0
        if verdict.should_continue:
            return verdict, 0.0
        refusal = self._run.refusals.look(self._run.operators_stop())
        if refusal is not None:
            raise BudgetExceeded(refusal)
        pause = self._deadline.pause()
        if pause > 0 and not self._waits:
            self._waits = True
            self._record.begin_waiting()
            self._run.nudge()  # who may allow it is to see soon that it waits
            pause = min(pause, self._deadline.pause())  # its active time has stopped by now
        return None, pause

    def end(self) -> None:
        """Let the run be what it was."""
        if not self._waits:
            return
        self._record.end_waiting()
        self._guard.unpaused()
        self._run.nudge()
