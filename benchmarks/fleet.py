"""Many targets: what reading them costs, and what becomes of a stop among them."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.crossing import LIMIT
from benchmarks.report import Goal, Report
from benchmarks.rounds import steps
from tests.support.processes import SidecarProcess, sidecar, until
from tests.support.prometheus_process import JOB, prometheus_with

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SERVERS = 2
_RUNS = 20
"""That cross their limit, at one more target."""
_WINDOW, _PATIENCE, _WARM = 8.0, 30.0, 4.0
"""Seconds in which they do, that each of them waits, and before anything is measured."""
_CROSSING = {f"run-{number:03}" for number in range(_RUNS)}
_HZ = os.sysconf("SC_CLK_TCK")
_SIZES = (1, 100, 1000, 2000, 5000)
_SUPPORTED = 2000
_AMONG = 1000
_BAD = {"hangs": "hanging", "slow": "answering after 0.9 s", "lost": "without DNS",
        "costly": "costly to read"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fleet:
    """So many targets, and what is wrong with a tenth of them."""

    targets: int
    bad: str = ""
    """A path of ``fleet_pages``, or ``lost``; empty if all are healthy."""
    stops: bool = True

    def urls(self, ports: Sequence[int]) -> list[str]:
        """Return where they are."""
        return [self._url(number, ports[number % len(ports)]) for number in range(self.targets)]

    def _url(self, number: int, port: int) -> str:
        if not self.bad or number % 10:
            return f"http://127.0.0.1:{port}/{number}"
        if self.bad == "lost":
            return f"http://agent-{number}.invalid:9464/metrics"
        return f"http://127.0.0.1:{port}/{self.bad}/{number}"

    @property
    def words(self) -> str:
        """What it is."""
        return f"{self.targets:,}" + (f", a tenth {_BAD[self.bad]}" if self.bad else "")


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of one fleet. Seconds."""

    reads: float
    """Between the beginnings of two."""
    cpu: float
    """Of the processor, for one reading with all that follows from it."""
    scrape: float
    """Of the processor, for a thousand pages."""
    stops: list[float]
    shown: int
    """Healthy runs that have a verdict of late."""


def run(*, quick: bool) -> Report:
    """Measure fleets of each size, and with each fault, with real processes."""
    sizes = _SIZES[:3] if quick else _SIZES
    fleets = [Fleet(size) for size in sizes]
    fleets += [Fleet(100 if quick else _AMONG, bad) for bad in _BAD]
    seen = {fleets[number]: _measure(fleets[number]) for number in steps(len(fleets), "fleets")}
    beside = {size: _prometheus(size) for size in sizes if size >= 100}
    exponent = _exponent([(fleet.targets, one.cpu) for fleet, one in seen.items() if not fleet.bad])
    supported = seen.get(Fleet(_SUPPORTED))
    goals = [Goal("exponent of what a reading costs over the targets, from 100 on", exponent, 1.15)]
    if supported is not None:
        goals.append(Goal(f"seconds between two readings of {_SUPPORTED:,}", supported.reads, 1.1))
    goals += [
        Goal(f"p95 of a stop among {fleet.words}, in s", _percentile(one.stops, 95), 2.0)
        for fleet, one in seen.items()
        if fleet.targets <= _SUPPORTED
    ]
    return Report(
        title="Many targets",
        about=(
            "Targets of one run each that spends with every scrape, 22 samples a page, read every "
            f"second with a timeout of a second; {_SERVERS} processes show them. The stop is of "
            f"{_RUNS} runs at one more target, which are not nudged: at most the interval and what "
            "a reading takes. Processor time: of the sidecar's process with all it does, for one "
            "reading and for a thousand pages; beside it a Prometheus that scrapes the same pages "
            "every second into its own storage. `.invalid` names are without DNS: what that costs "
            "is up to the name server, if one answers."
        ),
        columns=("targets", "a reading every", "CPU a reading", "CPU, 1,000 pages", "Prometheus",
                 "stop, p50", "p95", "runs judged"),
        rows=tuple(_row(fleet, one, beside) for fleet, one in seen.items()),
        goals=tuple(goals),
    )  # fmt: skip


def _row(fleet: Fleet, one: Seen, beside: dict[int, float]) -> tuple[str, ...]:
    prometheus = beside.get(fleet.targets) if not fleet.bad else None
    return (
        fleet.words, f"{one.reads:.2f} s", f"{one.cpu:.3f} s", f"{one.scrape:.2f} s",
        "" if prometheus is None else f"{prometheus:.2f} s",
        *(f"{_percentile(one.stops, share):.2f} s" for share in (50, 95)), f"{one.shown:,}",
    )  # fmt: skip


