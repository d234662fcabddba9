"""A run in code that goes on in other contexts: generators of web servers, threads, pools."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from opentelemetry import context as otel_context

from otel_budget import InvalidValueError, ResourceMonitor, unattributed_usage
from otel_budget.adapters.asgi import BudgetMiddleware
from otel_budget.genai import attribution
from otel_budget.genai.call_tracker import CALL_TRACKER
from otel_budget.genai.notices import Notices
from tests.support.monitors import Make
from tests.support.spans import Call, calls_of

T = TypeVar("T")
END = object()


@pytest.fixture(autouse=True)
def nothing_entered() -> Iterator[None]:
    """Check that no test leaves a run entered."""
    yield
    assert not attribution._entered
    assert not attribution._in_generators._entered


def unattributed(work: Callable[[], T]) -> T:
    """Do something as web servers do: in a thread, in a copy of the context that ends with it."""
    found: list[T] = []
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(lambda: found.append(work()),))
    thread.start()
    thread.join()
    return found[0]


def in_turns(*generators: Iterator[Any]) -> None:
    """Ask each for a value in turn, each time in another context, until all have ended."""
    going_on = list(generators)
    while going_on:
        for one in list(going_on):
            if unattributed(lambda one=one: next(one, END)) is END:  # type: ignore[misc] # mypy takes it for several
                going_on.remove(one)


# --- generators -----------------------------------------------------------------------------------
def test_runs_of_generators_that_take_turns_in_other_contexts_keep_their_calls(
    make: Make, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    """Starlette's way to stream: right alone, and right in company; and without a traceback."""

    def answer(monitor: ResourceMonitor, calls: int) -> Iterator[int]:
        with monitor:
            for number in range(calls):
                call()
                yield number
            call()

    monitors = [make() for _ in range(3)]
    before = unattributed_usage().api_calls
    with caplog.at_level(logging.ERROR):
        in_turns(*(answer(one, 3) for one in monitors))
    assert [calls_of(one) for one in monitors] == [4, 4, 4]
    assert unattributed_usage().api_calls == before
    assert not [record for record in caplog.records if "detach" in record.getMessage()]


def test_a_run_entered_in_a_context_manager_of_a_generator_is_the_generators(
    make: Make, call: Call
) -> None:
    """However it was entered, and with phases and operations inside."""

    @contextmanager
    def opened(monitor: ResourceMonitor) -> Iterator[None]:
        with monitor, monitor.phase("answer"):
            yield

    def answer(monitor: ResourceMonitor) -> Iterator[None]:
        with opened(monitor):
            yield
            yield from inner()

    def inner() -> Iterator[None]:
        call()
        yield
        call()

    monitors = [make(), make()]
    in_turns(*(answer(one) for one in monitors))
    assert [calls_of(one) for one in monitors] == [2, 2]
    phases = {phase for phase, _ in monitors[0]._record.counters_by_phase}
    assert "answer" in phases


def test_a_generators_run_is_inside_that_of_its_context_and_around_those_entered_since(
    make: Make, call: Call
) -> None:
    """As if all of it went on in one context."""
    outer, middle, inner = make(), make(), make()

    def answer() -> Iterator[None]:
        with middle:
            yield
            call()
            with inner:
                call()
            yield

    with outer:
        generator = answer()
        for _ in range(3):
            unattributed(lambda: next(generator, END))
            call()
    assert (calls_of(outer), calls_of(middle), calls_of(inner)) == (3, 1, 1)


def test_generators_that_take_turns_in_one_context_keep_their_calls(make: Make, call: Call) -> None:
    """The context has the run that was entered last, whichever generator goes on."""

    def answer(monitor: ResourceMonitor) -> Iterator[None]:
        with monitor:
            for _ in range(2):
                call()
                yield

    one, other = make(), make()
    before = otel_context.get_current()
    list(zip(answer(one), answer(other), strict=False))
    assert (calls_of(one), calls_of(other)) == (2, 2)
    assert otel_context.get_current() == before, "the run that was left first is still there"
    assert attribution.ended_here() is None


def test_a_generator_that_is_given_up_leaves_its_run(make: Make, call: Call) -> None:
    """A client that hangs up; whoever comes next has no part in it."""
    monitor = make()

    def answer() -> Iterator[None]:
        with monitor:
            call()
            yield

    held = [answer()]
    unattributed(lambda: next(held[0]))
    held.clear()
    gc.collect()
    call()
    assert calls_of(monitor) == 1
    assert monitor._record.closed_at is not None


def test_an_asynchronous_generator_whose_values_are_asked_for_by_tasks_keeps_its_calls(
    make: Make, call: Call
) -> None:
    """As those do that send signs of life in between."""

    async def answer(monitor: ResourceMonitor) -> AsyncIterator[None]:
        async with monitor:
            for _ in range(3):
                call()
                await asyncio.sleep(0)
                yield

    async def main() -> None:
        answers = [answer(one) for one in monitors]
        for _ in range(4):
            for one in answers:
                await asyncio.create_task(_next_or_end(one))

    monitors = [make(), make()]
    asyncio.run(main())
    assert [calls_of(one) for one in monitors] == [3, 3]


