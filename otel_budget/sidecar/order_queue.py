"""Orders on reservations that come at once, done together: one step, and one commit, for all.

While one group is being stored the next gathers. Each waits for at most two commits.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from otel_budget.sidecar.reservations import Order, Result

#: Orders of one step.
MOST: Final = 500


class OrderQueue:
    """Gathers orders and has them done, in the order in which they came."""

    def __init__(self, do: Callable[[Sequence[Order]], Awaitable[Sequence[Result]]]) -> None:
        """Begin with none. do: does some, and returns what came of each."""
        self._do = do
        self._waiting: list[tuple[Order, asyncio.Future[Result]]] = []
        self._task: asyncio.Task[None] | None = None

    async def do(self, order: Order) -> Result:
        """Return what came of an order, once that is stored. Raises what a step raises.

        Whoever does not wait any more has it done all the same.
        """
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((order, done))
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return await done

    async def _work(self) -> None:
        try:
            while self._waiting:
                taken, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                await self._one_step(taken)
        finally:
            self._task = None

    async def _one_step(self, taken: Sequence[tuple[Order, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._do([order for order, _ in taken])
        except Exception as exc:  # noqa: BLE001 - whoever asked is told
            for _, done in taken:
                if not done.done():
                    done.set_exception(exc)
        else:
            for (_, done), result in zip(taken, results, strict=True):
                if not done.done():
                    done.set_result(result)
