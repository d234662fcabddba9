"""Signals, finalizers and exceptions from other threads in the middle of records: all is exact."""

from __future__ import annotations

import ctypes
import gc
import signal
import threading
import time
from decimal import Decimal
from typing import Any

import pytest

from otel_budget import ResourceMonitor
from tests.support.monitors import Make

PRICED: dict[str, Any] = {
    "model": "gpt-4o", "provider": "openai", "input_tokens": 5, "output_tokens": 2,
}  # fmt: skip
UNLIMITED: dict[str, Any] = {
    "max_duration_seconds": None, "max_tokens": None, "max_api_calls": None,
}  # fmt: skip


def exact(monitor: ResourceMonitor, calls: int, cost: Decimal | None = None) -> None:
    """Hold totals and breakdown against what was recorded."""
    used, counts = monitor.get_usage_report(), monitor._record.counted()
    assert (used.api_calls, used.tokens) == (calls, 7 * calls)
    assert (counts.api_calls, counts.tokens, counts.cost_usd) == (calls, 7 * calls, used.cost_usd)
    assert cost is None or used.cost_usd == calls * cost


def test_calls_that_a_signal_handler_and_a_finalizer_record_are_counted_to_the_last(
    make: Make,
) -> None:
    """While others are recorded, priced ones too, thousands of times."""
    monitor, came = make(**UNLIMITED), [0]
    monitor.record_operation(**PRICED, api_call=True)
    each = monitor.get_usage_report().cost_usd

    class Falling:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            handle()

    def handle(*_: object) -> None:
        monitor.record_operation(**PRICED, api_call=True)
        came[0] += 1

    before = signal.signal(signal.SIGALRM, handle)
    threshold = gc.get_threshold()
    gc.set_threshold(50)
    made = 1
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            Falling()
            monitor.record_operation(**PRICED, api_call=True)
            made += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.set_threshold(*threshold)
    gc.collect()
    assert came[0] > 500
    exact(monitor, made + came[0], each)


# The first of them loads the price list: an exception in an import leaves its file unclosed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_records_that_another_thread_raises_an_exception_into_are_whole_or_not_there(
    make: Make,
) -> None:
    """Hundreds of times: what was counted agrees with itself, and nobody waits for a lock."""
    monitor = make(**UNLIMITED)
    over, recording, caught = threading.Event(), threading.Event(), [0]

    def record_on() -> None:
        recording.set()
        while not over.is_set():
            monitor.record_operation(**PRICED, api_call=True)
            monitor.record_operation(7, api_call=True)

    def record() -> None:
        while not over.is_set():
            try:
                record_on()
            except KeyboardInterrupt:
                recording.clear()
                caught[0] += 1

    thread = threading.Thread(target=record, daemon=True)
    thread.start()
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    assert thread.ident is not None
    end = time.monotonic() + 0.7
    while time.monotonic() < end:
        assert recording.wait(10)
        seen = caught[0]
        raise_in(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt))
        while caught[0] == seen and time.monotonic() < end + 5:
            time.sleep(0.0005)
    over.set()
    thread.join(10)
    monitor.record_operation(7, api_call=True)
    assert caught[0] > 20
    exact(monitor, monitor.get_usage_report().api_calls)
