"""The orchestrator for asyncio: phases are coroutines, and one under way may be cancelled."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.core.wrap_up import WRAP_UP_PHASE
from otel_budget.sdk.outcome import Outcome, run_until_stopped
from otel_budget.sdk.phased_run import (
    Finish,
    PhasedRun,
    PhaseFailedError,
    Phases,
    RunResult,
    Work,
    checked_finish,
    named_phases,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable


class AsyncOrchestrator(PhasedRun):
    """Run named phases under limits, in asyncio. Made like an Orchestrator, and ends like one."""

    async def run(
        self,
        phases: Phases,
        *,
        wrap_up: Finish | None = None,
        cancel_after: float | None = None,
    ) -> RunResult:
        """Run the phases in order and return what came of it.

        phases, wrap_up: as for ``Orchestrator.run``; both may be coroutine functions. cancel_after:
        seconds after which the phase under way is cancelled once the run is told to stop; 0: at
        once; None: it goes on to its end, or to its next call. A phase that is cancelled and
        returns what it has by then keeps it: it is in ``results``. Raises as ``Orchestrator.run``
        does, and CancelledError if it is cancelled itself, with the run closed.
        """
        checked_finish(wrap_up)
        named = named_phases(phases)
        done = self._results_of(named)
        async with self.monitor:
            for index, (name, work) in enumerate(named):
                if name in done:
                    continue
                if not self.monitor.should_continue(index / len(named)):
                    return await self._stopped(named, done, wrap_up)
                try:
                    ended = await self._phase(name, work, cancel_after)
                except Exception as exc:
                    raise PhaseFailedError(name, self._end("failed", named, done)) from exc
                if not ended.cut_short or ended.value is not None:
                    done[name] = ended.value
                    self._save(done)
                if ended.cut_short:
                    return await self._stopped(named, done, wrap_up)
            self.monitor.should_continue(1.0)
            return self._end("completed", named, done)

    async def _phase(self, name: str, work: Work, cancel_after: float | None) -> Outcome[Any]:
        with self.monitor.phase(name):
            return await run_until_stopped(self.monitor, self._called(work), cancel_after)

    async def _called(self, work: Work) -> Any:
        result = work(self.monitor)
        if inspect.isawaitable(result):
            result = await _of(result)
        return self._counted(result)

    async def _stopped(
        self, named: list[tuple[str, Work]], done: dict[str, Any], wrap_up: Finish | None
    ) -> RunResult:
        """End a run that is stopped: with its last calls, if it has any."""
        if wrap_up is None or not self._may_wrap_up(wrap_up):
            return self._end("stopped", named, done)
        try:
            with self.monitor.wrap_up():
                last = wrap_up(self.monitor, done)
                if inspect.isawaitable(last):
                    last = await _of(last)
                last = self._counted(last)
        except BudgetExceeded:
            return self._end("stopped", named, done)
        except Exception as exc:
            raise PhaseFailedError(WRAP_UP_PHASE, self._end("failed", named, done)) from exc
        return self._end("stopped", named, done, last)


async def _of(result: Awaitable[Any]) -> Any:
    return await result