async def _next_or_end(values: AsyncIterator[None]) -> None:
    await anext(values, None)


def test_what_others_do_while_a_generator_waits_is_not_its_runs(make: Make, call: Call) -> None:
    """It is not on their stack."""
    monitor, other = make(), make()

    def answer() -> Iterator[None]:
        with monitor:
            yield

    generator = answer()
    unattributed(lambda: next(generator))
    before = unattributed_usage().api_calls
    with other:
        call()
    with make():  # so that no run is the only one
        unattributed(lambda: contextvars.Context().run(call))
    unattributed(lambda: next(generator, END))
    assert (calls_of(monitor), calls_of(other)) == (0, 1)
    assert unattributed_usage().api_calls == before + 1


class Switch:
    """Gives way to the other tasks of a scheduler."""

    def __await__(self) -> Generator[None, None, None]:
        """Come back when it is one's turn."""
        yield


def scheduler(tasks: list[Coroutine[Any, Any, None]]) -> Iterator[None]:
    """Run tasks by turns, each in a context of its own: a generator, as Trio's is."""
    going_on = [(task, contextvars.copy_context()) for task in tasks]
    while going_on:
        for one in list(going_on):
            task, context = one
            try:
                context.run(task.send, None)
            except StopIteration:
                going_on.remove(one)
        yield


def test_tasks_of_a_scheduler_that_is_a_generator_have_their_own_runs(
    make: Make, call: Call
) -> None:
    """All of them run on top of its frame; one that has no run has none of theirs."""

    async def agent(monitor: ResourceMonitor) -> None:
        async with monitor:
            for _ in range(3):
                await Switch()
                call()

    async def nobodys() -> None:
        for _ in range(2):
            await Switch()
            call()

    monitors, before = [make(), make()], unattributed_usage().api_calls
    list(scheduler([*map(agent, monitors), nobodys()]))
    assert [calls_of(one) for one in monitors] == [3, 3]
    assert unattributed_usage().api_calls == before + 2


def test_runs_of_an_event_loop_inside_a_generator_are_inside_the_generators(
    make: Make, call: Call
) -> None:
    """Tasks that enter runs of their own have those, the others the generator's."""
    outer, inner = make(), [make(), make()]

    async def agent(monitor: ResourceMonitor) -> None:
        async with monitor:
            for _ in range(3):
                await asyncio.sleep(0)
                call()

    async def both() -> None:
        await asyncio.gather(*map(agent, inner))
        call()

    def answer() -> Iterator[None]:
        with outer:
            yield
            asyncio.run(both())
            yield

    with make():
        in_turns(answer())
    assert (calls_of(outer), [calls_of(one) for one in inner]) == (1, [3, 3])


