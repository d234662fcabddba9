"""The broadcaster: who gets which verdict, when, and how often."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from otel_budget.core import sse, verdict_json
from otel_budget.core.verdict import LimitStatus
from otel_budget.sdk.sidecar_client.stream import SILENCE
from otel_budget.sidecar.api import broadcaster
from otel_budget.sidecar.api.broadcaster import Subscription, VerdictBroadcaster
from tests.support.sidecar_fixtures import LEASE, START, SteadyClock, events, verdict

KEEP_ALIVE = sse.KEEP_ALIVE.encode()


def drained(subscription: Subscription) -> list[dict[str, Any]]:
    """Return what waits in a subscription, as its reader would get it."""

    async def read() -> list[bytes]:
        frames = subscription.frames()
        chunks = []
        while subscription.waiting:
            chunks.append(await anext(frames))
        return chunks

    return events(asyncio.run(read()))


def within(seconds: float, what: Callable[[], Awaitable[Any]]) -> Any:
    """Run something that must not take long."""

    async def limited() -> Any:
        async with asyncio.timeout(seconds):
            return await what()

    return asyncio.run(limited())


def test_a_new_reader_gets_all_current_verdicts_at_once_in_the_order_of_their_sequence() -> None:
    broadcaster = VerdictBroadcaster(LEASE, SteadyClock())
    broadcaster.publish([verdict("b", 2), verdict("a", 1), verdict("c", 3)])
    assert [v["session_id"] for v in drained(broadcaster.subscribe())] == ["a", "b", "c"]


def test_a_reader_of_one_run_gets_that_run_alone() -> None:
    broadcaster = VerdictBroadcaster(LEASE, SteadyClock())
    broadcaster.publish([verdict("a", 1), verdict("b", 2)])
    reader = broadcaster.subscribe("b")
    broadcaster.publish([verdict("a", 3), verdict("b", 4)])
    assert [(v["session_id"], v["sequence"]) for v in drained(reader)] == [("b", 4)]


def test_a_reader_that_comes_back_gets_what_is_newer_than_what_it_saw() -> None:
    broadcaster = VerdictBroadcaster(LEASE, SteadyClock())
    broadcaster.publish([verdict("a", 1), verdict("b", 2), verdict("c", 3)])
    assert [v["sequence"] for v in drained(broadcaster.subscribe(after=2))] == [3]
    assert drained(broadcaster.subscribe(after=3)) == []


def test_a_last_event_id_from_another_life_of_the_sidecar_gets_everything() -> None:
    broadcaster = VerdictBroadcaster(LEASE, SteadyClock())
    broadcaster.publish([verdict("a", 1)])
    assert [v["sequence"] for v in drained(broadcaster.subscribe(after=500))] == [1]


def test_a_changed_verdict_goes_out_at_once() -> None:
    broadcaster = VerdictBroadcaster(LEASE, SteadyClock())
    broadcaster.publish([verdict(sequence=1, at=START)])
    reader = broadcaster.subscribe(after=1)
    broadcaster.publish([verdict(sequence=2, at=START + 0.1)])
    assert [v["sequence"] for v in drained(reader)] == [2]


def test_an_unchanged_verdict_goes_out_again_after_a_third_of_its_lease_with_new_numbers() -> None:
    broadcaster = VerdictBroadcaster(LEASE, SteadyClock())
    broadcaster.publish([verdict(sequence=1, at=START, tokens=10)])
    reader = broadcaster.subscribe(after=1)
    for second in range(1, 11):
        broadcaster.publish([verdict(sequence=1, at=START + second, tokens=10 + second)])
        waiting = [v["resources"]["tokens"]["used"] for v in drained(reader)]
        assert waiting == ([10 + second] if second % 5 == 0 else [])


def test_a_get_sees_the_numbers_of_the_last_tick_even_if_nobody_was_sent_them() -> None:
    broadcaster = VerdictBroadcaster(LEASE, SteadyClock())
    broadcaster.publish([verdict(sequence=1, at=START, tokens=10)])
    broadcaster.publish([verdict(sequence=1, at=START + 1, tokens=11)])
    published = broadcaster.get("run-1")
    assert published is not None
    assert published.verdict.resources["tokens"].used == 11


def test_a_slow_reader_loses_old_verdicts_but_never_the_newest() -> None:
    broadcaster = VerdictBroadcaster(LEASE, SteadyClock())
    reader = broadcaster.subscribe()
    for sequence in range(1, 1001):
        broadcaster.publish([verdict(f"run-{sequence % 2}", sequence)])
    assert reader.waiting == 2
    assert [v["sequence"] for v in drained(reader)] == [999, 1000]


def test_a_renewal_does_not_move_a_waiting_change_behind_later_ones() -> None:
    """Else a reader that breaks off in between would come back past a change it never saw."""
    broadcaster = VerdictBroadcaster(LEASE, SteadyClock())
    broadcaster.publish([verdict("a", 1), verdict("b", 2)])
    reader = broadcaster.subscribe(after=2)
    broadcaster.publish([verdict("a", 3), verdict("b", 4)])
    broadcaster.publish([verdict("a", 3, at=START + 10)])
    assert [v["sequence"] for v in drained(reader)] == [3, 4]


def test_a_forgotten_run_is_gone_and_what_waits_of_it_too() -> None:
    broadcaster = VerdictBroadcaster(LEASE, SteadyClock())
    broadcaster.publish([verdict("a", 1), verdict("b", 2)])
    reader = broadcaster.subscribe()
    broadcaster.publish([verdict("b", 2)], forgotten=["a"])
    assert broadcaster.get("a") is None
    assert [v["session_id"] for v in drained(reader)] == ["b"]


def test_pages_follow_one_another_and_a_status_chooses() -> None:
    broadcaster = VerdictBroadcaster(LEASE, SteadyClock())
    broadcaster.publish(verdict(f"run-{n}", n + 1) for n in range(5))
    broadcaster.publish([verdict("run-9", 9, status=LimitStatus.EXCEEDED)])
    page, following = broadcaster.page(limit=4)
    assert ([p.verdict.session_id for p in page], following) == (
        ["run-0", "run-1", "run-2", "run-3"],
        "run-3",
    )
    page, following = broadcaster.page(limit=4, after="run-3")
    assert ([p.verdict.session_id for p in page], following) == (["run-4", "run-9"], None)
    page, following = broadcaster.page(limit=1, status=LimitStatus.EXCEEDED)
    assert ([p.verdict.session_id for p in page], following) == (["run-9"], None)


def test_the_text_of_a_verdict_is_made_once_for_all_readers() -> None:
    broadcaster = VerdictBroadcaster(LEASE, SteadyClock())
    broadcaster.publish([verdict()])
    published = broadcaster.get("run-1")
    assert published is not None
    assert published.frame() is published.frame()
    assert published.frame() == sse.verdict_frame(verdict()).encode()
    assert published.json() == verdict_json.to_json(verdict())


@pytest.mark.parametrize(
    ("age", "left"),
    [(0.0, 15.0), (0.7, 15.0), (0.8, 14.1), (5.0, 9.9), (14.5, 0.45), (14.99, None)],
)
def test_what_goes_out_later_than_it_was_judged_has_what_is_left_of_its_lease(
    age: float, left: float | None
) -> None:
    """The reader's lease begins at its receipt: with the whole of it each new stream, and each
    question, would lengthen it. Rounded down.
    """
    clock = SteadyClock()
    broadcaster = VerdictBroadcaster(LEASE, clock)
    broadcaster.publish([verdict("a", 1)])
    clock.advance(age)
    published = broadcaster.get("a")
    assert published is not None
    text = broadcaster.json_of(published)
    assert (text and json.loads(text)["lease_seconds"]) == left
    streamed = drained(broadcaster.subscribe("a"))
    assert [v["lease_seconds"] for v in streamed] == ([] if left is None else [left])
    assert all(v["valid_until"] == verdict_json.timestamp(START + LEASE) for v in streamed)


def test_a_frame_that_waits_loses_its_lease_meanwhile() -> None:
    """A reader that reads slowly: what waits for it in the sidecar grows old, too."""
    clock = SteadyClock()
    broadcaster = VerdictBroadcaster(LEASE, clock)
    reader = broadcaster.subscribe()
    broadcaster.publish([verdict("a", 1), verdict("b", 2)])
    clock.advance(6)
    assert [v["lease_seconds"] for v in drained(reader)] == [9.0, 9.0]


def test_a_quiet_stream_says_that_the_sidecar_lives() -> None:
    async def read() -> list[bytes]:
        frames = VerdictBroadcaster(0.0, SteadyClock()).subscribe("unknown").frames()
        return [await anext(frames) for _ in range(3)]

    assert within(10, read) == [KEEP_ALIVE] * 3


@pytest.mark.parametrize(("lease", "seconds"), [(3.0, 1.0), (15.0, 5.0), (46.0, 5.0), (9e9, 5.0)])
def test_no_lease_is_so_long_that_a_living_stream_is_taken_for_dead(
    lease: float, seconds: float
) -> None:
    assert VerdictBroadcaster(lease, SteadyClock()).keep_alive_after == seconds
    assert seconds <= SILENCE / 3, "two signs of life may get lost on the way"


def test_a_quiet_stream_with_a_long_lease_says_that_the_sidecar_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broadcaster, "KEEP_ALIVE_AFTER", 0.01)

    async def read() -> list[bytes]:
        frames = VerdictBroadcaster(3600.0, SteadyClock()).subscribe("unknown").frames()
        return [await anext(frames) for _ in range(3)]

    assert within(10, read) == [KEEP_ALIVE] * 3


def test_a_waiting_reader_is_woken_by_a_verdict() -> None:
    async def read() -> bytes:
        broadcaster = VerdictBroadcaster(3600.0, SteadyClock())
        frames = broadcaster.subscribe("run-1").frames()
        assert await anext(frames) == KEEP_ALIVE
        reading = asyncio.ensure_future(anext(frames))
        await asyncio.sleep(0)
        broadcaster.publish([verdict()])
        return await reading

    assert [v["sequence"] for v in events([within(10, read)])] == [1]


def test_closing_ends_every_stream_after_what_waits_in_it() -> None:
    async def read() -> tuple[list[bytes], list[bytes]]:
        broadcaster = VerdictBroadcaster(3600.0, SteadyClock())
        one, other = broadcaster.subscribe("quiet"), broadcaster.subscribe()
        quiet = asyncio.ensure_future(_all(one))
        await asyncio.sleep(0)
        broadcaster.publish([verdict()])
        broadcaster.close()
        return await quiet, await _all(other)

    quiet, full = within(10, read)
    assert events(quiet) == []
    assert [v["sequence"] for v in events(full)] == [1]


def test_a_verdict_whose_lease_ran_out_here_goes_to_nobody() -> None:
    """Not to who comes now, nor to who was waiting for it: they would begin another lease."""
    clock = SteadyClock()
    broadcaster = VerdictBroadcaster(LEASE, clock)
    reader = broadcaster.subscribe()
    broadcaster.publish([verdict("a", 1), verdict("b", 2)])
    clock.advance(LEASE)
    assert drained(broadcaster.subscribe()) == []
    broadcaster.publish([verdict("b", 2, at=clock.now)])
    assert [v["session_id"] for v in drained(reader)] == ["b"]
    assert [v["session_id"] for v in drained(broadcaster.subscribe())] == ["b"]


def test_subscribers_are_counted_until_they_leave() -> None:
    broadcaster = VerdictBroadcaster(LEASE, SteadyClock())
    with broadcaster.subscribe(), broadcaster.subscribe("a"), broadcaster.subscribe("a") as last:
        assert broadcaster.subscribers == 3
        broadcaster.unsubscribe(last)
        broadcaster.unsubscribe(last)
        assert broadcaster.subscribers == 2
    assert broadcaster.subscribers == 0


async def _all(subscription: Subscription) -> list[bytes]:
    return [chunk async for chunk in subscription.frames()]


def test_a_stream_on_some_runs_can_be_on_others_as_well_and_on_some_no_more() -> None:
    """What is known of a run that is added comes at once, also if it was there before."""
    broadcaster = VerdictBroadcaster(LEASE, SteadyClock())
    broadcaster.publish([verdict("a", 1), verdict("b", 2), verdict("c", 3)])
    reader = broadcaster.subscribe("a", "b", after=3)
    assert reader.follows == 2
    assert broadcaster.follow(reader, ["b", "c", "new", "new"]) == ["new"]
    assert [v["session_id"] for v in drained(reader)] == ["b", "c"]
    broadcaster.unfollow(reader, ["a", "c", "never"])
    assert (reader.follows, broadcaster.is_followed("a"), broadcaster.is_followed("b")) == (
        2,
        False,
        True,
    )
    broadcaster.publish([verdict("a", 4), verdict("b", 5), verdict("c", 6), verdict("new", 7)])
    assert [v["session_id"] for v in drained(reader)] == ["b", "new"]
    assert broadcaster.subscribers == 1
    broadcaster.unsubscribe(reader)
    assert (
        broadcaster.subscribers,
        broadcaster.is_followed("b"),
        broadcaster.is_followed("new"),
    ) == (0, False, False)


def test_a_stream_that_follows_no_run_any_more_is_not_one_on_all() -> None:
    broadcaster = VerdictBroadcaster(LEASE, SteadyClock())
    reader = broadcaster.subscribe("a")
    broadcaster.unfollow(reader, ["a"])
    broadcaster.publish([verdict("a", 1), verdict("b", 2)])
    assert reader.waiting == 0
