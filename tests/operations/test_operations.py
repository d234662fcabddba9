"""An operator's hour with the shipped rules: the totals are right, and only the rogue is a notice.

With a real Prometheus and a real Alertmanager. `make reliability` runs it at the intervals that
``deploy/`` ships (15 s), through both sources; `make test` at half a second, by direct scrape and
without alerts: their windows, and how often a Prometheus looks for targets, do not shrink.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.test_alerts import ALERTMANAGER, DEPLOY, Webhook, webhook
from tests.operations.processes import Job
from tests.support.figures import length, note
from tests.support.ports import free_port
from tests.support.processes import SidecarProcess, sidecar, until
from tests.support.prometheus_process import alertmanager_with, prometheus_with
from tests.support.real import require

#: Notices that are true of a run which ignores its limit.
TRUE_OF_THE_ROGUE = {
    "OtelBudgetApproaching", "OtelBudgetExceeded", "OtelBudgetStopped", "OtelBudgetStopNotObeyed",
    "OtelBudgetFastBurn", "OtelBudgetForecast",
}  # fmt: skip
FULL = length(0, 1) == 1
SOURCES = ["scrape", "prometheus"] if FULL else ["scrape"]
#: Seconds after the last process has ended in which something false would be said of it: the hold,
#: the longest wait of a rule and the longest wait of a group.
AFTERWARDS = 480.0


@dataclass
class World:
    """What is running, and where."""

    folder: Path
    source: str
    interval: float
    """Seconds between two scrapes, of whoever scrapes."""
    register: Path
    prometheus: str
    port: int
    told: Webhook
    processes: list[tuple[Job, subprocess.Popen[bytes]]] = field(default_factory=list)

    def configuration(self) -> Path:
        """Write the sidecar's configuration."""
        every = f"{self.interval:g}s"
        if self.source == "prometheus":
            source: dict[str, Any] = {"prometheus": {"url": self.prometheus, "interval": "5s"}}
        else:
            entries = [f"{self.register}/*.json"]
            source = {"scrape": {"file_sd": entries, "interval": every, "timeout": every}}
        file = self.folder / "sidecar.yaml"
        config = {
            "source": source,
            "listen": {"address": f"127.0.0.1:{self.port}"},
            "storage": {"path": str(self.folder / "ledger.db")},
        }
        file.write_text(json.dumps(config))  # JSON is YAML
        return file

    def begin(self, job: Job) -> subprocess.Popen[bytes]:
        """Start a process."""
        process = job.start(self.register)
        self.processes.append((job, process))
        return process

    def wait(self) -> None:
        """Wait for the end of every process."""
        for job, process in self.processes:
            assert process.wait(600) == 0, job.session_id


@contextmanager
def world(folder: Path, source: str, interval: float) -> Iterator[World]:
    """Start everything but the sidecar."""
    register = folder / "targets"
    register.mkdir()
    port = free_port()
    with ExitStack() as stack:
        told, url = stack.enter_context(webhook())
        config = yaml.safe_load(ALERTMANAGER.read_text())
        config["receivers"] = [
            {"name": "team", "webhook_configs": [{"url": url, "send_resolved": True}]}
        ]
        address = stack.enter_context(alertmanager_with(folder, config))
        file = folder / "prometheus.json"
        file.write_text(json.dumps(_prometheus(register, port, address, interval)))
        server = stack.enter_context(prometheus_with(folder, file))
        found = World(folder, source, interval, register, server, port, told)
        try:
            yield found
        finally:
            for _, process in found.processes:
                process.kill()
                process.wait()


def _prometheus(register: Path, port: int, address: str, interval: float) -> dict[str, Any]:
    """Return the configuration of the Prometheus, as ``deploy/`` ships it."""
    every = f"{int(interval * 1000)}ms"
    return {
        "global": {
            "scrape_interval": every,
            "scrape_timeout": every if interval < 10 else "10s",
            "evaluation_interval": every,
        },
        "rule_files": [str(DEPLOY / "prometheus" / "otel-budget.rules.yaml")],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [address]}]}]},
        "scrape_configs": [
            {
                "job_name": "agents",
                "file_sd_configs": [{"files": [f"{register}/*.json"], "refresh_interval": "5s"}],
            },
            {
                "job_name": "otel-budget-sidecar",
                "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
            },
        ],
    }


