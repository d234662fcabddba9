"""Runs that are resumed beside a real sidecar, which knows them from before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import SidecarProcess, sidecar, until

#: Uses tokens until it is stopped; then, or at once, it ends as it is told. Prints what it saw.
RUN = """
import json, os, signal, sys, time
from otel_budget import NoCheckpointError, ResourceLimits, ResourceMonitor, serve_metrics

root, url, given = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
endpoint = serve_metrics("127.0.0.1", 0, register=root + "/targets")
limits = ResourceLimits(max_duration_seconds=None, **given["limits"])
try:
    monitor = ResourceMonitor.resume("run", root, limits, sidecar=url)
except NoCheckpointError:
    monitor = ResourceMonitor(limits, "run", root, sidecar=url)
saw = []
with monitor:
    monitor.record_operation(given["tokens"], api_call=True)
    until = time.monotonic() + given["seconds"]
    while time.monotonic() < until and (monitor.should_continue(0.1) or given.get("stays")):
        verdict = monitor.verdict
        time.sleep(0.02)
    verdict = monitor.verdict
    used = monitor.get_usage_report().tokens
    print(json.dumps([verdict.action, verdict.reason, used]), flush=True)
    if given.get("killed"):
        monitor.checkpoint()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def life(folder: Path, process: SidecarProcess, **given: Any) -> list[Any]:
    """Let the run live through one process; return its last verdict, and its tokens."""
    options = {"seconds": 1.5, "tokens": 0, "limits": {"max_tokens": 1000}, **given}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder), process.url, json.dumps(options)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


def watching(folder: Path, ceilings: dict[str, Any], hold: str = "5m") -> Path:
    """Write the configuration of a sidecar that scrapes whoever registers."""
    file = folder / "sidecar.yaml"
    file.write_text(json.dumps({
        "source": {"scrape": {"file_sd": [f"{folder}/targets/*.json"], "interval": "200ms"}},
        "resource_limits": ceilings,
        "verdicts": {"hold": hold, "stale_after": "500ms"},
        "listen": {"address": "127.0.0.1:0"},
        "storage": {"path": str(folder / "ledger.db")},
    }))  # fmt: skip
    return file


def test_a_run_that_was_stopped_goes_on_with_more_tokens(tmp_path: Path) -> None:
    """The sidecar still has the stop under the old limits, and does not get it obeyed."""
    with sidecar(tmp_path, config=watching(tmp_path, {})) as process:
        first = life(tmp_path, process, tokens=850, seconds=30)
        assert first == ["stop", "approaching_limit", 850]
        until(lambda: (process.verdict("run") or {}).get("run_state") == "stopped")
        again = life(tmp_path, process, limits={"max_tokens": 5000})
        assert again == ["continue", "within_limits", 850]
        assert "5,000" in process.said(), "it judged the resumed run, too"


@pytest.mark.parametrize("ended", ["killed", "in order"])
def test_the_sidecars_own_ceiling_holds_from_the_first_moment(tmp_path: Path, ended: str) -> None:
    """A run over it is not let go on until the next scrape, however often it is resumed."""
    with sidecar(tmp_path, config=watching(tmp_path, {"max_tokens": 500})) as process:
        over = life(tmp_path, process, tokens=600, seconds=1, killed=ended == "killed", stays=True)
        assert over == ["stop", "limit_exceeded", 600]
        again = life(tmp_path, process, limits={"max_tokens": 5000}, seconds=30)
        assert again == ["stop", "limit_exceeded", 600]


def test_the_silence_of_a_process_that_was_killed_is_not_held_against_the_next(
    tmp_path: Path,
) -> None:
    """The sidecar had told the silent run to stop; the run it sees now goes on."""
    with sidecar(tmp_path, config=watching(tmp_path, {}, hold="500ms")) as process:
        life(tmp_path, process, tokens=100, seconds=1, killed=True)
        until(lambda: (process.verdict("run") or {}).get("action") == "stop")
        assert life(tmp_path, process) == ["continue", "within_limits", 100]


def test_the_next_night_is_a_new_run_for_the_sidecar_too(tmp_path: Path) -> None:
    """It begins from 0 under its ceiling, which the night before nearly used up."""
    with sidecar(tmp_path, config=watching(tmp_path, {"max_tokens": 500})) as process:
        for _ in range(3):
            night = life(tmp_path, process, tokens=300, seconds=1)
            assert night == ["continue", "within_limits", 300]
        until(lambda: (process.verdict("run") or {}).get("run_state") == "completed")
        assert (process.verdict("run") or {})["resources"]["tokens"]["used"] == 300


def test_downtime_counts_for_the_duration_and_not_for_the_active_time(tmp_path: Path) -> None:
    """By the sidecar's ceiling, over two processes of a run."""
    with sidecar(tmp_path, config=watching(tmp_path, {"max_active_seconds": 1000})) as process:
        life(tmp_path, process, tokens=1, seconds=1, killed=True)
        until(lambda: (process.verdict("run") or {}).get("status") == "inconclusive")
        assert life(tmp_path, process, seconds=1)[0] == "continue"
        until(lambda: (process.verdict("run") or {}).get("run_state") == "completed")
        resources = (process.verdict("run") or {})["resources"]
        active, duration = resources["active_duration"], resources["duration"]
        assert (active["limit"], active["limit_from"]) == (1000, "sidecar")
        assert 1 < active["used"] < duration["used"] - 0.5


def test_a_ceiling_on_the_active_time_stops_a_run(tmp_path: Path) -> None:
    """Also one that has no such limit of its own, and spends nothing."""
    with sidecar(tmp_path, config=watching(tmp_path, {"max_active_seconds": 0.5})) as process:
        assert life(tmp_path, process, seconds=30)[0] == "stop"
