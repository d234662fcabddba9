"""Who is asked when: one call at a time to each place, shared by those who wait for it."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest

from otel_budget.sources.scheduler import Rests, Round, Scheduler


class Places:
    """Places that answer when a test says so."""

    def __init__(self) -> None:
        """Have been called by nobody."""
        self.calls: dict[str, list[asyncio.Future[int]]] = defaultdict(list)
        self.answers: list[tuple[str, int]] = []
        self.turns = Scheduler(
            self._call, lambda k, a: self.answers.append((k, a)), rests=Rests(least=0.0, most=0.0)
        )

    async def _call(self, key: str) -> int:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.calls[key].append(answer)
        return await answer

    async def answer(self, key: str) -> None:
        """Let the newest call of a place be answered with its number."""
        await settled()
        self.calls[key][-1].set_result(len(self.calls[key]))
        await settled()


async def settled() -> None:
    """Let all that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_those_who_ask_while_a_place_is_called_share_the_next_call() -> None:
    """However many they are: the present one may have been answered before they asked."""

    async def trial() -> tuple[int, set[int]]:
        places = Places()
        places.turns.begin("a")
        waiting = [places.turns.next("a") for _ in range(64)]
        await places.answer("a")
        await places.answer("a")
        return len(places.calls["a"]), {answer.result() for answer in waiting}

    assert asyncio.run(trial()) == (2, {2})


def test_a_place_is_called_again_only_once_it_has_answered() -> None:
    async def trial() -> list[bool]:
        places = Places()
        begun = [places.turns.begin("a"), places.turns.begin("a"), places.turns.begin("b")]
        await places.answer("a")
        return [*begun, places.turns.begin("a")]

    assert asyncio.run(trial()) == [True, False, True, True]


def test_after_a_call_out_of_turn_a_place_rests_but_not_from_those_in_turn() -> None:
    async def trial() -> list[int]:
        places = Places()
        places.turns = Scheduler(places._call, rests=Rests(least=3600.0, most=3600.0))
        first = places.turns.next("a")
        await places.answer("a")
        second = places.turns.next("a")
        await settled()
        calls = [len(places.calls["a"])]
        places.turns.begin("a")
        await places.answer("a")
        return [*calls, len(places.calls["a"]), first.result(), second.result()]

    assert asyncio.run(trial()) == [1, 2, 1, 2]


def test_a_place_has_most_of_its_time_for_itself_however_often_it_is_called() -> None:
    """A few calls in a row are free, and one that takes long."""
    rests = Rests(times=5.0, free=0.25, least=0.02, most=60.0)
    assert [rests.after(took, 0.02) for took in (0.1, 0.1)] == [0.02, 0.02]
    rest, called, alone = 0.02, 0.0, 0.0
    for _ in range(100):
        alone += rest
        rest = rests.after(0.1, rest)
        called += 0.1
    assert called / (called + alone) == pytest.approx(1 / 6, rel=0.05)
    rests.after(0.0, 3600.0)
    in_a_row = [rests.after(10.0, 0.02) for _ in range(4)]
    assert in_a_row == [0.02, 0.02, pytest.approx(50.0, rel=0.01), 60.0]


def test_what_is_closed_or_forgotten_is_broken_off_and_its_waiters_are_told() -> None:
    async def trial() -> list[bool]:
        places = Places()
        kept, gone = places.turns.next("a"), places.turns.next("b")
        await settled()
        places.turns.keep({"a"})
        await settled()
        told = [kept.done(), gone.cancelled()]
        await places.turns.close()
        return [*told, kept.cancelled(), places.answers == []]

    assert asyncio.run(trial()) == [False, True, True, True]


def test_a_round_is_over_once_some_have_answered_and_no_other_does() -> None:
    """But not for one of those that are awaited, nor before anybody has answered."""

    async def seconds(quiet: float, until: float, *, awaited: tuple[str, ...] = ()) -> float:
        loop = asyncio.get_running_loop()
        asked, began = Round("abc"), loop.time()
        loop.call_soon(asked.answered, "a")
        await asked.settle(quiet, began + until, awaited)
        return loop.time() - began

    assert asyncio.run(seconds(0.01, 60.0)) < 30
    assert asyncio.run(seconds(0.01, 0.1, awaited=("b",))) >= 0.1
    assert asyncio.run(seconds(0.01, 0.1, awaited=("a",))) < 0.1


def test_a_round_is_over_when_all_have_answered() -> None:
    async def trial() -> None:
        asked = Round("ab")
        loop = asyncio.get_running_loop()
        for key in "ab":
            loop.call_soon(asked.answered, key)
        await asyncio.wait_for(asked.settle(3600.0, loop.time() + 3600), 10)

    asyncio.run(trial())
