"""A run past a limit that only the sidecar knows is stopped at once, however rarely it is scraped.

Real processes: a sidecar that scrapes every 30 s, and a run in another process.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.figures import note
from tests.support.processes import SidecarProcess, sidecar, until

#: Waits until it is judged, uses what it is told to, and says when it heard a stop.
RUN = """
import json, sys, threading, time
from otel_budget import ResourceLimits, ResourceMonitor, serve_metrics

endpoint = serve_metrics("127.0.0.1", 0)
print(endpoint.url, flush=True)
sidecar = sys.stdin.readline().strip()
told = threading.Event()
at = 0.0

def hear(verdict):
    global at
    if not verdict.should_continue:
        at = time.monotonic()
        told.set()

with ResourceMonitor(ResourceLimits(), "run", sidecar=sidecar, on_verdict=hear) as monitor:
    for line in sys.stdin:
        crossed = time.monotonic()
        for _ in range(int(line) // 100):
            monitor.record_operation(tokens=100)
        heard = told.wait(2.0)
        print(json.dumps({"heard": heard, "seconds": at - crossed}), flush=True)
"""


class Run:
    """The run's process."""

    def __init__(self) -> None:
        """Start it; it shows nothing yet."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in, self._out = self.process.stdin, self.process.stdout
        self.metrics = self._out.readline().strip()

    def follow(self, process: SidecarProcess) -> None:
        """Begin, and wait until the sidecar knows it and its stream is open."""
        self._in.write(f"{process.url}\n")
        until(lambda: process.verdict("run"))
        until(lambda: "otel_budget_sidecar_subscribers 1.0" in metrics(process))

    def use(self, tokens: int) -> dict[str, float]:
        """Use so many, and wait for a stop."""
        self._in.write(f"{tokens}\n")
        found: dict[str, float] = json.loads(self._out.readline())
        return found


@contextmanager
def judged(folder: Path) -> Iterator[tuple[Run, SidecarProcess]]:
    """Run both: the run is scraped every 30 s, and its ceiling is 10,000 tokens."""
    run = Run()
    try:
        flags = ("--target", run.metrics, "--interval", "30", "--max-tokens", "10000")
        with sidecar(folder, *flags) as process:
            run.follow(process)
            yield run, process
    finally:
        run.process.kill()
        run.process.communicate()


def metrics(process: SidecarProcess) -> str:
    """Return the sidecar's own metrics."""
    with urllib.request.urlopen(f"{process.url}/metrics", timeout=5) as answer:
        text: str = answer.read().decode()
        return text


def ticks(process: SidecarProcess) -> int:
    """Return how often everything was read."""
    found = re.search(r"tick_duration_seconds_count ([0-9]+)", metrics(process))
    assert found is not None
    return int(found[1])


def test_a_run_that_crosses_is_told_long_before_the_next_scrape(tmp_path: Path) -> None:
    """Also one that is new: it is known a second after it began, not half a minute."""
    with judged(tmp_path) as (run, process):
        before = ticks(process)
        assert not run.use(7_000)["heard"]
        crossed = run.use(3_000)
        assert crossed["heard"]
        assert crossed["seconds"] < 1.5
        verdict = process.verdict("run")
        assert verdict is not None
        assert verdict["resources"]["tokens"]["used"] == 10_000
        assert ticks(process) == before
    note(
        "Never silently open",
        "a run crosses a limit that only the sidecar knows, a moment after a scrape; the next one "
        "is 30 s away",
        f"stopped after {1000 * crossed['seconds']:.0f} ms: it nudged the sidecar to look",
    )


def test_who_stays_below_sends_none(tmp_path: Path) -> None:
    """Neither an idle run, nor one whose use cannot matter yet."""
    with judged(tmp_path) as (run, process):
        for _ in range(5):
            assert not run.use(1_000)["heard"]
        verdict = process.verdict("run")
        assert verdict is not None
        assert verdict["resources"]["tokens"]["used"] == 0, "nobody has looked since"
