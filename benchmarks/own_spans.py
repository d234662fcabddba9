"""A run's own spans and a checkpoint by themselves; and counting from tasks."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from benchmarks.report import Report
from benchmarks.rounds import Contestant, take_turns
from otel_budget import ResourceLimits, ResourceMonitor

if TYPE_CHECKING:
    from collections.abc import Callable

_SDK, _FILE, _PLAIN = "a span of the SDK alone", "the same JSON, synced, renamed", "record + check"
_BESIDE = {
    "an operation, counted": _SDK,
    "a phase": _SDK,
    "a checkpoint": _FILE,
    "record + check in 8 tasks": _PLAIN,
}
_STATE = {"done": [f"step {number}" for number in range(100)]}


def run(*, quick: bool) -> Report:
    """Measure each beside what it is made of."""
    trace.set_tracer_provider(TracerProvider())
    with tempfile.TemporaryDirectory() as folder:
        limits = ResourceLimits(max_tokens=10**15, max_api_calls=10**15)
        monitor = ResourceMonitor(limits, "bench", folder)
        contestants = [
            Contestant("an operation, counted", _operations(monitor)),
            Contestant("a phase", _phases(monitor)),
            Contestant(_SDK, _spans()),
            Contestant("a checkpoint", _checkpoints(monitor)),
            Contestant(_FILE, _files(Path(folder))),
            Contestant("record + check in 8 tasks", _in_tasks(monitor), least=800),
            Contestant(_PLAIN, lambda times: _record(monitor, times), least=800),
        ]
        rounds = 10 if quick else 100
        timings = take_turns(contestants, rounds=rounds, turn=0.01, label="own spans")
        monitor.close(timeout=0)
    rows = tuple(
        (one.name, timings.seconds(one.name).text(1e6, 1),
         f"{timings.ratio(one.name, beside).text()} of {beside}"
         if (beside := _BESIDE.get(one.name)) else "")
        for one in contestants
    )  # fmt: skip
    return Report(
        title="A run's own spans, a checkpoint, and tasks",
        about=(
            "With an OpenTelemetry SDK tracer provider that exports nothing. A checkpoint has "
            "the usage, the limits and 100 lines of state; it is synced to the disk, as is the "
            f"file beside it. {rounds} rounds."
        ),
        columns=("", "µs", "beside"),
        rows=rows,
    )


def _operations(monitor: ResourceMonitor) -> Callable[[int], None]:
    def work(times: int) -> None:
        for _ in range(times):
            with monitor.operation() as operation:
                operation.record(input_tokens=1000, output_tokens=200)

    return work


def _phases(monitor: ResourceMonitor) -> Callable[[int], None]:
    def work(times: int) -> None:
        for _ in range(times):
            with monitor.phase("plan"):
                pass

    return work


def _spans() -> Callable[[int], None]:
    tracer = trace.get_tracer("bench")

    def work(times: int) -> None:
        for _ in range(times):
            with tracer.start_as_current_span("a span", attributes={"session_id": "bench"}):
                pass

    return work


def _checkpoints(monitor: ResourceMonitor) -> Callable[[int], None]:
    def work(times: int) -> None:
        for _ in range(times):
            monitor.checkpoint(_STATE)

    return work


def _files(folder: Path) -> Callable[[int], None]:
    def work(times: int) -> None:
        for number in range(times):
            temporary = folder / "beside.tmp"
            with temporary.open("w", encoding="utf-8") as file:
                json.dump({"usage": {"tokens": number}, "state": _STATE}, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(folder / "beside.json")

    return work


def _record(monitor: ResourceMonitor, times: int) -> None:
    ask, count = monitor.should_continue, monitor.record_operation
    for _ in range(times):
        ask(0.4)
        count(tokens=1200, api_call=True)


def _in_tasks(monitor: ResourceMonitor) -> Callable[[int], None]:
    async def task(times: int) -> None:
        for _ in range(times // 100):
            _record(monitor, 100)
            await asyncio.sleep(0)

    async def tasks(times: int) -> None:
        await asyncio.gather(*(task(times // 8) for _ in range(8)))

    return lambda times: asyncio.run(tasks(times))
