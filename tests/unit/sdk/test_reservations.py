"""Calls at once do not overrun: what they may use is held until it is counted."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections import Counter
from collections.abc import Callable, Collection, Coroutine
from decimal import Decimal
from functools import partial
from random import Random

import pytest

from otel_budget import BudgetExceeded, InvalidValueError, ResourceLimits, ResourceMonitor
from otel_budget.core.reasons import Reason
from otel_budget.genai.reported_call import Expected, ReportedCall
from otel_budget.sdk.reservations import Request, Reservation, Room, Short
from otel_budget.sdk.reserving import request_of
from otel_budget.sdk.room_queue import Waiter
from tests.support.monitors import Make

SCOPE = "otel_budget.test"
#: Seconds after which a test has failed: nothing here takes longer than milliseconds.
DEADLINE = 30
SIZE = 150


def _only(**limits: object) -> ResourceLimits:
    return ResourceLimits.only(**limits)


def _call(monitor: ResourceMonitor, expected: Expected | None = None) -> None:
    call = ReportedCall(SCOPE, monitor, expected=expected)
    call.close(input=100, output=50)


def _at_once(number: int, work: Callable[[], None]) -> Counter[str]:
    """Do something in so many threads that begin together; return how it ended."""
    barrier, came = threading.Barrier(number), Counter[str]()

    def one() -> None:
        barrier.wait(DEADLINE)
        try:
            work()
        except BudgetExceeded as exc:
            came[str(exc.verdict.reason)] += 1
        else:
            came["made"] += 1

    threads = [threading.Thread(target=one) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    return came


def _until_refused(work: Callable[[], None]) -> BudgetExceeded:
    """Do something again and again; return what it was refused with in the end."""
    for _ in range(1000):
        try:
            work()
        except BudgetExceeded as exc:
            return exc
    pytest.fail("it was never refused")


def _holds_nothing(monitor: ResourceMonitor) -> bool:
    room = monitor.usage_sink.room
    return room is None or not (room.open or room.tokens or room.api_calls or room.cost)


@pytest.mark.parametrize("expected", [None, Expected(100, 60), Expected(10_000, None)])
@pytest.mark.parametrize(("room", "made"), [(1, 1), (10, 10)])
def test_of_twenty_calls_in_threads_as_many_are_made_as_fit(
    make: Make, expected: Expected | None, room: int, made: int
) -> None:
    monitor = make(_only(max_tokens=room * SIZE))
    came = _at_once(20, lambda: _call(monitor, expected))
    assert came["made"] == made
    assert monitor.get_usage_report().tokens == made * SIZE
    assert _holds_nothing(monitor)


@pytest.mark.parametrize("limit", [{"max_api_calls": 3}, {"max_api_calls": 3, "max_tokens": 10**6}])
def test_calls_are_counted_exactly(make: Make, limit: dict[str, int]) -> None:
    monitor = make(_only(**limit))
    assert _at_once(20, lambda: _call(monitor, Expected(10, 10)))["made"] == 3


@pytest.mark.parametrize(("room", "made"), [(1, 1), (10, 10)])
def test_of_twenty_calls_in_tasks_as_many_are_made_as_fit(make: Make, room: int, made: int) -> None:
    monitor = make(_only(max_tokens=room * SIZE))

    async def one() -> None:
        call = await ReportedCall.begin(SCOPE, monitor)
        await asyncio.sleep(0)
        call.close(input=100, output=50)

    async def all_at_once() -> list[BaseException | None]:
        return await asyncio.gather(*(one() for _ in range(20)), return_exceptions=True)

    results = asyncio.run(asyncio.wait_for(all_at_once(), DEADLINE))
    assert results.count(None) == made
    assert all(isinstance(each, BudgetExceeded) for each in results if each is not None)
    assert monitor.get_usage_report().tokens == made * SIZE
    assert _holds_nothing(monitor)


def test_what_a_call_tries_after_one_that_failed_is_a_further_call(make: Make) -> None:
    """Of three that hold the room for three, none has a second attempt that nobody holds."""
    monitor = make(_only(max_api_calls=3))
    outer = [ReportedCall(SCOPE, monitor) for _ in range(2)]
    with outer[0].around():
        ReportedCall("within", monitor).close(failed=True)
        ReportedCall("within", monitor).close(input=100, output=50)
    with outer[1].around():
        ReportedCall("within", monitor).close(failed=True)
        with pytest.raises(BudgetExceeded):
            ReportedCall("within", monitor)
    for each in outer:
        each.close(failed=True)
    assert monitor.get_usage_report().api_calls == 3
    assert _holds_nothing(monitor)


def test_a_call_that_a_reservation_pays_for_is_one_whoever_tells_of_it(make: Make) -> None:
    monitor = make(_only(max_api_calls=1))
    with monitor, monitor.reserve():
        outer = ReportedCall(SCOPE, monitor)
        with outer.around():
            ReportedCall("within", monitor).close(input=100, output=50)
        outer.close(input=100, output=50)
    assert monitor.get_usage_report().api_calls == 1


def test_a_further_attempt_in_another_thread_does_not_wait_for_its_own_call(make: Make) -> None:
    """LiteLLM makes fallbacks in threads of its own."""
    monitor, came = make(_only(max_api_calls=2)), list[object]()
    outer, _other = [ReportedCall(SCOPE, monitor) for _ in range(2)]

    def attempt() -> None:
        try:
            came.append(ReportedCall("within", monitor))
        except BudgetExceeded as stop:
            came.append(stop.verdict.reason)

    with outer.around():
        ReportedCall("within", monitor).close(failed=True)
        thread = threading.Thread(target=contextvars.copy_context().run, args=(attempt,))
        thread.start()
        thread.join(DEADLINE)
    assert came == ["budget_busy"]


def test_what_others_hold_is_busy_and_what_does_not_fit_at_all_is_not(make: Make) -> None:
    monitor = make(_only(max_tokens=1000))
    with monitor.reserve(tokens=600) as held:
        assert (held.tokens, held.api_calls) == (600, 1)
        with (
            pytest.raises(BudgetExceeded, match=r"600 held by 1 call under way") as busy,
            monitor.reserve(tokens=600),
        ):
            pass
        monitor.record_operation(tokens=250, api_call=True)
        assert (held.tokens, held.api_calls) == (350, 0)
        assert monitor.should_continue()
    assert busy.value.verdict.reason == Reason.BUDGET_BUSY
    assert _holds_nothing(monitor)
    with (
        pytest.raises(BudgetExceeded, match="it does not fit") as large,
        monitor.reserve(tokens=800),
    ):
        pass
    assert large.value.verdict.reason == Reason.WRAP_UP
    with (
        pytest.raises(BudgetExceeded, match="the whole limit is 1,000"),
        monitor.reserve(tokens=1001),
    ):
        pass
    with monitor.reserve(tokens=750):
        pass


def test_money_is_held_too(make: Make) -> None:
    monitor = make(_only(max_cost_usd=1))
    with monitor.reserve(cost_usd=Decimal("0.7")) as held:
        monitor.record_operation(tokens=10, api_call=True, cost_usd=Decimal("0.2"))
        assert held.cost_usd == Decimal("0.5")
        with pytest.raises(BudgetExceeded, match=r"\$0\.5"), monitor.reserve(cost_usd=0.31):
            pass
        with monitor.reserve(cost_usd=0.3):
            pass


def test_a_phase_inside_a_reservation_is_paid_by_it(make: Make) -> None:
    monitor = make(_only(max_tokens=1000))
    with monitor.reserve(tokens=600) as held, monitor.phase("plan"):
        monitor.record_operation(tokens=100, api_call=True)
        assert held.tokens == 500


def test_a_call_inside_a_reservation_is_paid_by_it_and_further_ones_by_what_is_left(
    make: Make,
) -> None:
    monitor = make(_only(max_tokens=1000))
    _call(monitor)
    with monitor.reserve(tokens=850) as held:
        _call(monitor)
        assert held.tokens == 700
        _call(monitor)
        assert held.tokens == 550 + SIZE - SIZE
    assert monitor.get_usage_report().tokens == 3 * SIZE
    assert _holds_nothing(monitor)


def test_an_inner_call_of_another_adapter_shares_what_the_outer_one_holds(make: Make) -> None:
    monitor = make(_only(max_tokens=SIZE, max_api_calls=1))
    outer = ReportedCall(SCOPE, monitor)
    with outer.around():
        inner = ReportedCall("otel_budget.other", monitor)
        inner.close(input=100, output=50)
    outer.close(input=100, output=50)
    assert monitor.get_usage_report().tokens == SIZE
    assert _holds_nothing(monitor)


def test_a_stream_left_open_does_not_hold_up_the_next_call_of_its_own_thread(make: Make) -> None:
    monitor = make(_only(max_tokens=10_000))
    left = ReportedCall(SCOPE, monitor)  # all that is left: nothing is known of it
    _call(monitor)
    _call(monitor)
    left.close(input=1, output=1)
    assert _holds_nothing(monitor)


def test_calls_that_begin_together_in_one_thread_do_not_wait_for_each_other(make: Make) -> None:
    monitor = make(_only(max_tokens=3 * SIZE))
    _call(monitor)
    begun = [ReportedCall(SCOPE, monitor) for _ in range(2)]
    with pytest.raises(BudgetExceeded) as refused:
        ReportedCall(SCOPE, monitor)
    assert refused.value.verdict.reason == Reason.BUDGET_BUSY
    for call in begun:
        call.close(input=100, output=50)


def test_in_an_event_loop_a_call_that_cannot_wait_is_refused_at_once(make: Make) -> None:
    monitor = make(_only(max_tokens=2 * SIZE))
    _call(monitor)

    async def other() -> Reason | str:
        try:
            _call(monitor)
        except BudgetExceeded as exc:
            return exc.verdict.reason
        return "made"

    async def both() -> Reason | str:
        first = ReportedCall(SCOPE, monitor)
        came = await asyncio.create_task(other())
        first.close(input=100, output=50)
        return came

    assert asyncio.run(both()) == Reason.BUDGET_BUSY


@pytest.mark.parametrize(("limit", "made"), [(1_000_000, 16), (10_000, 2), (SIZE, 1)])
def test_first_calls_at_once_that_cannot_wait_are_refused_only_near_a_limit(
    make: Make, limit: int, made: int
) -> None:
    """Nothing is known of their size yet, and nothing bounds their answers: a usual one is held."""
    monitor = make(_only(max_tokens=limit))

    async def begin() -> ReportedCall | None:
        try:
            return ReportedCall(SCOPE, monitor, expected=Expected(input_tokens=100))
        except BudgetExceeded:
            return None

    async def at_once() -> int:
        calls = await asyncio.gather(*(begin() for _ in range(16)))
        begun = [call for call in calls if call is not None]
        for call in begun:
            call.close(input=100, output=50)
        return len(begun)

    assert asyncio.run(at_once()) == made


@pytest.mark.parametrize("failed", [True, False])
def test_a_call_that_failed_or_was_none_gives_all_of_it_back(make: Make, failed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    monitor = make(_only(max_tokens=2 * SIZE))
    call = ReportedCall(SCOPE, monitor)
    if failed:
        call.close(failed=True)
    else:
        call.cancel()
    assert _holds_nothing(monitor)


@pytest.mark.parametrize(
    "begin",
    [
        lambda monitor: ReportedCall(SCOPE, monitor),
        lambda monitor: contextvars.Context().run(monitor.reserve(tokens=100).__enter__),
    ],
)
def test_what_is_dropped_without_an_end_gives_all_of_it_back(
    make: Make, begin: Callable[[ResourceMonitor], object]
) -> None:
    monitor = make(_only(max_tokens=2 * SIZE, max_api_calls=1))
    begin(monitor)
    gc.collect()
    assert _holds_nothing(monitor)


def test_who_stops_waiting_as_room_is_found_for_it_leaves_none_of_it_held(make: Make) -> None:
    monitor = make(_only(max_tokens=1000))
    room = monitor.usage_sink.room
    assert room is not None
    request, guarded = request_of(900, 1, None), threading.Event()
    with monitor.reserve(tokens=900) as held:
        waiter = Slow(room, request, guarded)
        assert isinstance(room.take(request, None, waiter), Short)
        server = threading.Thread(target=held.end)
        server.start()
        assert guarded.wait(DEADLINE)  # it has been taken out of the queue, and not been answered
        found = waiter.outcome()
        server.join(DEADLINE)
    assert isinstance(found, Reservation)
    found.end()
    assert _holds_nothing(monitor)


class Slow(Waiter):
    """One who hears of an answer late."""

    def __init__(self, room: Room, request: Request, begins: threading.Event) -> None:
        super().__init__(room, request, lambda: None)
        self._begins = begins

    def answer(self, found: Reservation | Short | None) -> None:
        self._begins.set()
        threading.Event().wait(0.05)  # for the other thread to ask, if it does not wait
        super().answer(found)


def test_one_who_waits_is_served_in_order_and_when_a_limit_is_raised(make: Make) -> None:
    monitor = make(_only(max_tokens=1000))
    order: list[int] = []
    queue = monitor.usage_sink.room.waiting  # type: ignore[union-attr] # it has one

    def wait(number: int) -> None:
        with monitor.reserve(tokens=900, timeout=DEADLINE):
            order.append(number)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(3)]
    with monitor.reserve(tokens=900):
        for number, thread in enumerate(threads):
            thread.start()
            _until(partial(_has, queue, number + 1))
        with pytest.raises(BudgetExceeded) as behind, monitor.reserve(tokens=50):
            pass
        assert behind.value.verdict.reason == Reason.BUDGET_BUSY
        assert order == []
        monitor.update_limits(max_tokens=1900)
        _until(lambda: order == [0, 1, 2])
    for thread in threads:
        thread.join(DEADLINE)
    assert _holds_nothing(monitor)


def test_nobody_waits_for_room_of_a_run_that_is_closed(make: Make) -> None:
    monitor = make(_only(max_tokens=1000))
    room, came = monitor.usage_sink.room, []

    def wait() -> None:
        with pytest.raises(BudgetExceeded) as refused, monitor.reserve(tokens=900, timeout=None):
            pass
        came.append(refused.value.verdict.reason)

    thread = threading.Thread(target=wait, daemon=True)
    with monitor.reserve(tokens=900):
        thread.start()
        while not room.waiting:  # type: ignore[union-attr] # it has one
            threading.Event().wait(0.001)
        monitor.close()
        thread.join(DEADLINE)
    assert came == [Reason.BUDGET_BUSY]


def test_one_who_waits_is_refused_when_the_run_stops(make: Make) -> None:
    monitor = make(_only(max_tokens=1000))
    came: list[Reason | str] = []

    def wait() -> None:
        try:
            with monitor.reserve(tokens=900, timeout=None):
                pass
        except BudgetExceeded as exc:
            came.append(exc.verdict.reason)

    thread = threading.Thread(target=wait)
    with monitor.reserve(tokens=900):
        thread.start()
        _until(lambda: len(monitor.usage_sink.room.waiting) == 1)  # type: ignore[union-attr] # it has one
        monitor.record_operation(tokens=1000, api_call=True)
        thread.join(DEADLINE)
    assert came == [Reason.LIMIT_EXCEEDED]


def test_a_wait_in_a_loop_that_is_cancelled_leaves_nothing_behind(make: Make) -> None:
    monitor = make(_only(max_tokens=1000))
    room = monitor.usage_sink.room

    async def wait() -> None:
        async with monitor.reserve(tokens=900, timeout=None):
            pass

    async def play() -> None:
        async with monitor.reserve(tokens=900):
            context = asyncio.create_task(_outside(wait))
            while not room.waiting:  # type: ignore[union-attr] # noqa: ASYNC110 - it has one, and no event
                await asyncio.sleep(0.001)
            context.cancel()
            with pytest.raises(asyncio.CancelledError):
                await context
        assert not room.waiting  # type: ignore[union-attr] # it has one

    asyncio.run(asyncio.wait_for(play(), DEADLINE))
    assert _holds_nothing(monitor)


async def _outside(work: Callable[[], Coroutine[None, None, None]]) -> None:
    """Do something as a task that was begun outside of every reservation."""
    task = contextvars.Context().run(lambda: asyncio.ensure_future(work()))
    try:
        await task
    except asyncio.CancelledError:
        task.cancel()
        raise


def test_who_holds_something_never_waits(make: Make) -> None:
    monitor = make(_only(max_tokens=1000))
    with (
        monitor.reserve(tokens=600),
        pytest.raises(BudgetExceeded) as busy,
        monitor.reserve(tokens=500, timeout=None),
    ):
        pass
    assert busy.value.verdict.reason == Reason.BUDGET_BUSY


def test_a_runs_calls_are_held_of_all_runs_above_it_or_of_none(make: Make) -> None:
    parent = make(_only(max_tokens=1000))
    one, other = make(_only(max_tokens=800), parent=parent), make(parent=parent)
    with one.reserve(tokens=700):
        with (
            pytest.raises(BudgetExceeded, match=f"of run {parent.session_id}"),
            other.reserve(tokens=400),
        ):
            pass
        assert _holds_nothing(other)
        with other.reserve(tokens=300):
            other.record_operation(tokens=300, api_call=True)
    assert all(map(_holds_nothing, (parent, one, other)))
    assert parent.get_tokens_remaining() == 700


def test_ordinary_calls_leave_what_is_kept_back_for_the_last_ones(make: Make) -> None:
    monitor = make(_only(max_api_calls=5, wrap_up_calls=2))
    came = _at_once(10, lambda: _call(monitor))
    assert came["made"] == 3
    with monitor.wrap_up():
        assert _at_once(10, lambda: _call(monitor))["made"] == 2
    assert monitor.get_usage_report().api_calls == 5


@pytest.mark.parametrize("kept", [0, 1])
def test_a_call_refused_for_want_of_room_may_be_made_as_the_last_one(make: Make, kept: int) -> None:
    monitor = make(_only(max_tokens=1000, wrap_up_calls=kept))
    for _ in range(4 - kept):
        monitor.record_operation(tokens=205, api_call=True)

    def call() -> None:
        with monitor.reserve():
            monitor.record_operation(tokens=205, api_call=True)

    refused = _until_refused(call).verdict
    assert refused.reason == Reason.WRAP_UP
    with monitor.wrap_up() as allowed:
        assert allowed is not None
        assert refused.wrap_up is not None
        assert allowed.tokens == refused.wrap_up.tokens
        ReportedCall(SCOPE, monitor).close(input=100, output=70)
    assert monitor.verdict.reason == Reason.WRAP_UP
    with pytest.raises(BudgetExceeded):
        _call(monitor)


@pytest.mark.parametrize("by_hand", [True, False])
def test_calls_of_others_that_were_under_way_use_nothing_of_a_wrap_up(
    make: Make,
    by_hand: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    monitor = make(_only(max_tokens=100_000))
    for _ in range(8):
        monitor.record_operation(tokens=10_000, api_call=True)
    began, ends = threading.Event(), threading.Event()

    def under_way() -> None:
        if by_hand:
            with monitor.reserve():
                began.set()
                ends.wait(DEADLINE)
                monitor.record_operation(tokens=1000, api_call=True)
            return
        call = ReportedCall(SCOPE, monitor)
        began.set()
        ends.wait(DEADLINE)
        call.close(input=900, output=100)

    other = threading.Thread(target=under_way)
    other.start()
    assert began.wait(DEADLINE)
    assert not monitor.should_continue(0.1)
    with monitor.wrap_up():
        ends.set()
        other.join(DEADLINE)
        assert monitor.should_continue()
        _call(monitor)
        assert not monitor.should_continue()
    assert _holds_nothing(monitor)
    assert monitor.get_usage_report().api_calls == 10
    assert monitor._record.wrap_ups == {"done": 1}


def test_what_holds_around_a_wrap_up_pays_for_no_more_last_calls_than_are_allowed(
    make: Make,
) -> None:
    monitor = make(_only(max_tokens=100_000, max_api_calls=20))
    for _ in range(7):
        monitor.record_operation(tokens=10_000, api_call=True)
    with monitor.reserve(tokens=12_000, api_calls=8):
        monitor.record_operation(tokens=10_000, api_call=True)
        assert not monitor.should_continue(0.1)
        with monitor.wrap_up():
            _call(monitor)
            with pytest.raises(BudgetExceeded):
                _call(monitor)


def test_a_refusal_is_forgotten_once_there_is_another_limit(make: Make) -> None:
    monitor = make(_only(max_tokens=1000))
    for _ in range(4):
        monitor.record_operation(tokens=205, api_call=True)
    with pytest.raises(BudgetExceeded):
        _call(monitor)
    monitor.update_limits(max_tokens=10_000)
    with monitor.wrap_up() as allowed:
        assert allowed is None


@pytest.mark.parametrize("seed", range(60))
def test_where_last_calls_are_allowed_one_is_let_through(make: Make, seed: int) -> None:
    monitor, sizes = make(_only(max_tokens=20_000, wrap_up_calls=seed % 3)), Random(seed)

    def call() -> None:
        reported = ReportedCall(SCOPE, monitor)
        reported.close(input=int(1000 * (0.5 + sizes.random())), output=50)

    if _until_refused(call).verdict.wrap_up is not None:
        with monitor.wrap_up():
            call()


def test_amounts_are_checked(make: Make) -> None:
    monitor = make(_only(max_tokens=1000))
    for wrong in ({"tokens": -1}, {"api_calls": 1.5}, {"cost_usd": "1"}, {"timeout": -1}):
        with pytest.raises(InvalidValueError, match=next(iter(wrong))):
            monitor.reserve(**wrong)


def test_a_run_without_limits_holds_and_refuses_nothing(make: Make) -> None:
    monitor = make(_only())
    assert _at_once(20, lambda: _call(monitor))["made"] == 20
    with monitor.reserve(tokens=10**9):
        pass


def _has(queue: Collection[object], number: int) -> bool:
    return len(queue) == number


def _until(true: Callable[[], bool]) -> None:
    ended = threading.Event()
    for _ in range(DEADLINE * 200):
        if true():
            return
        ended.wait(0.005)
    raise AssertionError("it did not come to that")
