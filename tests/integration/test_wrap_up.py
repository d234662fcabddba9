"""A real run that an operator stops makes its last call, unless the order says now."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.test_operators import operated, session, shown
from tests.support.exposition import Exposition
from tests.support.processes import SidecarProcess, until

__all__ = ["shown"]
#: Makes five calls, waits until it is told to stop, and ends with one call if it may.
ENDS = """
import json, sys
from otel_budget import BudgetExceeded, ResourceLimits, ResourceMonitor, serve_metrics

folder, url, name = sys.argv[1:]
serve_metrics("127.0.0.1", 0, register=folder)
with ResourceMonitor(ResourceLimits(max_tokens=100_000), name, sidecar=url) as monitor:
    for _ in range(5):
        monitor.record_operation(100, api_call=True)
    print("ready", flush=True)
    verdict = monitor.wait_for_stop(120)
    said = {"reason": verdict.reason, "made": 0, "refused": False}
    try:
        with monitor.wrap_up() as allowed:
            said["calls"] = allowed.calls
            while monitor.should_continue() and said["made"] < 10:
                monitor.record_operation(100, api_call=True)
                said["made"] += 1
    except BudgetExceeded:
        said["refused"] = True
    said["goes_on"] = monitor.should_continue()
    print(json.dumps(said), flush=True)
"""


def ended(process: SidecarProcess, folder: Path, name: str, *order: str) -> dict[str, Any]:
    """Stop a run by an order, and return how it ended."""
    run = subprocess.Popen(
        [sys.executable, "-c", ENDS, str(folder / "agents"), process.url, name],
        stdout=subprocess.PIPE, text=True,
        env={**os.environ, "OTEL_BUDGET_SIDECAR_TOKEN_FILE": str(folder / "read")},
    )  # fmt: skip
    try:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        stop = ("stop", name, "--reason", "enough", *order)
        until(lambda: session(process, folder, *stop).returncode == 0)
        found: dict[str, Any] = json.loads(run.stdout.readline())
        return found
    finally:
        run.kill()
        run.communicate()


def test_an_operators_stop_leaves_a_run_its_last_call(tmp_path: Path, shown: Exposition) -> None:
    """The verdict that the sidecar hands out says what may still be used."""
    last = {"reason": "operator_stop", "made": 1, "refused": False, "calls": 1, "goes_on": False}
    none = {"reason": "operator_stop", "made": 0, "refused": True, "goes_on": False}
    with operated(tmp_path, shown) as process:
        assert ended(process, tmp_path, "ends") == last
        assert ended(process, tmp_path, "at-once", "--now") == none
