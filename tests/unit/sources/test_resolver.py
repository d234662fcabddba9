"""Names of hosts, and lookups that hang."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence

import pytest

from otel_budget.sources.resolver import MOST_LOOKUPS, Address, Resolver

HERE = Address(socket.AF_INET, ("192.0.2.1", 0))
THERE = Address(socket.AF_INET, ("192.0.2.2", 0))
NONE = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
NO_SERVER = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


class FakeResolver:
    """A system's resolver, of which the test says what it answers, and when."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, Sequence[Address] | OSError] = {}
        self.hanging = 0
        self.released = threading.Event()

    def __call__(self, name: str) -> Sequence[Address]:
        self.asked.append(name)
        if name.startswith("hangs"):
            self.hanging += 1
            self.released.wait(30)
            self.hanging -= 1
        answer = self.answers.get(name, NONE)
        if isinstance(answer, OSError):
            raise answer
        return answer


class Case:
    """Names, their resolver and their clock."""

    def __init__(self) -> None:
        self.resolver, self.now = FakeResolver(), 1000.0
        self.names = Resolver(lambda: self.now, self.resolver)

    async def find(self, name: str, seconds: float = 5.0) -> Sequence[Address]:
        """Return the addresses of a name within a time, which real threads need little of."""
        async with asyncio.timeout(seconds):
            return await self.names.addresses(name)


def within(case: Callable[[Case], Awaitable[None]]) -> None:
    """Run a case, and let what hangs in it go."""

    async def run() -> None:
        made = Case()
        try:
            await case(made)
        finally:
            made.resolver.released.set()

    asyncio.run(run())


def test_names_that_hang_do_not_keep_one_waiting_that_answers() -> None:
    """However many they are, as soon as it is known which they are; and a lookup of each is one."""

    async def case(it: Case) -> None:
        it.resolver.answers["agent"] = [HERE]
        assert await it.find("agent") == (HERE,)
        hanging = [asyncio.create_task(it.find(f"hangs-{n % 40}")) for n in range(400)]
        await asyncio.sleep(0)
        it.now += 10
        assert await it.find("agent") == (HERE,)
        assert it.resolver.asked.count("agent") == 2
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        assert len(it.resolver.asked) == 42

    within(case)


def test_lookups_are_bounded() -> None:
    """A name beyond the bound is looked up when one of the others is done."""

    async def case(it: Case) -> None:
        it.resolver.answers["agent"] = [HERE]
        hanging = [asyncio.create_task(it.find(f"hangs-{n}")) for n in range(300)]
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await it.find("agent", 0.05)
        assert it.resolver.hanging <= MOST_LOOKUPS
        it.resolver.released.set()
        assert await it.find("agent") == (HERE,)
        await asyncio.gather(*hanging, return_exceptions=True)

    within(case)


def test_names_that_gave_nothing_hold_a_share_of_the_threads_only() -> None:
    """So the first lookup of a new name does not wait for them."""

    async def case(it: Case) -> None:
        it.resolver.answers["new"] = [HERE]
        it.resolver.released.set()
        names = [f"hangs-{n}" for n in range(300)]
        await asyncio.gather(*map(it.find, names), return_exceptions=True)
        it.resolver.released.clear()
        it.now += 100
        again = [asyncio.create_task(it.find(name)) for name in names]
        await asyncio.sleep(0)
        assert await it.find("new") == (HERE,)
        for task in again:
            task.cancel()
        await asyncio.gather(*again, return_exceptions=True)

    within(case)


def test_addresses_are_kept_for_some_seconds_and_changes_are_taken_up() -> None:
    """A target that moved is found within seconds."""

    async def case(it: Case) -> None:
        it.resolver.answers["agent"] = [HERE]
        await it.find("agent")
        it.resolver.answers["agent"] = [THERE]
        it.now += 4
        assert await it.find("agent") == (HERE,)
        it.now += 2
        assert await it.find("agent") == (THERE,)
        assert len(it.resolver.asked) == 2

    within(case)


def test_while_no_name_server_answers_the_last_addresses_are_used_for_minutes() -> None:
    """And no longer; a name that is gone is gone at once."""

    async def case(it: Case) -> None:
        it.resolver.answers["agent"] = [HERE]
        await it.find("agent")
        it.resolver.answers["agent"] = NO_SERVER
        for _ in range(4):
            it.now += 60
            assert await it.find("agent") == (HERE,)
        it.now += 61
        with pytest.raises(OSError, match="Temporary failure"):
            await it.find("agent")
        it.resolver.answers["agent"] = [HERE]
        it.now += 60
        assert await it.find("agent") == (HERE,)
        it.resolver.answers["agent"] = NONE
        it.now += 60
        with pytest.raises(OSError, match="not known"):
            await it.find("agent")

    within(case)


def test_a_name_without_an_address_is_asked_for_again_after_a_pause() -> None:
    """Not with every scrape, yet soon: a container may be about to start."""

    async def case(it: Case) -> None:
        for _ in range(5):
            with pytest.raises(OSError, match="not known"):
                await it.find("agent")
        assert len(it.resolver.asked) == 1
        it.resolver.answers["agent"] = [HERE]
        it.now += 1
        assert await it.find("agent") == (HERE,)

    within(case)


@pytest.mark.parametrize("name", ["127.0.0.1", "::1", "192.0.2.7", "2001:db8::1"])
def test_an_address_takes_no_lookup(name: str) -> None:
    """Also while all lookups hang."""

    async def case(it: Case) -> None:
        (address,) = await it.find(name)
        assert address.at(9464)[:2] == (name, 9464)
        assert it.resolver.asked == []

    within(case)


def test_what_is_no_name_is_an_error_and_not_a_crash() -> None:
    """The system's own functions take it for a defect of the caller."""

    async def case(it: Case) -> None:
        names = Resolver(lambda: it.now)
        for name in ("a" * 64 + ".example", "." * 3, "x" * 300):
            with pytest.raises(OSError, match=r"."):
                await names.addresses(name)

    within(case)


def test_the_address_that_answers_is_tried_first() -> None:
    """Until the name is looked up again."""

    async def case(it: Case) -> None:
        it.resolver.answers["agent"] = [HERE, THERE]
        await it.find("agent")
        it.names.prefer("agent", THERE)
        assert await it.find("agent") == (THERE, HERE)

    within(case)
