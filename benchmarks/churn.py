"""100,000 sessions opened, used and closed in one process that is scraped: memory stays flat."""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass
from decimal import Decimal

from prometheus_client import REGISTRY, generate_latest

from benchmarks.machine import resident_mib
from benchmarks.report import Goal, Report
from benchmarks.rounds import steps
from otel_budget import ResourceLimits, ResourceMonitor, semconv, serve_metrics
from otel_budget.sdk.metrics.collector import RUNS

_POINTS = 10
_BASE = 2
"""The point that the last one is held against: by then every queue is full."""
_SCRAPES_PER_POINT = 10
_OPERATIONS = 3
_INPUT, _OUTPUT, _COST = 1000, 200, Decimal("0.0125")
_TEAMS = ("a-team", "b-team", "c-team")


@dataclass(frozen=True, slots=True)
class _Point:
    sessions: int
    resident_mib: float
    blocks: int
    """Memory blocks that Python has handed out."""
    shown: int
    """Sessions on /metrics."""


def run(*, quick: bool) -> Report:
    """Measure the memory on the way."""
    sessions = 10_000 if quick else 100_000
    between = sessions // _POINTS // _SCRAPES_PER_POINT
    points = []
    with serve_metrics(port=0):
        for step in steps(_POINTS * _SCRAPES_PER_POINT, "sessions"):
            for number in range(step * between, (step + 1) * between):
                _one_session(number)
            generate_latest(REGISTRY)
            if (step + 1) % _SCRAPES_PER_POINT == 0:
                points.append(_point((step + 1) * between))
    return _report(points, between)


def _one_session(number: int) -> None:
    team = _TEAMS[number % len(_TEAMS)]
    limits = ResourceLimits(max_cost_usd=Decimal(100))
    monitor = ResourceMonitor(limits, f"session-{number}", workflow="bench", scope={"team": team})
    with monitor.phase("plan"):
        for operation in range(_OPERATIONS):
            if not monitor.should_continue(operation / _OPERATIONS):
                break
            monitor.record_operation(
                api_call=True,
                input_tokens=_INPUT,
                output_tokens=_OUTPUT,
                model="a-model",
                cost_usd=_COST,
            )
    monitor.close(timeout=0)


def _point(sessions: int) -> _Point:
    gc.collect()
    return _Point(sessions, resident_mib(), sys.getallocatedblocks(), len(RUNS))


def _report(points: list[_Point], between: int) -> Report:
    base, last = points[_BASE - 1], points[-1]
    operations = last.sessions * _OPERATIONS
    wanted = (
        (semconv.USAGE_TOKENS, Decimal(operations * (_INPUT + _OUTPUT))),
        (semconv.USAGE_API_CALLS, Decimal(operations)),
        (semconv.USAGE_COST, operations * _COST),
    )
    lost = sum((abs(want - _counted(metric)) for metric, want in wanted), Decimal(0))
    words = f"after {last.sessions:,} sessions, of after {base.sessions:,}"
    return Report(
        title=f"{last.sessions:,} sessions opened, used and closed in one process",
        about=(
            f"Scraped after every {between:,}. Closed sessions leave /metrics once they were "
            "scraped (at the latest a minute later, and never more than 1,000 of them); their use "
            "stays in the sums of the process, which are held against what was recorded."
        ),
        columns=("sessions", "resident MiB", "Python's memory blocks", "sessions on /metrics"),
        rows=tuple(
            (f"{p.sessions:,}", f"{p.resident_mib:.1f}", f"{p.blocks:,}", f"{p.shown:,}")
            for p in points
        ),
        goals=(
            Goal(f"resident memory {words}", last.resident_mib / base.resident_mib, 1.05),
            Goal(f"memory blocks {words}", last.blocks / base.blocks, 1.05),
            Goal("tokens, calls and dollars missing from the sums", float(lost), 0, 0),
        ),
    )


def _counted(metric: semconv.Metric) -> Decimal:
    return sum((Decimal(value) for _, value in RUNS.process.sums(metric)), Decimal(0))
