"""One call at a time to each of many places, and none waits for that to another.

A call goes on for as long as it takes, whatever becomes of the read that began it: a later read
gets its answer when it is there. All who ask for what is so from now on share the first call that
begins after they asked.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable

T = TypeVar("T")


@dataclass(slots=True)
class Rests:
    """For how long a place is left alone after calls out of turn: it has other work than to answer.

    Seconds throughout.
    """

    times: float = 5.0
    """So many times what such calls took."""
    free: float = 0.25
    """What they may take before that, and two of them in any case: when many runs cross a limit at
    once, most ask while the calls for the first ones are on."""
    least: float = 0.02
    most: float = 1.0
    debt: float = 0.0
    """What such calls took, less what the place had for itself since."""

    def after(self, took: float, idle: float) -> float:
        """Return how long it is left alone after a call that took so long.

        idle: for how long it was left alone before that.
        """
        self.debt = max(0.0, self.debt - idle / self.times) + took
        rest = self.times * (self.debt - max(self.free, 2 * took))
        return min(max(self.least, rest), self.most)


class _Place(Generic[T]):
    __slots__ = ("began_at", "ended_at", "following", "free_at", "rests", "task", "timer")

    def __init__(self, rests: Rests) -> None:
        self.rests = rests
        self.task: asyncio.Task[T] | None = None
        self.following: asyncio.Future[T] | None = None
        """Of the first call that begins from now on; None if nothing waits for it."""
        self.timer: asyncio.TimerHandle | None = None
        self.began_at = self.ended_at = self.free_at = 0.0
        """By the event loop's time: when its call began, when the last one out of turn ended, and
        from when on it may be asked out of turn again."""


class Round:
    """The places that were called at once, and have not answered yet."""

    def __init__(self, keys: Iterable[str]) -> None:
        self.left = set(keys)
        self._asked = len(self.left)
        self._over = asyncio.Event()

    def answered(self, key: str) -> None:
        """Note that one has answered."""
        self.left.discard(key)
        if not self.left:
            self._over.set()

    async def settle(self, quiet: float, until: float, awaited: Collection[str] = ()) -> None:
        """Wait until all have answered, or some have and for a while no other does.

        quiet: that while, in seconds. until: the event loop's time at which to wait no longer.
        awaited: those that are waited for until then.
        """
        loop = asyncio.get_running_loop()
        while self.left and (seconds := until - loop.time()) > 0:
            before = len(self.left)
            try:
                async with asyncio.timeout(min(quiet, seconds)):
                    await self._over.wait()
            except TimeoutError:
                still = len(self.left) == before < self._asked
                if still and self.left.isdisjoint(awaited):
                    return


class Scheduler(Generic[T]):
    """Calls places, by their keys."""

    def __init__(
        self,
        call: Callable[[str], Coroutine[Any, Any, T]],
        answered: Callable[[str, T], None] = lambda _key, _answer: None,
        *,
        rests: Rests,
    ) -> None:
        """call: must not raise. answered: called with each answer. rests: of each place."""
        self._call, self._answered, self._rests = call, answered, rests
        self._places: dict[str, _Place[T]] = {}

    def begin(self, key: str) -> bool:
        """Call a place now; False if it is being called."""
        place = self._place(key)
        if place.task is not None:
            return False
        self._start(key, place, out_of_turn=False)
        return True

    def age(self, key: str) -> float:
        """Return for how many seconds a place is being called; 0 if it is not."""
        place = self._places.get(key)
        if place is None or place.task is None:
            return 0.0
        return asyncio.get_running_loop().time() - place.began_at

    def next(self, key: str) -> asyncio.Future[T]:
        """Return the answer to the first call that begins from now on; it begins soon.

        Wait for it with asyncio.wait: others do, too.
        """
        place = self._place(key)
        answer = place.following
        if answer is None:
            answer = place.following = asyncio.get_running_loop().create_future()
            self._arrange(key, place)
        return answer

    def keep(self, keys: Collection[str]) -> None:
        """Forget all other places."""
        for key in [known for known in self._places if known not in keys]:
            self._cancel(self._places.pop(key))

    async def close(self) -> None:
        """Break all calls off."""
        tasks = [place.task for place in self._places.values() if place.task is not None]
        self.keep(())
        await asyncio.gather(*tasks, return_exceptions=True)

    def _place(self, key: str) -> _Place[T]:
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = _Place(replace(self._rests))
        return place

    def _arrange(self, key: str, place: _Place[T]) -> None:
        """Call a place for those who wait for it, as soon as it may be called."""
        if place.following is None or place.task is not None or place.timer is not None:
            return
        loop = asyncio.get_running_loop()
        rest = place.free_at - loop.time()
        if rest <= 0:
            self._start(key, place, out_of_turn=True)
        else:
            place.timer = loop.call_later(rest, self._rested, key, place)

    def _rested(self, key: str, place: _Place[T]) -> None:
        place.timer = None
        self._arrange(key, place)

    def _start(self, key: str, place: _Place[T], *, out_of_turn: bool) -> None:
        loop = asyncio.get_running_loop()
        waiting, place.following = place.following, None
        if place.timer is not None:
            place.timer.cancel()
            place.timer = None
        place.began_at = loop.time()
        place.task = loop.create_task(self._call(key))

        def ended(task: asyncio.Task[T]) -> None:
            place.task = None
            if out_of_turn:
                now = loop.time()
                idle = max(0.0, place.began_at - place.ended_at)
                place.free_at = now + place.rests.after(now - place.began_at, idle)
                place.ended_at = now
            if task.cancelled():
                if waiting is not None:
                    waiting.cancel()
                return
            self._answered(key, task.result())
            if waiting is not None and not waiting.done():
                waiting.set_result(task.result())
            self._arrange(key, place)

        place.task.add_done_callback(ended)

    def _cancel(self, place: _Place[T]) -> None:
        if place.timer is not None:
            place.timer.cancel()
        if place.following is not None:
            place.following.cancel()
            place.following = None
        if place.task is not None:
            place.task.cancel()
