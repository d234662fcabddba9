"""Whatever comes in the middle of a record, at any instruction: nothing is lost, nothing is half.

A trace function comes at every instruction of the package in turn, as a signal handler, a finalizer
or a switch of greenlets may at some of them.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import otel_budget
from otel_budget import Prices, ResourceLimits, ResourceMonitor
from otel_budget.core.usage import ResourceUsage
from otel_budget.sdk.phases import Phase
from otel_budget.sdk.pricing import bundled
from otel_budget.sdk.run_counters import RunCounters
from tests.support.monitors import Make

PRICED: dict[str, Any] = {
    "model": "gpt-4o",
    "provider": "openai",
    "input_tokens": 8,
    "output_tokens": 2,
}
UNLIMITED: dict[str, Any] = {
    "max_duration_seconds": None, "max_tokens": None, "max_api_calls": None,
}  # fmt: skip
#: What is recorded, under which limits: always 10 tokens.
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({"tokens": 10}, {}),
    "looked into": ({"tokens": 10}, {"max_cost_usd": 1, "on_unpriced": "stop"}),
    "priced": (PRICED, {}),
    "charged": ({"tokens": 10, "cost_usd": 0.25}, {"max_cost_usd": 1000}),
    "in detail": ({**PRICED, "cache_read_tokens": 4, "reasoning_tokens": 1}, {}),
    "failed": ({"tokens": 10, "outcome": "error"}, {}),
    "estimated": ({"tokens": None, "model": "m"}, {"on_unknown_usage": "estimate"}),
    "of another model each time": ({"tokens": 10}, {}),
}


#: Instructions one by one; behind them, where the limits are looked into, in steps.
EACH, STEP = 300, 17


PACKAGE = str(Path(otel_budget.__file__).parent)


class Interruption(BaseException):
    """Raised in the middle of something, as a KeyboardInterrupt is."""


class Comer:
    """Comes in the middle of a call, once, at the so-manieth instruction."""

    def __init__(self, at: int, does: Callable[[], None]) -> None:
        """Wait for it."""
        self.at, self.does, self.seen = at, does, 0

    def run(self, call: Callable[[], None]) -> bool:
        """Call; return whether there were so many instructions."""
        if sys.version_info >= (3, 12):
            self._monitored(call)
        else:
            self._traced(call)
        return self.seen > self.at

    def _monitored(self, call: Callable[[], None]) -> None:
        """Watch by sys.monitoring: from 3.12 on tracing of instructions cannot be had by halves."""
        watch: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore] # from 3.12 on
        mine = threading.get_ident()  # it watches all threads, those of earlier tests included

        def come(code: CodeType, _offset: int) -> None:
            ours = code.co_filename.startswith(PACKAGE) and threading.get_ident() == mine
            if ours and self._is_now():
                watch.set_events(watch.DEBUGGER_ID, 0)
                self.does()

        watch.use_tool_id(watch.DEBUGGER_ID, "tests")
        watch.register_callback(watch.DEBUGGER_ID, watch.events.INSTRUCTION, come)
        watch.set_events(watch.DEBUGGER_ID, watch.events.INSTRUCTION)
        try:
            call()
        finally:
            watch.set_events(watch.DEBUGGER_ID, 0)
            watch.free_tool_id(watch.DEBUGGER_ID)

    def _traced(self, call: Callable[[], None]) -> None:
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            call()
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, _event: str, _arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._come

    def _come(self, _frame: FrameType, event: str, _arg: object) -> Any:
        if event == "opcode" and self._is_now():
            sys.settrace(None)
            self.does()
        return self._come

    def _is_now(self) -> bool:
        self.seen += 1
        return self.seen == self.at + 1


def one(monitor: ResourceMonitor, kind: str, number: int) -> Callable[[], None]:
    """Return what records one operation."""
    given = {"api_call": True, **KINDS[kind][0]}
    if kind == "of another model each time":
        given["model"] = f"model {number}"

    return partial(monitor.record_operation, **given)


def prepared(make: Make, kind: str) -> ResourceMonitor:
    """Return a run that has recorded one operation of the kind."""
    monitor = make(ResourceLimits(**{**UNLIMITED, **KINDS[kind][1]}))
    if kind == "in detail":
        monitor._recorder._phase = Phase(monitor._record, "p", monitor._record.counters("p", None))
    if kind == "estimated":
        monitor.record_operation(10, api_call=True, model="m")
    else:
        one(monitor, kind, 0)()
    return monitor


def agreed(monitor: ResourceMonitor) -> ResourceUsage:
    """Return what was used, once the totals, the breakdown and the report say the same of it."""
    record, used = monitor._record, monitor.get_usage_report()
    counts = record.counted()
    assert not record.busy
    assert not record.late
    for name in ("tokens", "api_calls", "cost_usd", "failed_api_calls", "unpriced_calls",
                 "unknown_usage_calls", "estimated_calls", "estimated_tokens"):  # fmt: skip
        assert getattr(record, name) == getattr(counts, name) == getattr(used, name), name
    return used


@pytest.mark.parametrize("kind", KINDS)
def test_what_records_in_the_middle_of_a_record_is_counted_and_so_is_the_record(
    kind: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each instruction of it: whole, in the totals and in their breakdown."""
    monkeypatch.setattr("otel_budget.sdk.metrics.label_cap.MAX_VALUES", 5)
    monitor = prepared(make, kind)
    before, each = agreed(monitor), monitor._record.cost_usd
    came, at, made = True, 0, 0
    while came:
        calls = [one(monitor, kind, made + 1), one(monitor, kind, made + 2)]
        came = Comer(at, calls[1]).run(calls[0])
        at += 1 if at < EACH else STEP
        made += 1 + came
        used = agreed(monitor)
        assert used.api_calls == before.api_calls + made, at
    assert at > 60
    calls_made = used.api_calls - before.api_calls
    assert used.tokens - before.tokens == 10 * calls_made
    if kind not in ("plain", "estimated"):
        assert used.cost_usd - before.cost_usd == each * calls_made
    assert used.failed_api_calls - before.failed_api_calls == calls_made * (kind == "failed")
    assert used.estimated_calls == calls_made * (kind == "estimated")


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_that_an_exception_ends_is_counted_whole_or_not_at_all(
    kind: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each instruction of it; the next one is counted as ever."""
    monkeypatch.setattr("otel_budget.sdk.metrics.label_cap.MAX_VALUES", 5)
    monitor = prepared(make, kind)

    def interrupt() -> None:
        raise Interruption

    at = lost = 0
    while True:
        before = agreed(monitor)
        try:
            came = Comer(at, interrupt).run(one(monitor, kind, at))
        except Interruption:
            came = True
        at += 1 if at < EACH else STEP
        used = agreed(monitor)
        more = used.api_calls - before.api_calls
        assert more in (0, 1)
        assert used.tokens - before.tokens == 10 * more
        if not came:
            break
        lost += not more
        one(monitor, kind, at)()
        assert agreed(monitor).api_calls == used.api_calls + 1
    assert 0 < lost < at


def test_an_exception_in_the_middle_loses_nothing_that_came_there(make: Make) -> None:
    """A handler that records and then raises: what it recorded is counted, at each instruction."""
    monitor = make(**UNLIMITED)
    at = 0

    def record_and_interrupt() -> None:
        monitor.record_operation(1000, api_call=True)
        raise Interruption

    while True:
        before = agreed(monitor).tokens
        try:
            came = Comer(at, record_and_interrupt).run(lambda: monitor.record_operation(1, True))
        except Interruption:
            came = True
        if not came:
            break
        assert agreed(monitor).tokens - before in (1000, 1001), at
        at += 1


def foreseen(monitor: ResourceMonitor) -> None:
    """Hold how many calls are left against the room: each used 10 tokens."""
    forecast = monitor.forecast()["tokens"].calls_left
    left = (10**6 - monitor.get_usage_report().tokens) / 10
    assert forecast is not None
    assert forecast.value == pytest.approx(left, rel=0.01)


def test_a_forecast_and_a_record_may_come_in_the_middle_of_each_other(make: Make) -> None:
    """At each instruction, as signal handlers ask and count; each is then as ever."""
    monitor = make(ResourceLimits.only(max_tokens=10**6))
    record = partial(monitor.record_operation, 10, api_call=True)

    def ask() -> None:
        monitor.forecast()

    record()
    both: list[Callable[[], None]] = [record, ask]
    for first, second in itertools.permutations(both):
        at, came = 0, True
        while came:
            came = Comer(at, second).run(first)
            at += 1 if at < EACH else STEP
            record()
            foreseen(monitor)


def test_a_forecast_that_an_exception_ends_begins_anew(make: Make) -> None:
    """Of what was lost there the sum is known."""
    monitor = make(ResourceLimits.only(max_tokens=10**6))

    def interrupt() -> None:
        raise Interruption

    def ask() -> None:
        monitor.forecast()

    at, came = 0, True
    while came:
        monitor.record_operation(10, api_call=True)
        try:
            came = Comer(at, interrupt).run(ask)
        except Interruption:
            came = True
        at += 1 if at < EACH else STEP
        foreseen(monitor)


def test_a_checkpoint_that_comes_in_the_middle_of_counting_one_is_counted(make: Make) -> None:
    """And a failed one."""
    record: RunCounters = make(**UNLIMITED)._record
    for count, name in ((lambda: record.saved(5.0), "checkpoints"),
                        (record.not_saved, "checkpoint_failures")):  # fmt: skip
        at = 0
        while Comer(at, count).run(count):
            at += 1
            assert getattr(record, name) == 2 * at


def test_a_call_in_the_middle_of_looking_up_the_first_price_has_its_price(make: Make) -> None:
    """The list is loaded then, and not whole yet."""
    prices = Prices()
    monitor = make(**UNLIMITED, prices=prices)
    name = "otel_budget.sdk.pricing.bundled"
    loaded, package = sys.modules.pop(name), sys.modules["otel_budget.sdk.pricing"]
    delattr(package, "bundled")
    done: list[str] = []

    def come(frame: FrameType, event: str, _arg: object) -> Any:
        if frame.f_code.co_filename == bundled.__file__ and not done:
            done.append(event)
            monitor.record_operation(**PRICED, api_call=True)
        return None

    sys.settrace(come)
    try:
        monitor.record_operation(**PRICED, api_call=True)
    finally:
        sys.settrace(None)
        sys.modules[name] = loaded
        package.bundled = loaded  # type: ignore[attr-defined]
    used = agreed(monitor)
    assert done
    assert (used.api_calls, used.unpriced_calls) == (2, 0)
    monitor.record_operation(**PRICED, api_call=True)
    assert monitor.get_usage_report().cost_usd == used.cost_usd / 2 * 3


def test_who_reads_from_another_thread_does_not_wait_for_a_record_that_was_interrupted(
    make: Make,
) -> None:
    """No lock stays behind where exceptions come: at a call's end, or at its beginning."""
    monitor = make(**UNLIMITED)
    record = monitor._record

    class Failing(int):
        def __add__(self, _: object) -> int:
            raise Interruption

    record.tokens = Failing(0)
    with pytest.raises(Interruption):
        monitor._recorder.add_tokens(5, True)
    read: list[int] = []
    reader = threading.Thread(target=lambda: read.append(monitor.get_usage_report().tokens))
    reader.start()
    reader.join(10)
    assert read == [0]
