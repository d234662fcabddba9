"""Twenty batch jobs, each shorter than twice the scrape interval: all complete, all ended.

By scrape, through a real Prometheus, and pushed by OTLP as their environment alone says; with the
shipped alert rules watching, none of which is to fire. At full length (``make batch``) jobs of 1 to
30 s at intervals of 1, 15 and 60 s; else of 1 to 6 s at 15 s.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.test_ends import fired, rules
from tests.support.figures import length, note
from tests.support.ports import free_port
from tests.support.processes import SidecarProcess, sidecar
from tests.support.prometheus_process import prometheus
from tests.support.query import Prometheus

JOBS = 20
FULL = length(0, 1) == 1
INTERVALS = (1, 15, 60) if FULL else (15,)
LONGEST = length(6, 30)
SAID = {
    "scrape": "scraped every {} s",
    "prometheus": "through a Prometheus that scrapes every {} s",
    "push": "pushed by OTLP every {} s",
}
#: Uses 100 tokens each twentieth of its time.
JOB = """
import json, sys, time
from otel_budget import ResourceLimits, ResourceMonitor, serve_metrics

options = json.loads(sys.argv[1])
if options["register"]:
    serve_metrics("127.0.0.1", 0, options["register"])
with ResourceMonitor(ResourceLimits(), options["id"], sidecar=options["sidecar"]) as run:
    for _ in range(20):
        run.record_operation(tokens=100, api_call=True)
        run.should_continue()
        time.sleep(options["seconds"] / 20)
from otel_budget.sdk.lifecycle.at_exit import AT_EXIT
ended = time.monotonic()
AT_EXIT.run()
print(time.monotonic() - ended)
"""


@contextmanager
def running(folder: Path, way: str, interval: int) -> Iterator[tuple[SidecarProcess, str, str]]:
    """Run a sidecar, and a Prometheus with the alert rules; yield both, and where jobs push."""
    targets = folder / "targets"
    targets.mkdir()
    listen, receives = (f"127.0.0.1:{free_port()}" for _ in range(2))
    by_file = {"file_sd_configs": [{"files": [f"{targets}/*.json"]}]}
    jobs: list[dict[str, Any]] = [
        {"job_name": "jobs", "scrape_interval": f"{interval}s", **by_file}
    ]
    more = {"rule_files": [str(rules(folder))]}
    with prometheus(folder, [listen], jobs if way == "prometheus" else (), more) as url:
        sources: dict[str, dict[str, Any]] = {
            "scrape": {"scrape": {"file_sd": [f"{targets}/*.json"], "interval": f"{interval}s"}},
            "prometheus": {"prometheus": {"url": url, "interval": f"{min(interval, 5)}s"}},
            "push": {"otlp": {"address": receives}},
        }
        config = folder / "sidecar.yaml"
        config.write_text(yaml.safe_dump({
            "source": sources[way], "listen": {"address": listen},
            "storage": {"path": str(folder / "sidecar.db")},
        }))  # fmt: skip
        with sidecar(folder, config=config) as process:
            yield process, url, f"http://{receives}"


def start(way: str, number: int, interval: int, folder: Path, told: str) -> subprocess.Popen[str]:
    """Start a job. told: the sidecar's URL, or where it pushes."""
    seconds = 1 + (LONGEST - 1) * number / (JOBS - 1)
    pushes = way == "push"
    options = {
        "id": f"job-{number}", "seconds": seconds, "sidecar": None if pushes else told,
        "register": None if pushes else str(folder / "targets"),
    }  # fmt: skip
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    if pushes:
        env |= {
            "OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": told,
            "OTEL_METRIC_EXPORT_INTERVAL": str(interval * 1000),
        }  # fmt: skip
    command = [sys.executable, "-c", JOB, json.dumps(options)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)


@pytest.mark.real("prometheus")
@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("way", SAID)
def test_every_job_is_complete_and_ended_and_nobody_is_paged(
    way: str, interval: int, tmp_path: Path
) -> None:
    """Although no scrape may have come in all of its life."""
    with running(tmp_path, way, interval) as (process, store, receives):
        told = receives if way == "push" else process.url
        jobs = [start(way, number, interval, tmp_path, told) for number in range(JOBS)]
        ends = [float(job.communicate(timeout=LONGEST + 60)[0]) for job in jobs]
        assert not any(job.returncode for job in jobs)
        states = {}
        for number in range(JOBS):
            verdict = process.verdict(f"job-{number}")
            used = verdict and (verdict["run_state"], verdict["resources"]["tokens"]["used"])
            states[number] = used
        assert set(states.values()) == {("completed", 2000)}, states
        # How long that takes is a figure of a machine that does nothing else.
        assert not FULL or sorted(ends)[JOBS // 2] < 3, "an end does not wait for a scrape"
        # By then a run that was thought to be without data would be told of.
        time.sleep(min(interval, 15) + 8 if FULL else 8)
        alerts = {name for name, *_ in fired(Prometheus(store))}
        assert alerts <= {"OtelBudgetTickOverrun"}, "a busy machine"
        rows = [row for row in process.metrics().splitlines() if "inconclusive_total{" in row]
        assert rows
        assert not [row for row in rows if not row.endswith(" 0.0")]
    note(
        "Nothing lost",
        f"{JOBS} batch jobs of 1 to {LONGEST} s, {SAID[way].format(interval)}",
        f"all known as completed with exactly what they used, no alert; their ends took "
        f"{min(ends):.2f} to {max(ends):.2f} s",
    )
