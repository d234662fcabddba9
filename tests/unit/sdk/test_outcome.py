"""``monitor.run``: a coroutine under a budget, cancelled at a stop, with what was finished."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from otel_budget import BudgetExceeded, Outcome, ResourceLimits, ResourceMonitor
from otel_budget.errors import InvalidValueError
from otel_budget.genai import attribution


def limited(**limits: Any) -> ResourceMonitor:
    """Return a monitor with a few limits."""
    return ResourceMonitor(ResourceLimits.only(**limits))


def spend_later(monitor: ResourceMonitor, tokens: int) -> None:
    """Use tokens a moment later, from elsewhere in the loop."""
    asyncio.get_running_loop().call_soon(monitor.record_operation, tokens)


def run(monitor: ResourceMonitor, work: Any, **options: Any) -> Outcome[Any]:
    """Run a coroutine function of the monitor."""
    return asyncio.run(monitor.run(work(monitor), **options))


def test_what_completes_is_its_value() -> None:
    async def work(monitor: ResourceMonitor) -> str:
        sink = attribution.current()
        assert sink is monitor.usage_sink, "its calls are the run's"
        await asyncio.sleep(0)
        return "answer"

    ended = run(limited(max_tokens=100), work)
    assert (ended.outcome, ended.value, ended.finished) == ("completed", "answer", "answer")
    assert ended.verdict.should_continue
    assert not ended.cut_short


def test_it_is_cancelled_when_the_run_is_told_to_stop() -> None:
    """What it kept in the monitor's state is what was finished."""

    async def work(monitor: ResourceMonitor) -> None:
        monitor.keep_state({"pages": 3})
        spend_later(monitor, 100)
        await asyncio.Event().wait()

    ended = run(limited(max_tokens=100), work)
    assert (ended.outcome, ended.value, ended.finished) == ("stopped", None, {"pages": 3})
    assert ended.cut_short
    assert ended.verdict.reason == "limit_exceeded"


def test_what_it_returns_when_it_is_cancelled_is_kept() -> None:
    async def work(monitor: ResourceMonitor) -> str:
        spend_later(monitor, 100)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as exc:
            return f"half, as it was told {exc}"
        return "all"

    ended = run(limited(max_tokens=100), work)
    assert (ended.outcome, ended.finished) == ("stopped", ended.value)
    assert "half, as it was told run" in str(ended.value)
    assert "tokens" in str(ended.value)
    assert ended.cut_short


def test_it_may_end_by_itself_within_the_time_it_is_given() -> None:
    """As an adapter does that makes a last call: stopped, and not cut short."""

    async def work(monitor: ResourceMonitor) -> str:
        spend_later(monitor, 100)
        await monitor.wait_for_stop_async()
        return "last answer"

    for given in (30.0, None):
        ended = run(limited(max_tokens=100), work, cancel_after=given)
        assert (ended.outcome, ended.value) == ("stopped", "last answer")
        assert not ended.cut_short


def test_a_stop_that_is_lifted_in_time_cancels_nothing() -> None:
    async def work(monitor: ResourceMonitor) -> str:
        monitor.record_operation(100)
        await asyncio.sleep(0.05)
        monitor.update_limits(max_tokens=1000)
        await asyncio.sleep(0.3)
        return "answer"

    ended = run(limited(max_tokens=100), work, cancel_after=0.2)
    assert (ended.outcome, ended.value) == ("completed", "answer")


def test_a_refused_call_is_a_stop_with_what_its_adapter_has() -> None:
    async def work(monitor: ResourceMonitor) -> None:
        monitor.record_operation(100)
        try:
            monitor.raise_if_stopped()
        except BudgetExceeded as exc:
            exc.finished = ["a message"]
            raise

    ended = run(limited(max_tokens=100), work, cancel_after=None)
    assert (ended.outcome, ended.finished) == ("stopped", ["a message"])
    assert ended.cut_short


def test_a_run_that_is_stopped_already_does_not_begin_it() -> None:
    begun = []

    async def work(_monitor: ResourceMonitor) -> None:
        begun.append(1)
        await asyncio.sleep(10)
        begun.append(2)

    monitor = limited(max_tokens=100)
    monitor.record_operation(100)
    assert run(monitor, work).outcome == "stopped"
    assert 2 not in begun


def test_its_own_error_comes_out() -> None:
    async def work(_monitor: ResourceMonitor) -> None:
        raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"):
        run(limited(max_tokens=100), work)


def test_cancelled_itself_it_cancels_and_waits_for_the_end() -> None:
    ended = []

    async def work(_monitor: ResourceMonitor) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0)
            ended.append("cleaned up")

    async def outside() -> None:
        monitor = limited(max_tokens=100)
        task = asyncio.ensure_future(monitor.run(work(monitor)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(outside())
    assert ended == ["cleaned up"]


def test_work_that_cancels_itself_is_cancelled_and_not_stopped() -> None:
    async def work(_monitor: ResourceMonitor) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run(limited(max_tokens=100), work)


def test_a_run_that_ends_meanwhile_cancels_nothing() -> None:
    async def work(monitor: ResourceMonitor) -> str:
        await asyncio.sleep(0)
        monitor.close()
        await asyncio.sleep(0.01)
        return "answer"

    assert run(limited(max_tokens=100), work).value == "answer"


def test_a_time_that_is_none_is_refused() -> None:
    async def work(_monitor: ResourceMonitor) -> None: ...

    with pytest.raises(InvalidValueError, match="cancel_after"):
        run(limited(max_tokens=100), work, cancel_after=-1.0)
