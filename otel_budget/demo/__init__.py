"""The demo: three runs over two recorded coding-agent runs, with a sidecar process beside them."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from otel_budget import serve_metrics
from otel_budget.demo import scenario
from otel_budget.demo.screen import Screen, summary
from otel_budget.errors import OtelBudgetError

#: Seconds between two scrapes of the demo's sidecar.
INTERVAL = 0.2
_START_TIMEOUT = 20.0


def run_demo(speed: float = 12.0, keep: str | PathLike[str] | None = None) -> int:
    """Replay the runs; return the exit code.

    speed: how many times faster than recorded. keep: folder for the checkpoints, by default a new
    temporary one, which stays so that it can be looked at.
    """
    screen = Screen()
    logging.getLogger("otel_budget").setLevel(logging.CRITICAL)  # the screen says it all
    root = Path(keep or tempfile.mkdtemp(prefix="otel-budget-demo-"))
    screen.console.print(
        f"Two recorded coding-agent runs, replayed about {speed:g} times faster, as three runs:"
    )
    for plan in scenario.PLANS:
        screen.console.print(f"  {plan.name:<15}{plan.expect}")
    with serve_metrics("127.0.0.1", 0) as endpoint, _sidecar(endpoint.url, root) as sidecar:
        screen.console.print(f"metrics  {endpoint.url}\nsidecar  {sidecar}/v1/verdicts\n")
        replays = scenario.prepare(root, sidecar, speed, screen.say)
        cancelled = threading.Event()
        threads = [threading.Thread(target=r.run, args=(cancelled,)) for r in replays]
        with screen.live(replays):
            _join(threads, replays, cancelled)
    screen.console.print(summary(replays))
    screen.console.print(
        "\nEach run's last checkpoint, with its usage, limits and partial results:"
    )
    for replay in replays:
        screen.console.print(f"  {replay.checkpoint}", soft_wrap=True)
    screen.console.print(f"Look at one:  {sys.executable} -m json.tool {replays[-1].checkpoint}")
    return 130 if cancelled.is_set() else 0


def _join(
    threads: list[threading.Thread], replays: list[scenario.Replay], cancelled: threading.Event
) -> None:
    """Run the threads to their end; Ctrl-C lets every run stop with what it has."""
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            try:
                thread.join(0.2)
            except KeyboardInterrupt:
                cancelled.set()
                for replay in replays:
                    replay.monitor.close("stopped")


@contextlib.contextmanager
def _sidecar(target: str, root: Path) -> Iterator[str]:
    """Start a sidecar in a process of its own; yield its URL; stop it at the end."""
    root.mkdir(parents=True, exist_ok=True)
    log = root / "sidecar.log"
    command = [
        sys.executable, "-m", "otel_budget", "sidecar", "--target", target,
        "--interval", f"{INTERVAL}s", "--max-tokens", str(scenario.CEILING_TOKENS),
        "--listen", "127.0.0.1:0", "--storage", str(root / "sidecar.db"),
    ]  # fmt: skip
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(  # noqa: S603 - our own program
            command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "NO_COLOR": "1"}
        )
        try:
            yield _address(process, log)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until the sidecar says where it listens."""
    waited = threading.Event()
    for _ in range(int(_START_TIMEOUT / 0.05)):
        said = log.read_text(encoding="utf-8")
        found = re.search(r"http://127\.0\.0\.1:\d+", said.partition("listening on")[2])
        if found:
            return found.group()
        if process.poll() is not None:
            break
        waited.wait(0.05)
    raise OtelBudgetError(f"the sidecar did not start; it said: {log.read_text(encoding='utf-8')}")
