"""A step that many wait for at once, as one.

Anybody on this host may ask for it, and it looks at every run. So however many ask, there is one
step at a time for them, and after it as long a rest as it took: half of the time is for others.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class Batches(Generic[T]):
    """Does a step for all who wait for the next one."""

    def __init__(self, step: Callable[[], Awaitable[T]]) -> None:
        """Begin with nobody."""
        self._step = step
        self._next: asyncio.Task[T] | None = None
        """That has not begun yet."""
        self._turn = asyncio.Lock()
        self._free_at = 0.0
        """When the next step may begin, by the event loop's time."""

    async def next(self) -> T:
        """Return what the next step comes to that begins from now on.

        Whoever does not wait for it any more leaves it to the others, and it is done in any case.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._do())
        return await asyncio.shield(self._next)

    async def _do(self) -> T:
        async with self._turn:
            loop = asyncio.get_running_loop()
            # At the least for as long as those take who waited for the same answer.
            await asyncio.sleep(max(0.0, self._free_at - loop.time()))
            self._next, began = None, loop.time()
            try:
                return await self._step()
            finally:
                self._free_at = 2 * loop.time() - began
