"""The last calls of a run that is stopped in time, as a block.

A stop before a limit says what may still be used to finish (``Verdict.wrap_up``). The block allows
exactly that, once: a second one has what the first one left. While it is open the run is told to go
on, whoever asks, up to its allowance and never past a limit; for those that it is an ancestor of,
and for whoever hears of its verdicts, it is stopped all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_budget import semconv
from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.core.wrap_up import WRAP_UP_PHASE, WrapUp
from otel_budget.logs.logger import logger
from otel_budget.policy.briefing import allowance_in_words
from otel_budget.sdk import tracing

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType

    from otel_budget.sdk.guard import Guard
    from otel_budget.sdk.recorder import Recorder
    from otel_budget.sdk.run_record import RunRecord
    from otel_budget.sdk.wrap_ups import OpenBlock, Used

DONE, FAILED, OVER, UNUSED = semconv.WRAP_UP_OUTCOMES


class WrapUpBlock:
    """What ``monitor.wrap_up()`` returns: a context, also an asynchronous one, to be used once."""

    def __init__(self, recorder: Recorder, guard: Guard, record: RunRecord) -> None:
        """Allow nothing yet."""
        self._recorder, self._guard, self._record = recorder, guard, record
        self._block: OpenBlock | None = None
        self._phase: AbstractContextManager[None] | None = None

    def __enter__(self) -> WrapUp | None:
        """Allow what the verdict says may still be used; None of a run that may go on.

        Raises BudgetExceeded where that is nothing, and in a block that is open already.
        """
        self._block = self._guard.begin_wrap_up()
        if self._block is None:
            return None
        self._recorder.room.set_apart(self._block)
        self._phase = self._recorder.phase(WRAP_UP_PHASE)
        self._phase.__enter__()
        return self._block.allowed

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the stop back, and say what came of it."""
        block, self._block = self._block, None
        if block is None:
            return
        used = self._guard.end_wrap_up(block)
        outcome = _outcome(block, used, exc)
        try:
            self._tell(block, used, outcome)
        finally:
            if self._phase is not None:
                self._phase.__exit__(kind, exc, trace)

    async def __aenter__(self) -> WrapUp | None:
        """Do the same in a coroutine."""
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do the same in a coroutine."""
        self.__exit__(kind, exc, trace)

    def _tell(self, block: OpenBlock, used: Used, outcome: str) -> None:
        record = self._record
        with record.lock:
            record.wrap_ups = {**record.wrap_ups, outcome: record.wrap_ups.get(outcome, 0) + 1}
        attributes: tracing.Attributes = {
            semconv.ATTR_OUTCOME: outcome,
            semconv.ATTR_API_CALLS: used.calls,
            semconv.ATTR_TOKENS: used.tokens,
        }
        tracing.add_event(semconv.EVENT_WRAP_UP, attributes)
        logger.info(
            "run %r: wrapped up: %s: %s used of %s",
            record.session_id, outcome, allowance_in_words(_as_allowed(used, block.allowed)),
            allowance_in_words(block.allowed),
        )  # fmt: skip


def _outcome(block: OpenBlock, used: Used, exc: BaseException | None) -> str:
    if block.refused or isinstance(exc, BudgetExceeded) or used.is_over(block.allowed):
        return OVER
    if exc is not None:
        return FAILED
    return DONE if used.calls else UNUSED


def _as_allowed(used: Used, allowed: WrapUp) -> WrapUp:
    """Return what was used of that which is bounded."""
    amounts: Any = [
        amount if most is not None else None for amount, most in zip(used, allowed, strict=True)
    ]
    return WrapUp(*amounts)
