"""Counts are exact, whoever counts: threads, tasks, and both against each other."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal

import pytest

from otel_budget import ResourceLimits, ResourceMonitor, semconv
from otel_budget.sdk.metrics.families import session_families

THREADS, RECORDS = 8, 100_000
UNLIMITED = ResourceLimits(max_duration_seconds=None, max_tokens=None, max_api_calls=None)


@pytest.fixture
def switching() -> Iterator[None]:
    """Let threads take turns far more often than usual: what can go wrong shall go wrong."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


def sums(monitor: ResourceMonitor) -> dict[str, float]:
    """Return what the breakdown by phase and model adds up to, by metric, and the totals."""
    found: dict[str, float] = {}
    for family in session_families([[monitor._record]]):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def check(monitor: ResourceMonitor, tokens: int, calls: int, cost: Decimal) -> None:
    """Hold totals and sums of the parts against what was recorded."""
    usage, found = monitor.get_usage_report(), sums(monitor)
    assert (usage.tokens, usage.api_calls, usage.cost_usd) == (tokens, calls, cost)
    assert found[semconv.SESSION_TOKENS.name] == found[semconv.PHASE_TOKENS.name] == tokens
    assert found[semconv.SESSION_API_CALLS.name] == found[semconv.PHASE_API_CALLS.name] == calls
    if cost:
        total, parts = (found[m.name] for m in (semconv.SESSION_COST, semconv.PHASE_COST))
        assert total == parts == float(cost)


def in_threads(work: list[threading.Thread]) -> None:
    """Run them all at once."""
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()


def test_eight_threads_with_a_hundred_thousand_records_each_count_exactly() -> None:
    """Totals, and the sums of what each phase counted."""
    monitor = ResourceMonitor(UNLIMITED)

    def record(number: int) -> None:
        with monitor.phase(f"phase-{number % 3}"):
            for tokens in range(RECORDS):
                monitor.record_operation(tokens, api_call=True)

    in_threads([threading.Thread(target=record, args=(n,)) for n in range(THREADS)])
    check(monitor, THREADS * RECORDS * (RECORDS - 1) // 2, THREADS * RECORDS, Decimal(0))
    assert {phase for phase, _ in monitor._record.counters_by_phase} == {
        "unspecified", "phase-0", "phase-1", "phase-2",
    }  # fmt: skip
    monitor.close(timeout=0)


@pytest.mark.usefixtures("switching")
def test_records_in_detail_count_exactly_under_questions_and_reports() -> None:
    """While others ask, check, report, change the limits and enter phases."""
    monitor = ResourceMonitor(ResourceLimits(max_tokens=5_000_000, max_cost_usd=Decimal(50)))
    over = threading.Event()
    each = 5000

    def record(number: int) -> None:
        for _ in range(each):
            with monitor.phase(f"p{number}"):
                monitor.record_operation(
                    input_tokens=20, output_tokens=7, cache_read_tokens=9, reasoning_tokens=3,
                    api_call=True, model=f"m{number % 2}", cost_usd=Decimal("0.001"),
                )  # fmt: skip

    def ask() -> None:
        limits = 0
        while not over.is_set():
            monitor.should_continue(0.9)
            monitor.check_limits()
            monitor.get_usage_summary()
            limits += 1
            monitor.update_limits(max_tokens=4_000_000 + limits % 7)

    asker = threading.Thread(target=ask)
    asker.start()
    in_threads([threading.Thread(target=record, args=(n,)) for n in range(4)])
    over.set()
    asker.join()
    check(monitor, 4 * each * 27, 4 * each, Decimal("0.001") * 4 * each)
    usage = monitor.get_usage_report()
    assert (usage.input_tokens, usage.output_tokens) == (4 * each * 20, 4 * each * 7)
    assert (usage.cache_read_tokens, usage.reasoning_tokens) == (4 * each * 9, 4 * each * 3)
    monitor.close(timeout=0)


def test_a_thousand_tasks_count_exactly_each_into_its_own_phase() -> None:
    """However they interleave, together with threads that asyncio runs."""
    monitor = ResourceMonitor(UNLIMITED)

    async def work(number: int) -> None:
        with monitor.phase(f"phase-{number % 10}"):
            for _ in range(20):
                monitor.record_operation(1, api_call=True)
                await asyncio.sleep(0)
            await asyncio.to_thread(monitor.record_operation, 100)

    async def everybody() -> None:
        await asyncio.gather(*(work(number) for number in range(1000)))

    asyncio.run(everybody())
    check(monitor, 1000 * 120, 1000 * 20, Decimal(0))
    by_phase = {
        phase: counters.read().unspecified_tokens
        for (phase, _), counters in monitor._record.counters_by_phase.items()
    }
    assert by_phase == {"unspecified": 0, **{f"phase-{n}": 12_000 for n in range(10)}}
    monitor.close(timeout=0)


@pytest.mark.usefixtures("switching")
def test_a_limit_that_threads_race_to_is_warned_of_once_each_and_told_to_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Approaching once, exceeded once; and every thread hears the stop."""
    monitor = ResourceMonitor(ResourceLimits(max_tokens=10_000, max_api_calls=None))
    stopped = threading.Semaphore(0)

    def record() -> None:
        while monitor.should_continue():
            monitor.record_operation(1)
        stopped.release()

    in_threads([threading.Thread(target=record) for _ in range(THREADS)])
    assert all(stopped.acquire(blocking=False) for _ in range(THREADS))
    said = [record.getMessage() for record in caplog.records if "tokens at" in record.getMessage()]
    assert sum("approaching: tokens" in line for line in said) == 1
    assert sum("exceeded: tokens" in line for line in said) == 1
    assert 10_000 <= monitor.get_usage_report().tokens < 10_000 + THREADS
    monitor.close(timeout=0)


@pytest.mark.usefixtures("switching")
def test_a_forecast_under_threads_is_of_whole_calls() -> None:
    """Each used 100 tokens, so a limit has room for a hundredth of what is left as calls."""
    monitor = ResourceMonitor(ResourceLimits.only(max_tokens=10**9))
    over = threading.Event()
    wrong: list[float] = []

    def record() -> None:
        for _ in range(5000):
            monitor.record_operation(100, api_call=True)

    def ask() -> None:
        while not over.is_set():
            room = monitor.get_tokens_remaining()
            left = monitor.forecast()["tokens"].calls_left
            if left is not None and room is not None and not 0.98 < left.value * 100 / room < 1.02:
                wrong.append(left.value)

    monitor.record_operation(100, api_call=True)
    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    in_threads([threading.Thread(target=record) for _ in range(4)])
    over.set()
    for asker in askers:
        asker.join()
    assert wrong == []
    check(monitor, 100 * 20_001, 20_001, Decimal(0))
    monitor.close(timeout=0)
