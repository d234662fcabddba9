"""Runs that wait to be interrupted, beside a real sidecar: none is, by a progress that is old."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.processes import sidecar, until

#: Five runs at once: in each one thread waits for a stop, and steps carry the run across the line
#: of a limit, its own or the sidecar's, just before it says that it is nearly done.
AGENT = """
import json, sys, threading, time
from otel_budget import ResourceLimits, ResourceMonitor, serve_metrics
folder, url = sys.argv[1:]
serve_metrics("127.0.0.1", 0, register=folder)
begin = threading.Barrier(5)

def run(number):
    limits = ResourceLimits(max_tokens=1000 if number % 2 else None, max_api_calls=None)
    heard = []
    monitor = ResourceMonitor(limits, f"run-{number}", sidecar=url,
                              on_verdict=lambda verdict: heard.append(str(verdict.reason)))
    stops = []
    waits = threading.Thread(target=lambda: stops.append(monitor.wait_for_stop()))
    monitor.should_continue(0.0)
    waits.start()
    while monitor._run._lease.current() is None:
        time.sleep(0.02)
    begin.wait()
    went = []
    for tokens, progress in ((600, 0.6), (150, 0.75), (60, 0.85), (100, 0.95)):
        with monitor.phase(f"to {progress}"):
            monitor.record_operation(tokens=tokens, api_call=True)
            time.sleep(0.35)
        went.append(bool(monitor.should_continue(progress)) and not stops)
    monitor.record_operation(tokens=100)
    waits.join(10)
    said[number] = {"went": went, "heard": heard, "end": str(stops[0].reason) if stops else None}
    monitor.close(timeout=0)

said = {}
threads = [threading.Thread(target=run, args=(number,)) for number in range(5)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(said))
"""


def test_no_run_that_is_nearly_done_is_interrupted_by_a_progress_from_before_its_step(
    tmp_path: Path,
) -> None:
    """Five of five go on to the limit; there they are stopped."""
    found, port = tmp_path / "targets", free_port()
    found.mkdir()
    config = tmp_path / "config.yaml"
    config.write_text(f"""\
source: {{scrape: {{file_sd: ["{found}/*.json"], interval: 200ms, timeout: 200ms}}}}
resource_limits: {{max_tokens: 1000}}
listen: {{address: "127.0.0.1:{port}"}}
storage: {{path: {tmp_path / "sidecar.db"}}}
""")
    with sidecar(tmp_path, config=config) as beside:
        process = subprocess.Popen(
            [sys.executable, "-c", AGENT, str(found), beside.url],
            stdout=subprocess.PIPE,
            text=True,
        )
        until(lambda: beside.verdict("run-0"), beside.process)
        out, _ = process.communicate(timeout=60)
    said: dict[str, dict[str, Any]] = json.loads(out)
    assert len(said) == 5
    for run in said.values():
        assert run["went"] == [True, True, True, True], said
        assert "approaching_limit" not in run["heard"], said
        assert run["end"] == "limit_exceeded", said
