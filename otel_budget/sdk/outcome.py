"""Run a coroutine until its run is stopped, and say what came of it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from otel_budget.core import validation
from otel_budget.core.exceeded import BudgetExceeded

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable

    from otel_budget.core.verdict import Verdict

T = TypeVar("T")


class Stoppable(Protocol):
    """A monitor, as it is needed here."""

    @property
    def session_id(self) -> str:
        """Names the run."""

    @property
    def state(self) -> Any:
        """What the run kept for its checkpoints."""

    @property
    def verdict(self) -> Verdict:
        """The verdict as of now."""

    async def wait_for_stop_async(self) -> Verdict | None:
        """Wait until the run must stop; None when it ends first."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What came of a coroutine that ran under a budget."""

    outcome: str
    """``completed``, or ``stopped`` if its run was told to stop before it ended."""
    value: T | None
    """What it returned, also where it was cancelled and returned what it had; None if nothing."""
    finished: object
    """What was finished when it was stopped: the value it returned all the same, else what the
    adapter that refused a call knows of (``BudgetExceeded.finished``), else the monitor's state."""
    verdict: Verdict
    """The verdict at its end, or that it was stopped by."""
    cut_short: bool = False
    """True if it was cancelled, or one of its calls was refused and it did not go on."""


async def run_until_stopped(
    monitor: Stoppable, work: Awaitable[T], cancel_after: float | None
) -> Outcome[T]:
    """Wait for an awaitable; cancel it when its run is told to stop, and return what came of it.

    cancel_after: seconds that it has to end by itself once its run is told to stop; None: it is not
    cancelled. What it raises comes out, but for a BudgetExceeded. Cancelled itself, it cancels the
    awaitable and waits for its end.
    """
    import asyncio  # callers of this have it loaded; for all others it takes its time

    try:
        if cancel_after is not None:
            validation.seconds("cancel_after", cancel_after)
    except ValueError:
        if inspect.iscoroutine(work):
            work.close()  # it never begins
        raise
    task = asyncio.ensure_future(work)
    try:
        stop, cancelled = await _watch(monitor, task, cancel_after)
    except BaseException:
        task.cancel()
        await asyncio.wait({task})
        raise
    if task.cancelled():
        if stop is None:
            raise asyncio.CancelledError
        return Outcome("stopped", None, monitor.state, stop, cut_short=True)
    error = task.exception()
    if isinstance(error, BudgetExceeded):
        finished = monitor.state if error.finished is None else error.finished
        return Outcome("stopped", None, finished, error.verdict, cut_short=True)
    if error is not None:
        raise error
    value = task.result()
    if stop is not None:
        finished = monitor.state if value is None else value
        return Outcome("stopped", value, finished, stop, cut_short=cancelled)
    return Outcome("completed", value, value, monitor.verdict)


async def _watch(
    monitor: Stoppable, task: asyncio.Future[T], cancel_after: float | None
) -> tuple[Verdict | None, bool]:
    """Wait until a task is done.

    Returns the stop that came before, if it was not lifted again, and whether the task was
    cancelled for it.
    """
    import asyncio

    stop: Verdict | None = None
    while not task.done():
        watch = asyncio.ensure_future(monitor.wait_for_stop_async())
        try:
            both: set[asyncio.Future[Any]] = {task, watch}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watch.cancel()
        stop = watch.result() if watch.done() and not watch.cancelled() else None
        if stop is None or cancel_after is None:
            await asyncio.wait({task})  # to its own end: the run is over, or it is not cancelled
            return stop, False
        if cancel_after and not task.done():
            await asyncio.wait({task}, timeout=cancel_after)
            if not task.done() and monitor.verdict.should_continue:
                stop = None  # lifted meanwhile
                continue
        if not task.done():
            task.cancel(f"run {monitor.session_id!r}: {stop.message}")
            await asyncio.wait({task})
            return stop, True
    return stop, False