# --- attach and bind ------------------------------------------------------------------------------
def bare(work: Callable[[], object]) -> None:
    """Do something in a thread that was handed no context."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_a_thread_that_attaches_a_run_makes_its_calls(make: Make, call: Call) -> None:
    """It neither begins nor ends the run."""
    with make() as monitor, make() as other:

        def work() -> None:
            with monitor.attach():
                call()

        bare(work)
    assert (calls_of(monitor), calls_of(other)) == (1, 0)
    assert monitor._record.state == "completed"


def test_a_bound_function_makes_the_runs_calls_wherever_it_runs(make: Make, call: Call) -> None:
    """With its arguments, its result and its name."""

    def work(one: int, *, two: int) -> int:
        call()
        return one + two

    with make() as monitor, make(), ThreadPoolExecutor(2) as pool:
        bound = monitor.bind(work)
        assert [pool.submit(bound, n, two=1).result() for n in range(3)] == [1, 2, 3]
        assert bound.__name__ == "work"
    assert calls_of(monitor) == 3


def test_a_bound_iterator_has_the_run_around_each_value(make: Make, call: Call) -> None:
    """A generator, what a generator function returns, or any other iterator; ended in order."""
    ended: list[str] = []

    def values(name: str) -> Iterator[int]:
        try:
            for number in range(2):
                call()
                yield number
        finally:
            ended.append(name)

    with make() as monitor, make() as other:
        in_turns(monitor.bind(values("a")), other.bind(values)("b"), monitor.bind(iter([1, 2])))
        begun = monitor.bind(values("c"))
        next(begun)
        begun.close()  # type: ignore[attr-defined] # it is a generator like the one it stands for
    assert (calls_of(monitor), calls_of(other)) == (3, 2)
    assert ended == ["a", "b", "c"]


def test_bound_coroutines_and_asynchronous_iterators_make_the_runs_calls(
    make: Make, call: Call
) -> None:
    """In tasks that were started elsewhere."""

    async def answer() -> str:
        await asyncio.sleep(0)
        call()
        return "done"

    async def values() -> AsyncIterator[int]:
        for number in range(2):
            call()
            yield number

    async def main(monitor: ResourceMonitor) -> None:
        assert inspect.iscoroutinefunction(monitor.bind(answer))
        tasks = [monitor.bind(answer)(), monitor.bind(answer())]
        assert await asyncio.gather(*tasks) == ["done", "done"]
        assert [n async for n in monitor.bind(values())] == [0, 1]
        assert [n async for n in monitor.bind(values)()] == [0, 1]

    monitor = make()
    with make():
        asyncio.run(main(monitor))
    assert calls_of(monitor) == 6


def test_what_does_not_run_cannot_be_bound(make: Make) -> None:
    """Said, not taken for bound."""
    with pytest.raises(InvalidValueError, match="a function, an iterator or an awaitable"):
        make().bind(1)


# --- an ASGI application --------------------------------------------------------------------------
def test_each_request_has_a_run_until_its_answer_is_sent(make: Make, call: Call) -> None:
    """Threads of the request included; what is no request has none."""
    made: list[ResourceMonitor] = []

    def begin(scope: Any) -> ResourceMonitor | None:
        if scope["path"] == "/health":
            return None
        made.append(make())
        return made[-1]

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/ask":
            assert scope["state"]["monitor"] in made
            for _ in range(2):
                await asyncio.to_thread(call)
                await send({})

    async def send(_message: Any) -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        served = BudgetMiddleware(app, begin)
        scopes = [{"type": "http", "path": "/ask"}, {"type": "http", "path": "/ask"},
                  {"type": "http", "path": "/health"}, {"type": "lifespan"}]  # fmt: skip
        await asyncio.gather(*(served(scope, None, send) for scope in scopes))

    asyncio.run(main())
    assert [calls_of(one) for one in made] == [2, 2]
    assert {one._record.state for one in made} == {"completed"}


# --- what is lost is said -------------------------------------------------------------------------
@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is said of calls, from now on."""
    texts: list[str] = []
    monkeypatch.setattr(
        CALL_TRACKER, "notices", Notices(lambda text, *values: texts.append(text % values))
    )
    return texts


def test_a_run_says_at_its_end_what_was_called_outside_of_every_run_meanwhile(
    make: Make, call: Call, said: list[str]
) -> None:
    """Each run, with the number; one without such calls says nothing."""
    with make(session_id="lost-a"), make(session_id="lost-b"):
        for _ in range(3):
            bare(call)
    with make(session_id="lost-none"):
        call()
    lost = [text for text in said if "made model calls outside any run" in text]
    assert [text.split(":")[0] for text in lost] == ["run 'lost-b'", "run 'lost-a'"]
    assert all("outside any run: 3" in text and "monitor.bind()" in text for text in lost)


def test_a_call_in_the_context_of_a_run_that_has_ended_is_said_with_its_name(
    make: Make, call: Call, said: list[str]
) -> None:
    """A body that is streamed after the ``with`` is over, or a task that outlives it."""
    with make(session_id="over"):
        context = contextvars.copy_context()
    for _ in range(2):
        context.run(call)
    with make(session_id="around"):
        context = contextvars.copy_context()
        with make(session_id="inner"):
            within = contextvars.copy_context()
        within.run(call)
    (text,) = [text for text in said if "after it ended" in text]
    assert text.startswith(
        "run 'over': a call of gpt-4o-mini was made in its context after it ended"
    )


def test_a_run_says_at_the_first_call_that_no_adapter_asked_for_it(
    make: Make, call: Call, said: list[str]
) -> None:
    """Where an adapter is in use: a forgotten run_config=, say."""
    with make(session_id="half-guarded") as monitor:
        call()
        monitor.usage_sink.asked = 2
        assert not [text for text in said if "without the adapter" in text]
        call()
        assert [text for text in said if "without the adapter" in text]
        call()
    with make(session_id="spans-only"):
        call()
    (text,) = [text for text in said if "without the adapter" in text]
    assert text.startswith("run 'half-guarded': a model call was made without")


def test_a_run_without_any_call_says_that_the_adapter_may_have_been_left_out(
    make: Make, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Importing it is not enough; said once."""
    monkeypatch.setattr(CALL_TRACKER, "in_use", False)
    monkeypatch.setattr(CALL_TRACKER, "spans", False)
    monkeypatch.setattr(CALL_TRACKER, "adapters", {"OpenAI Agents"})
    for name in ("forgot-a", "forgot-b"):
        with make(session_id=name):
            pass
    (text,) = said
    assert "'forgot-a': it ended, and not one model call was seen" in text
    assert "is the adapter for OpenAI Agents missing (run_config=" in text
