"""The orchestrator for asyncio: as the other one, and a phase under way may be cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from otel_budget import AsyncOrchestrator, PhaseFailedError, PhaseResult, ResourceMonitor, RunResult
from otel_budget.errors import InvalidValueError


def limited(tokens: int, **options: Any) -> AsyncOrchestrator:
    """Return an orchestrator with a limit of tokens."""
    return AsyncOrchestrator({"resource_limits": {"max_tokens": tokens}}, **options)


def using(tokens: int, value: Any = None) -> Any:
    """Return a phase that uses tokens, and returns its own value."""

    async def work(_monitor: ResourceMonitor) -> PhaseResult:
        await asyncio.sleep(0)
        return PhaseResult(value or tokens, {"tokens": tokens, "api_call": True})

    return work


async def too_much(monitor: ResourceMonitor) -> str:
    """Use more than there is, and go on."""
    monitor.record_operation(5000)
    await asyncio.sleep(0)
    return "all of it"


async def endless(monitor: ResourceMonitor) -> None:
    """Use more than there is, and never end."""
    monitor.record_operation(5000)
    await asyncio.Event().wait()


def run(orchestrator: AsyncOrchestrator, phases: Any, **options: Any) -> RunResult:
    """Run phases in a loop of their own."""
    return asyncio.run(orchestrator.run(phases, **options))


def test_coroutines_and_functions_run_in_order_and_are_counted() -> None:
    orchestrator = limited(1000)
    result = run(orchestrator, {"one": using(10), "two": lambda _monitor: 2, "three": using(5, 3)})
    assert (result.outcome, result.remaining) == ("completed", ())
    assert list(result.results.items()) == [("one", 10), ("two", 2), ("three", 3)]
    assert result.summary["tokens"]["used"] == 15
    assert orchestrator.monitor._record.state == "completed"


def test_a_run_near_its_limit_stops_before_the_next_phase_with_what_it_has() -> None:
    result = run(limited(1000), {"one": using(900), "two": using(1)})
    assert (result.outcome, result.remaining) == ("stopped", ("two",))
    assert result.results == {"one": 900}
    assert result.verdict.reason == "approaching_limit"


def test_a_phase_goes_on_to_its_end_where_nothing_is_cancelled() -> None:
    result = run(limited(1000), {"one": too_much, "two": using(1)})
    assert (result.outcome, result.results) == ("stopped", {"one": "all of it"})


def test_a_phase_under_way_is_cancelled_if_that_is_asked_for() -> None:
    result = run(limited(1000), {"one": using(1), "two": endless}, cancel_after=0)
    assert (result.outcome, result.results) == ("stopped", {"one": 1})
    assert result.remaining == ("two",)
    assert result.verdict.reason == "limit_exceeded"


def test_a_phase_that_returns_what_it_has_when_it_is_cancelled_keeps_it() -> None:
    async def work(monitor: ResourceMonitor) -> str:
        with suppress(asyncio.CancelledError):
            await endless(monitor)
        return "half"

    result = run(limited(1000), {"one": work, "two": using(1)}, cancel_after=0)
    assert (result.outcome, result.results) == ("stopped", {"one": "half"})


def test_a_phase_that_asks_by_itself_stops_the_run() -> None:
    async def work(monitor: ResourceMonitor) -> None:
        monitor.record_operation(5000)
        monitor.raise_if_stopped()

    result = run(limited(1000), {"one": using(1), "two": work})
    assert (result.outcome, result.results) == ("stopped", {"one": 1})


def test_a_phase_that_fails_keeps_what_was_done_before() -> None:
    async def broken(_monitor: ResourceMonitor) -> None:
        raise ValueError("no")

    with pytest.raises(PhaseFailedError) as caught:
        run(limited(1000), {"one": using(1), "two": broken})
    assert caught.value.result.results == {"one": 1}
    assert caught.value.result.outcome == "failed"
    assert isinstance(caught.value.__cause__, ValueError)


def test_cancelled_itself_it_ends_the_run_and_its_phase() -> None:
    orchestrator = limited(1000)

    async def outside() -> None:
        task = asyncio.ensure_future(
            orchestrator.run({"one": using(1), "two": lambda _: asyncio.sleep(30)})
        )
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(outside())
    assert orchestrator.monitor._record.closed_at is not None
    assert orchestrator.monitor.state == {"results": {"one": 1}}


def test_a_resumed_run_does_not_do_again_what_is_done(tmp_path: Path) -> None:
    first = run(
        limited(1000, session_id="again", project_root=tmp_path),
        {"one": using(900), "two": using(1)},
    )
    assert first.outcome == "stopped"
    again = AsyncOrchestrator.resume("again", tmp_path, {"resource_limits": {"max_tokens": 5000}})
    second = run(again, {"one": using(900), "two": using(1)})
    assert (second.outcome, second.results) == ("completed", {"one": 900, "two": 1})
    assert second.summary["tokens"]["used"] == 901


@pytest.mark.parametrize("phases", [{"wrap_up": using(1)}, [("a",)], {"": using(1)}, {"a": 1}])
def test_what_is_no_phase_is_refused_before_any_runs(phases: Any) -> None:
    with pytest.raises(InvalidValueError, match="phases"):
        run(limited(1000), phases)


def test_a_last_step_that_cannot_be_called_is_refused_before_any_phase() -> None:
    with pytest.raises(InvalidValueError, match="wrap_up"):
        run(limited(1000), {"one": using(1)}, wrap_up="summary")


def test_a_stopped_run_does_its_last_step_while_something_is_left() -> None:
    async def last(_monitor: ResourceMonitor, results: Mapping[str, Any]) -> PhaseResult:
        await asyncio.sleep(0)
        return PhaseResult(len(results), {"tokens": 50, "api_call": True})

    phases = {f"part {number}": using(85) for number in range(20)}
    result = run(limited(1000), phases, wrap_up=last)
    assert (result.outcome, result.wrapped_up) == ("stopped", 10)
    assert result.summary["tokens"]["used"] == 900


def test_a_last_step_that_fails_keeps_what_was_done_before() -> None:
    async def last(_monitor: ResourceMonitor, _results: Mapping[str, Any]) -> None:
        raise ValueError("no")

    phases = {f"part {number}": using(85) for number in range(20)}
    with pytest.raises(PhaseFailedError, match="wrap_up") as caught:
        run(limited(1000), phases, wrap_up=last)
    assert len(caught.value.result.results) == 10
