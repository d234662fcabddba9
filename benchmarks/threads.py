"""One session used by 8 threads: what it costs, and that not one token is lost."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry

from benchmarks.report import Goal, Report
from benchmarks.rounds import Contestant, steps, take_turns
from otel_budget import ResourceLimits, ResourceMonitor, serve_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_THREADS = 8
_RECORDS = 100_000
_TOKENS, _COST = 7, Decimal("0.0001")
_FAR = 10**15
_LEAST = 8_000
"""Operations worth starting 8 threads for."""
_OFTEN = 1e-5
"""Seconds between two switches of threads, so that a race that is there is hit."""

_ONE, _MANY = "record, 1 thread", f"record, {_THREADS} threads"
_OTEL_ONE = "two OpenTelemetry Counter.add, 1 thread"
_OTEL_MANY = f"two OpenTelemetry Counter.add, {_THREADS} threads"

_ALIKE = {_ONE: _OTEL_ONE, _MANY: _OTEL_MANY, _OTEL_ONE: _OTEL_ONE, _OTEL_MANY: _OTEL_MANY}


def run(*, quick: bool) -> Report:
    """Measure, then count with threads that switch all the time."""
    with serve_metrics(port=0):
        monitor = _monitor("bench-threads")
        record, add = _recorder(monitor), _adder()
        contestants = [
            Contestant(_ONE, record),
            Contestant(_MANY, lambda times: _in_threads(record, times), least=_LEAST),
            Contestant(_OTEL_ONE, add),
            Contestant(_OTEL_MANY, lambda times: _in_threads(add, times), least=_LEAST),
        ]
        rounds = 5 if quick else 40
        timings = take_turns(contestants, rounds=rounds, turn=0.08, label="threads")
        monitor.close(timeout=0)
        lost = [_lost(records=_RECORDS) for _ in steps(2 if quick else 5, "exact totals")]
    rows = tuple(
        (
            one.name,
            timings.seconds(one.name).text(1e9, 0),
            timings.ratio(one.name, _ONE).text(),
            timings.ratio(one.name, _ALIKE[one.name]).text(digits=3),
        )
        for one in contestants
    )
    return Report(
        title=f"One session, {_THREADS} threads",
        about=(
            "Wall-clock time of one record, over all threads. Exact totals: "
            f"{_THREADS} threads of {_RECORDS:,} records each, half of them in detail and with a "
            f"cost, told to switch every {_OFTEN * 1e6:.0f} µs; {len(lost)} times."
        ),
        columns=("", "ns", "of 1 thread", "of two Counter.add, threads alike"),
        rows=rows,
        goals=(Goal("tokens, calls and dollars lost or made up", float(max(lost)), 0, 0),),
    )


def _monitor(session_id: str) -> ResourceMonitor:
    limits = ResourceLimits(max_duration_seconds=10**6, max_tokens=_FAR, max_api_calls=_FAR)
    return ResourceMonitor(limits, session_id=session_id)


def _recorder(monitor: ResourceMonitor) -> Callable[[int], None]:
    def work(times: int) -> None:
        count = monitor.record_operation
        for _ in range(times):
            count(tokens=_TOKENS, api_call=True)

    return work


def _adder() -> Callable[[int], None]:
    reader = PrometheusMetricReader(registry=CollectorRegistry())
    meter = MeterProvider(metric_readers=[reader]).get_meter("benchmarks")
    tokens, calls = meter.create_counter("tokens"), meter.create_counter("calls")
    attributes = {"session_id": "bench-threads"}

    def work(times: int) -> None:
        for _ in range(times):
            tokens.add(_TOKENS, attributes)
            calls.add(1, attributes)

    return work


def _in_threads(work: Callable[[int], None], times: int, threads: int = _THREADS) -> None:
    """Share the work out; the first threads take what does not divide."""
    shares = [times // threads + (number < times % threads) for number in range(threads)]
    workers = [threading.Thread(target=work, args=(share,)) for share in shares]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def _lost(*, records: int) -> Decimal:
    """Return how far the totals are from what the threads recorded; assert that they are exact."""
    monitor = _monitor("bench-exact")
    plain = _recorder(monitor)

    def detailed(times: int) -> None:
        for _ in range(times):
            monitor.record_operation(
                api_call=True, input_tokens=_TOKENS - 2, output_tokens=2, cost_usd=_COST
            )

    half = _THREADS // 2
    with _switching_often():
        workers = [
            threading.Thread(target=_in_threads, args=(work, records * half, half))
            for work in (plain, detailed)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    usage = monitor.get_usage_report()
    monitor.close(timeout=0)
    total, in_detail = records * _THREADS, records * half
    differences = (
        usage.tokens - total * _TOKENS,
        usage.api_calls - total,
        usage.output_tokens - in_detail * 2,
        usage.cost_usd - in_detail * _COST,
    )
    assert not any(differences), f"not exact, off by {differences}"
    return sum((abs(Decimal(difference)) for difference in differences), Decimal(0))


@contextmanager
def _switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(_OFTEN)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
