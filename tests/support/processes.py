"""An agent and a sidecar as processes of their own, as users run them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.support.ports import free_port

T = TypeVar("T")

#: Records steadily, reports progress, and prints what became of it as JSON.
AGENT = """
import json, sys, time
from otel_budget import ResourceLimits, ResourceMonitor, serve_metrics

options = json.loads(sys.argv[1])
endpoint = serve_metrics("127.0.0.1", 0, register=options.get("register"))
print(json.dumps({"metrics": endpoint.url}), flush=True)
heard = []
monitor = ResourceMonitor(
    ResourceLimits(**options.get("limits", {})), options["session_id"], options.get("root"),
    sidecar=options.get("sidecar"), on_verdict=lambda v: heard.append([v.action, v.reason]),
    on_sidecar_loss=options.get("on_sidecar_loss", "local"),
    first_verdict_timeout=options.get("first_verdict_timeout"),
)
with monitor:
    for step in range(options["steps"]):
        if not monitor.should_continue(options.get("progress")):
            break
        monitor.record_operation(
            tokens=options["tokens"] + options.get("growth", 0) * step, api_call=True,
            tool_calls=options.get("tool_calls"),
        )
        time.sleep(options["pause"])
    verdict = monitor.verdict
last, end = [verdict.action, verdict.reason], time.monotonic() + 2
# on_verdict is called in another thread.
while verdict.action == "stop" and last not in heard and time.monotonic() < end:
    time.sleep(0.01)
print(json.dumps({
    "steps": step + 1, "tokens": monitor.get_usage_report().tokens, "action": verdict.action,
    "reason": verdict.reason, "from_sidecar": verdict.lease_seconds is not None, "heard": heard,
}), flush=True)
"""


class Agent:
    """A running agent process."""

    def __init__(self, process: subprocess.Popen[str], metrics: str) -> None:
        """Keep what was started. metrics: the URL of its ``/metrics``."""
        self.process, self.metrics = process, metrics

    def result(self, timeout: float = 60) -> dict[str, Any]:
        """Wait for its end and return what it printed."""
        out, err = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 0, err
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found


@contextmanager
def agent(session_id: str, **options: Any) -> Iterator[Agent]:
    """Run an agent; options as AGENT reads them."""
    given = {"session_id": session_id, "steps": 10_000, "tokens": 100, "pause": 0.02, **options}
    process = subprocess.Popen(
        [sys.executable, "-c", AGENT, json.dumps(given)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Agent(process, json.loads(process.stdout.readline())["metrics"])
    finally:
        process.kill()
        process.communicate()


class SidecarProcess:
    """A running sidecar process."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        """Keep what was started."""
        self.process, self.url, self._log = process, url, log

    def said(self) -> str:
        """Return its log."""
        return self._log.read_text()

    def verdict(self, session_id: str) -> dict[str, Any] | None:
        """Return the verdict on a run; None while there is none."""
        try:
            with urllib.request.urlopen(f"{self.url}/v1/verdicts/{session_id}", timeout=5) as got:
                found: dict[str, Any] = json.load(got)
                return found
        except urllib.error.HTTPError as exc:
            exc.close()
            return None

    def metrics(self) -> str:
        """Return its own metrics."""
        return self.get("/metrics")

    def get(self, path: str) -> str:
        """Return what it answers."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=30) as got:
            return str(got.read().decode())

    def kill(self) -> None:
        """SIGKILL it."""
        self.process.kill()
        self.process.wait()


@contextmanager
def sidecar(
    folder: Path, *flags: str, listen: str | None = None, config: Path | None = None
) -> Iterator[SidecarProcess]:
    """Run a sidecar with these flags, its storage in a folder, or with a configuration file.

    Yield it once it listens. listen: where; without, on a port that stays free for one that comes
    after it.
    """
    log = folder / f"sidecar-{time.monotonic_ns()}.log"
    command = [sys.executable, "-m", "otel_budget", "sidecar"]
    if config is None:
        address = listen or f"127.0.0.1:{free_port()}"
        command += ["--listen", address, "--storage", str(folder / "sidecar.db"), *flags]
    else:
        command += ["--config", str(config)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        try:
            found = until(
                lambda: re.search(r"listening on (https?://\S+?);", log.read_text()), process
            )
        except AssertionError as exc:
            raise AssertionError(f"{exc}: {log.read_text()[-2000:]}") from exc
        yield SidecarProcess(process, found[1], log)
    finally:
        process.terminate()
        process.wait(60)


def until(
    look: Callable[[], T | None], process: subprocess.Popen[Any] | None = None, seconds: float = 60
) -> T:
    """Look again and again until there is something to see; fail when the process has ended."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert process is None or process.poll() is None, "the process has ended"
        assert time.monotonic() < deadline, f"nothing to see within {seconds} s"
        time.sleep(0.02)
