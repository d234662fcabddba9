"""What otel-budget takes besides: to be imported, per live session, and per scrape of many."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from decimal import Decimal
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest

from benchmarks.machine import resident_mib
from benchmarks.report import Goal, Report
from benchmarks.rounds import Contestant, Spread, steps, take_turns
from otel_budget import ResourceLimits, ResourceMonitor
from otel_budget.sdk.metrics.collector import RUNS

if TYPE_CHECKING:
    from collections.abc import Callable

_OURS = "from otel_budget import *"  # all that is public: each part comes when it is asked for
_THEIRS = (
    "import opentelemetry.sdk.trace, opentelemetry.sdk.metrics, opentelemetry.exporter.prometheus"
)
_SIZES = (1, 100, 1000)
_LIVE = 10_000


def run(*, quick: bool) -> Report:
    """Measure all of it."""
    ours, theirs, ratio = _imports(10 if quick else 40)
    scrapes, per_session = _sessions(quick=quick)
    rows = [
        ("to import it", ours.text(1e3, 0) + " ms", ratio.text()),
        ("to import the OpenTelemetry SDK and its Prometheus exporter alone",
         theirs.text(1e3, 0) + " ms", "1"),
        (f"memory of a live session, over {_LIVE:,} of them", f"{per_session:.1f} KiB", ""),
    ]  # fmt: skip
    rows += [
        (f"a scrape of {size:,} live sessions", spread.text(1e3, 1) + " ms",
         f"{spread.median * 1e6 / size:.0f} µs a session")
        for size, spread in scrapes.items()
    ]  # fmt: skip
    return Report(
        title="In the agent: import, memory, scrape",
        about=(
            "Import in a fresh interpreter each time, in turns, compiled files at hand, without "
            "the interpreter's own start. A live session has a limit of each kind, two phases and "
            "two models. The text of a scrape is written by prometheus_client."
        ),
        columns=("", "measured", "of the SDK alone, or each"),
        rows=tuple(rows),
        goals=(Goal("import, of the SDK and its exporter alone", ratio.median, 1.3),),
    )


def _imports(rounds: int) -> tuple[Spread, Spread, Spread]:
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}

        def seconds(code: str) -> float:
            timed = f"import time; t = time.perf_counter(); {code}; print(time.perf_counter() - t)"
            done = subprocess.run(
                [sys.executable, "-c", timed],
                capture_output=True, text=True, check=True, env=environment,
            )  # fmt: skip
            return float(done.stdout)

        seconds(f"{_THEIRS}; {_OURS}")  # compiles
        ours, theirs = [], []
        for _ in steps(rounds, "imports"):
            theirs.append(seconds(_THEIRS))
            ours.append(seconds(_OURS))
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return Spread.of(ours), Spread.of(theirs), Spread.of(ratios)


def _sessions(*, quick: bool) -> tuple[dict[int, Spread], float]:
    """Return what a scrape takes by the number of live sessions, and KiB for each of many."""
    registry = CollectorRegistry()
    registry.register(RUNS)
    monitors: list[ResourceMonitor] = []
    scrapes: dict[int, Spread] = {}
    for size in _SIZES:
        monitors += [_session(number) for number in range(len(monitors), size)]
        timings = take_turns(
            [Contestant("scrape", _scrape(registry))],
            rounds=4 if quick else 30, turn=0.05, label=f"scrapes of {size}",
        )  # fmt: skip
        scrapes[size] = timings.seconds("scrape")
    before, began = resident_mib(), len(monitors)
    monitors += [_session(number) for number in range(began, began + _LIVE)]
    grown = (resident_mib() - before) * 1024 / _LIVE
    for monitor in monitors:
        monitor.close(timeout=0)
    return scrapes, grown


def _scrape(registry: CollectorRegistry) -> Callable[[int], None]:
    def work(times: int) -> None:
        for _ in range(times):
            generate_latest(registry)

    return work


def _session(number: int) -> ResourceMonitor:
    limits = ResourceLimits(max_cost_usd=Decimal(100))
    monitor = ResourceMonitor(limits, f"session-{number:05}", workflow="bench")
    for phase, model in (("plan", "a-model"), ("write", "another-model")):
        with monitor.phase(phase):
            monitor.should_continue(0.4)
            monitor.record_operation(
                api_call=True, input_tokens=1000, output_tokens=200, model=model, cost_usd=0.0125
            )
    return monitor