def _percentile(values: Sequence[float], share: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


def _exponent(points: Sequence[tuple[int, float]]) -> float:
    """Return the slope of log cost over log size."""
    logs = [(math.log(size), math.log(cost)) for size, cost in points if size >= 100]
    return statistics.linear_regression(*zip(*logs, strict=True)).slope


@contextmanager
def _targets() -> Iterator[list[int]]:
    """Run the processes that show the pages; yield their ports."""
    with ExitStack() as stack:
        ports = []
        for _ in range(_SERVERS):
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.fleet_pages"], stdout=subprocess.PIPE, text=True
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            assert process.stdout is not None
            ports.append(int(process.stdout.readline()))
        yield ports


@contextmanager
def _crossing() -> Iterator[subprocess.Popen[str]]:
    options = {"runs": _RUNS, "window": _WINDOW, "patience": _PATIENCE, "nudge": False,
               "own_limit": False}  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.crossing", json.dumps(options)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    ) as process:  # fmt: skip
        yield process
        process.kill()


def _measure(fleet: Fleet) -> Seen:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports = stack.enter_context(_targets())
        agents = stack.enter_context(_crossing())
        assert agents.stdin is not None
        assert agents.stdout is not None
        metrics = json.loads(agents.stdout.readline())["metrics"]
        config = {
            "source": {"scrape": {"targets": [metrics, *fleet.urls(ports)], "interval": "1s"}},
            "resource_limits": {"max_tokens": LIMIT},
            "listen": {"address": "127.0.0.1:0"},
            "storage": {"path": str(folder / "ledger.db")},
        }
        (folder / "sidecar.yaml").write_text(json.dumps(config))
        process = stack.enter_context(sidecar(folder, config=folder / "sidecar.yaml"))
        agents.stdin.write(f"{process.url}\n")
        agents.stdout.readline()
        until(lambda: _judged(process) >= _CROSSING, seconds=90)
        time.sleep(_WARM)
        before = _counted(process, ports)
        agents.stdin.write("go\n")
        stops: list[float] = json.loads(agents.stdout.readline())
        after = _counted(process, ports)
        at, cpu, ticks, pages = (b - a for a, b in zip(before, after, strict=True))
        judged = len(_judged(process) - _CROSSING)
    if len(stops) < _RUNS:
        raise RuntimeError(f"{fleet.words}: {_RUNS - len(stops)} of {_RUNS} runs heard nothing")
    return Seen(at / ticks, cpu / ticks, cpu / max(1, pages) * 1000, stops, judged)


def _counted(process: SidecarProcess, ports: Sequence[int]) -> tuple[float, float, float, float]:
    """Return the time, and what there was by then: processor time, readings and pages."""
    text = _get(f"{process.url}/metrics")
    found = re.search(r"(?m)^otel_budget_sidecar_tick_duration_seconds_count (\S+)$", text)
    assert found is not None
    return time.monotonic(), _cpu(process.process.pid), float(found[1]), _shown(ports)


def _judged(process: SidecarProcess) -> set[str]:
    """Return the runs that have a verdict which is neither absent nor a guess."""
    found: set[str] = set()
    cursor: str | None = ""
    while cursor is not None:
        query = urllib.parse.urlencode({"limit": 1000, **({"cursor": cursor} if cursor else {})})
        page: dict[str, Any] = json.loads(_get(f"{process.url}/v1/verdicts?{query}"))
        found |= {v["session_id"] for v in page["verdicts"] if v["status"] != "inconclusive"}
        cursor = page["next_cursor"]
    return found


def _shown(ports: Sequence[int]) -> float:
    return sum(float(_get(f"http://127.0.0.1:{port}/count").split()[0]) for port in ports)


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _HZ


def _prometheus(targets: int) -> float:
    """Return the processor time that a Prometheus takes for a thousand of the same pages."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports = stack.enter_context(_targets())
        jobs = [
            {
                "job_name": f"{JOB}-{number}", "metrics_path": f"/{number}",
                "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
            }
            for number, port in zip(range(targets), itertools.cycle(ports))
        ]  # fmt: skip
        every = {"scrape_interval": "1s", "scrape_timeout": "1s"}
        file = folder / "prometheus.json"
        file.write_text(json.dumps({"global": every, "scrape_configs": jobs}))
        url = stack.enter_context(prometheus_with(folder, file))
        until(lambda: _shown(ports) >= targets, seconds=60)
        time.sleep(_WARM)
        pages, cpu = _shown(ports), _own_cpu(url)
        time.sleep(_WINDOW)
        return (_own_cpu(url) - cpu) / (_shown(ports) - pages) * 1000


def _own_cpu(url: str) -> float:
    found = re.search(r"(?m)^process_cpu_seconds_total (\S+)$", _get(f"{url}/metrics"))
    assert found is not None
    return float(found[1])


def _get(url: str) -> str:
    for _ in range(100):
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - our own
                text: str = answer.read().decode()
                return text
        except urllib.error.HTTPError as exc:  # not ready yet
            exc.close()
            time.sleep(0.1)
    raise RuntimeError(f"{url} does not become ready")