def jobs(url: str, *, seconds: float, scrape_wait: float | None) -> list[Job]:
    """Return the processes that begin together. seconds: how long a batch job takes.

    The batch jobs do what the README advises for short runs; three of them do nothing.
    """
    like = partial(Job, sidecar=url, scrape_wait=scrape_wait)
    told = [like(f"batch-{n}", 20, 150, seconds / 20, workflow="batch") for n in range(10)]
    silent = [Job(f"silent-{n}", 20, 150, seconds / 20, workflow="batch") for n in range(3)]
    server = like("request-{}", 10, 50, seconds / 80, runs=40, workflow="server")
    rogue = like(
        "rogue", 1000, 1000, seconds / 100, obeys=False, max_tokens=60_000, workflow="rogue",
        team="sales",
    )  # fmt: skip
    return [*told, *silent, server, rogue]


@pytest.mark.real("prometheus")
@pytest.mark.real("prometheus-alertmanager")
@pytest.mark.parametrize("source", SOURCES)
def test_an_operators_hour(source: str, tmp_path: Path) -> None:
    require("prometheus")
    interval = 15.0 if FULL else 0.5
    with world(tmp_path, source, interval) as at, ExitStack() as stack:
        process = stack.enter_context(_sidecar(at))
        time.sleep(6.0)  # until a Prometheus that has just started scrapes
        # A sidecar on top of a Prometheus cannot have it scrape: there the end waits for a scrape.
        scrape_wait = interval * 4 / 3 if source == "prometheus" else None
        for job in jobs(process.url, seconds=interval * 4 / 3, scrape_wait=scrape_wait):
            at.begin(job)
        _rerun(at, process.url, scrape_wait)
        stack.close()  # the sidecar is restarted while runs go on
        time.sleep(interval / 3)
        process = stack.enter_context(_sidecar(at))
        at.wait()
        ended = time.monotonic()
        _assert_known(at, process)
        if FULL:
            time.sleep(max(0.0, ended + AFTERWARDS - time.monotonic()))
            _assert_told(at)


def _sidecar(at: World) -> Any:
    return sidecar(at.folder, config=at.configuration())


def _rerun(at: World, url: str, scrape_wait: float | None) -> None:
    """Run one job six times in a row on one port, each time in a new process."""
    port = free_port()
    for number in range(6):
        job = Job(
            f"again-{number}", 20, 150, at.interval / 25, port=port, sidecar=url,
            scrape_wait=scrape_wait,
        )  # fmt: skip
        assert at.begin(job).wait(300) == 0


def _assert_known(at: World, process: SidecarProcess) -> None:
    """Hold what the sidecar knows against what was used."""
    until(lambda: process.verdict("rogue"))
    time.sleep(2 * at.interval)
    wrong: dict[str, Any] = {}
    for job, _ in at.processes:
        for session_id, used in job.used().items():
            verdict = process.verdict(session_id)
            known = (
                None if verdict is None else verdict["resources"]["tokens"]["used"],
                None if verdict is None else verdict["run_state"],
            )
            if job.sidecar is not None and known != (used, "completed"):
                wrong[session_id] = known
            if job.sidecar is None:
                assert known[0] is None or known[0] <= used
    assert not wrong, wrong
    runs = sum(len(job.used()) for job, _ in at.processes if job.sidecar is not None)
    note(
        "Nothing lost",
        f"{runs} runs in processes that end in order, scraped every {at.interval:g} s "
        f"({at.source}): batch jobs of {at.interval * 4 / 3:g} s, a job that runs six times on one "
        "port, a server with a run for each request, a rogue; the sidecar restarted meanwhile",
        f"all {runs} known as completed, each with exactly the tokens it used",
    )


def _assert_told(at: World) -> None:
    """Hold what people were told against what was true."""
    firing = Counter((name, about) for status, name, about in at.told.notices if status == "firing")
    false = {n for n in firing if n[1] != "rogue" or n[0] not in TRUE_OF_THE_ROGUE}
    assert not false, false
    assert firing[("OtelBudgetStopNotObeyed", "rogue")] == 1, firing
    assert max(firing.values()) == 1, firing
    note(
        "Never silently open",
        f"the same hour with the shipped rules and a real Alertmanager ({at.source})",
        f"{sum(firing.values())} notices, all true, all of the rogue, each once",
    )
