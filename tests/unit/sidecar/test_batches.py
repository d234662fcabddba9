"""A step that many wait for is done once for all of them."""

from __future__ import annotations

import asyncio

import pytest

from otel_budget.sidecar.batches import Batches


def test_all_that_wait_share_the_next_step() -> None:
    """Not one that has begun: what they wait for may not be in it."""
    begun: list[int] = []
    has_begun, goes_on = asyncio.Event(), asyncio.Event()

    async def step() -> int:
        begun.append(len(begun))
        has_begun.set()
        await goes_on.wait()
        return begun[-1]

    async def scene() -> list[int]:
        batches = Batches(step)
        first = [asyncio.create_task(batches.next()) for _ in range(10)]
        await has_begun.wait()
        later = [asyncio.create_task(batches.next()) for _ in range(10)]
        await asyncio.sleep(0)
        goes_on.set()
        return [*await asyncio.gather(*first), *await asyncio.gather(*later)]

    assert asyncio.run(scene()) == [0] * 10 + [1] * 10


def test_who_goes_away_leaves_the_step_to_the_others() -> None:
    """A client that hangs up does not keep others from being judged."""
    done: list[None] = []

    async def step() -> None:
        await asyncio.sleep(0)
        done.append(None)

    async def scene() -> None:
        batches = Batches(step)
        gone, stays = (asyncio.create_task(batches.next()) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        await stays
        with pytest.raises(asyncio.CancelledError):
            await gone

    asyncio.run(scene())
    assert len(done) == 1


def test_a_step_that_fails_fails_for_all_and_the_next_one_is_done() -> None:
    """An error is no end."""
    number = 0

    async def step() -> int:
        nonlocal number
        number += 1
        if number == 1:
            raise ValueError("no")
        return number

    async def scene() -> int:
        batches = Batches(step)
        found = await asyncio.gather(*(batches.next() for _ in range(3)), return_exceptions=True)
        assert all(isinstance(each, ValueError) for each in found)
        return await batches.next()

    assert asyncio.run(scene()) == 2
