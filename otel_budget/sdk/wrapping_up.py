"""The last calls of a run that is stopped in time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from otel_budget.core.exceeded import BudgetExceeded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_budget.core.wrap_up import WrapUp
    from otel_budget.sdk.guard import Guard


@contextmanager
def wrap_up(guard: Guard) -> Iterator[WrapUp | None]:
    """Allow what the verdict says may still be used. Raises BudgetExceeded where that is nothing.

    Yields None for a run that may go on: nothing changes for it.
    """
    verdict = guard.verdict(guard.progress)
    if not verdict.should_continue and verdict.wrap_up is None:
        raise BudgetExceeded(guard.foreseen(verdict))
    yield verdict.wrap_up
