"""Ten runs of a workflow end well: a real sidecar stops the eleventh by what follows from them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.support.ports import free_port
from tests.support.processes import sidecar, until

if TYPE_CHECKING:
    from pathlib import Path

#: Serves its runs, completes some, and records in one more until it is told to stop; waits for a
#: line of its input before each of the two.
AGENT = """
import json, sys, time
from otel_budget import ResourceLimits, ResourceMonitor, serve_metrics

options = json.loads(sys.argv[1])
serve_metrics("127.0.0.1", options["port"])
limits = ResourceLimits.only()
for number in range(options["completed"]):
    with ResourceMonitor(limits, f"{options['name']}-{number}", workflow="nightly") as monitor:
        for _ in range(10):
            monitor.record_operation(tokens=100, api_call=True)
print("completed", flush=True)
sys.stdin.readline()
last = ResourceMonitor(
    limits, f"{options['name']}-last", workflow="nightly", sidecar=options["sidecar"]
)
with last:
    end = time.monotonic() + 60
    while last.should_continue() and time.monotonic() < end:
        last.record_operation(tokens=100, api_call=True)
        time.sleep(0.1)
verdict = last.verdict
print(json.dumps({
    "reason": verdict.reason, "limit_from": verdict.limit_from,
    "limit": verdict.resources["tokens"].limit,
}), flush=True)
sys.stdin.readline()
"""
SUGGESTED = {"reason": "limit_exceeded", "limit_from": "suggested", "limit": 1300}


class Agent:
    """A process with runs of one workflow."""

    def __init__(self, **options: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", AGENT, json.dumps(options)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def says(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def goes_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def written(folder: Path, target: int) -> Path:
    """Write a configuration file."""
    config = {
        "source": {
            "scrape": {"targets": [f"http://127.0.0.1:{target}/metrics"], "interval": "100ms"}
        },
        "resource_limits": {"from": "suggested", "at_most": {"max_tokens": 100_000}},
        "verdicts": {"stale_after": "60s"},
        "listen": {"address": f"127.0.0.1:{free_port()}"},
        "storage": {"path": "ledger.db"},
    }
    file = folder / "sidecar.yaml"
    file.write_text(json.dumps(config))  # JSON is YAML
    return file


def test_the_eleventh_run_is_stopped_by_what_ten_used_and_so_it_is_after_a_restart(
    tmp_path: Path,
) -> None:
    port = free_port()
    config = written(tmp_path, port)
    with sidecar(tmp_path, config=config) as first:
        assert "tokens may be less: suggested for each workflow" in first.said()
        agent = Agent(port=port, name="a", completed=10, sidecar=first.url)
        try:
            assert agent.says() == "completed"
            until(lambda: "suggested limit on tokens is 1,300 from now on" in first.said())
            until(lambda: "otel_budget_sidecar_suggested_limit{" in first.metrics())
            agent.goes_on()
            assert json.loads(agent.says()) == SUGGESTED
            verdict = first.verdict("a-last")
            assert verdict is not None
            assert verdict["limit_from"] == "suggested"
            assert verdict["resources"]["tokens"]["limit_from"] == "suggested"
        finally:
            agent.end()
        first.kill()
    with sidecar(tmp_path, config=config) as second:
        agent = Agent(port=port, name="b", completed=0, sidecar=second.url)
        try:
            assert agent.says() == "completed"
            agent.goes_on()
            assert json.loads(agent.says()) == SUGGESTED
        finally:
            agent.end()
