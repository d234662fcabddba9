"""Processes that come and go are known to have ended, with all they used.

Real processes under a real sidecar that scrapes seldom beside how long they live.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_budget import ResourceMonitor, serve_metrics
from tests.support.figures import note
from tests.support.ports import free_port
from tests.support.processes import SidecarProcess, sidecar, until
from tests.support.prometheus_process import SCRAPE_INTERVAL, prometheus
from tests.support.query import Prometheus

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "otel-budget.rules.yaml"
#: A batch job: it uses 3,000 tokens, ends in order, and says how long its end took.
JOB = """
import atexit, json, multiprocessing, os, sys, time
options = json.loads(sys.argv[1])
ended = time.monotonic()
atexit.register(lambda: print(time.monotonic() - ended, flush=True))  # called last
from otel_budget import ResourceLimits, ResourceMonitor, serve_metrics

def job():
    serve_metrics("127.0.0.1", options.get("port", 0), options.get("register"),
                  scrape_wait=options.get("scrape_wait"))
    with ResourceMonitor(ResourceLimits(), options["id"], sidecar=options.get("sidecar"),
                         scope=options.get("scope")) as run:
        for _ in range(20):
            run.record_operation(tokens=150, api_call=True)
            time.sleep(options["seconds"] / 20)
        if options.get("abrupt"):
            began = time.monotonic()
            run.close(timeout=2)
            print(time.monotonic() - began, flush=True)
            os._exit(0)

if options.get("forked"):
    child = multiprocessing.get_context("fork").Process(target=job)
    child.start()
    child.join()
elif options.get("pool"):
    with multiprocessing.get_context("fork").Pool(1) as pool:  # left, it kills its workers
        pool.apply(job)
else:
    job()
ended = time.monotonic()
"""


class Job:
    """A batch job's process."""

    def __init__(self, session_id: str, **options: Any) -> None:
        """Start it."""
        given = {"id": session_id, "seconds": 0.7, **options}
        self.session_id = session_id
        self._process = subprocess.Popen(
            [sys.executable, "-c", JOB, json.dumps(given)], stdout=subprocess.PIPE, text=True
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL it, if it lives."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def done(self) -> float:
        """Wait for its end; return the seconds that the end took."""
        said, _ = self._process.communicate(timeout=60)
        assert self._process.returncode == 0
        return float(said)


def known(process: SidecarProcess, session_id: str) -> tuple[Any, ...]:
    """Return what the sidecar knows of a run: its state, and its tokens."""
    verdict = process.verdict(session_id)
    if verdict is None:
        return ("unknown",)
    return verdict["run_state"], verdict["resources"]["tokens"]["used"]


def test_a_run_that_was_given_its_sidecar_ends_at_once_and_is_heard(tmp_path: Path) -> None:
    """Processes shorter than the interval: registered, forked, of a pool, abrupt, in turn."""
    flags = ("--file-sd", f"{tmp_path}/targets/*.json", "--interval", "30")
    port = free_port()
    with sidecar(tmp_path, *flags, "--target", f"http://127.0.0.1:{port}/metrics") as process:
        given = {"sidecar": process.url, "register": str(tmp_path / "targets")}
        jobs = [
            Job(f"batch-{n}", forked=n == 0, abrupt=n == 1, pool=n == 2, **given) for n in range(4)
        ]
        took = [job.done() for job in jobs]
        took += [Job(f"nightly-{n}", sidecar=process.url, port=port).done() for n in range(2)]
        ids = [f"batch-{n}" for n in range(4)] + [f"nightly-{n}" for n in range(2)]
        assert {known(process, each) for each in ids} == {("completed", 3000)}
    entries = list((tmp_path / "targets").glob("*.json"))
    assert 1 <= len(entries) <= 2, "of those that end abruptly; a pool may be slow to kill"
    assert min(took) < 0.5
    assert max(took) < 2.5, "a sidecar that had not seen the run yet reads all there is first"
    note(
        "Nothing lost",
        f"{len(ids)} processes of 0.7 s end, scraped every 30 s: registered, "
        "forked, of a pool, ended abruptly, one after the other on one port",
        f"all known as completed, with exactly what they used; their ends took {min(took):.2f} to "
        f"{max(took):.2f} s",
    )


def test_with_scrape_wait_whoever_scrapes_sees_the_end(tmp_path: Path) -> None:
    """Without a word to the sidecar: the process waits for one more scrape, its requests do not."""
    flags = ("--file-sd", f"{tmp_path}/targets/*.json", "--interval", "1")
    with sidecar(tmp_path, *flags) as process:
        given = {"register": str(tmp_path / "targets"), "scrape_wait": 5, "seconds": 0.2}
        jobs = [Job(f"batch-{n}", **given) for n in range(4)]
        assert max(job.done() for job in jobs) < 4
        found = until(lambda: all(known(process, job.session_id) for job in jobs) or None)
        assert found
        assert {known(process, job.session_id) for job in jobs} == {("completed", 3000)}


def test_leaving_a_run_waits_for_nobody(tmp_path: Path) -> None:
    """One run for each request, scraped every second: the page has its end for a minute anyway."""
    with serve_metrics("127.0.0.1", 0) as endpoint:
        flags = ("--target", endpoint.url, "--interval", "1")
        with sidecar(tmp_path, *flags) as process:
            with ResourceMonitor(None, "first", sidecar=process.url) as run:
                run.record_operation(1)
                until(lambda: process.verdict("first"))
            took = []
            for number in range(20):
                with ResourceMonitor(None, f"request-{number}", sidecar=process.url) as run:
                    run.record_operation(1)
                    began = time.monotonic()
                took.append(time.monotonic() - began)
            assert sorted(took)[10] < 0.1
            until(lambda: known(process, "request-19") == ("completed", 1) or None)


def rules(folder: Path) -> Path:
    """Write the shipped rules, evaluated often, one with a short wait."""
    found = yaml.safe_load(RULES.read_text())
    for group in found["groups"]:
        group["interval"] = SCRAPE_INTERVAL
        for rule in group["rules"]:
            if rule.get("alert") == "OtelBudgetNoData":
                rule["for"] = "2s"
    file = folder / "rules.yaml"
    file.write_text(yaml.safe_dump(found))
    return file


def fired(server: Prometheus) -> set[tuple[str, str, str]]:
    """Return every alert that fired: its name, the run it is about, and the team."""
    rows = server.vector('last_over_time(ALERTS{alertstate="firing"}[5m])')
    labels = [row["metric"] for row in rows]
    return {(one["alertname"], one.get("session_id", ""), one.get("team", "")) for one in labels}


@pytest.mark.real("prometheus")
def test_through_a_prometheus_only_those_that_were_killed_or_cut_off_are_told_of(
    tmp_path: Path,
) -> None:
    """Of jobs that end in order, one after another on one port or each on its own, nobody is."""
    targets, port = tmp_path / "targets", free_port()
    targets.mkdir()
    jobs: list[dict[str, Any]] = [
        {"job_name": "jobs", "file_sd_configs": [{"files": [f"{targets}/*.json"]}]}
    ]
    fixed = f"127.0.0.1:{port}"
    sidecar_port = free_port()
    # Longer than a process takes to be taken away, as it is at 15 s.
    every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "200ms"}
    jobs[0]["scrape_interval"] = "2s"
    more = {"rule_files": [str(rules(tmp_path))], "global": every}
    addresses = [fixed, f"127.0.0.1:{sidecar_port}"]
    with (
        prometheus(tmp_path, addresses, jobs, more) as url,
        sidecar(
            tmp_path, "--prometheus", url, "--interval", "0.3",
            listen=f"127.0.0.1:{sidecar_port}",
        ) as process,
    ):  # fmt: skip
        server = Prometheus(url)
        given = {"register": str(targets), "sidecar": process.url, "scope": {"team": "search"}}
        killed, cut_off = Job("killed", seconds=60, **given), Job("cut-off", seconds=60, **given)
        removed = Job("removed", seconds=60, register=str(targets))  # nobody hears from it
        try:
            batch = [Job(f"batch-{n}", seconds=9, **given) for n in range(2)]
            patient = Job("patient", seconds=9, scrape_wait=5, **given)
            for number in range(3):
                Job(f"nightly-{number}", seconds=0.5, port=port, scrape_wait=5).done()
            until(lambda: known(process, "killed")[0] == "running" or None)
            until(lambda: known(process, "removed")[0] == "running" or None)
            until(lambda: known(process, "cut-off")[0] == "running" or None)
            for live in (removed, cut_off):
                next(targets.glob(f"*-{live.pid}-*.json")).unlink()
            for job in (*batch, patient):
                job.done()
            killed.kill()
            told = {("OtelBudgetNoData", name, "search") for name in ("killed", "cut-off")}
            until(lambda: fired(server) >= told or None)
            time.sleep(4)  # by now the others would be without data for as long
            assert fired(server) - {("OtelBudgetTickOverrun", "", "")} == told  # a busy machine
            exact = ["patient", *(f"nightly-{n}" for n in range(3))]
            assert {known(process, each) for each in exact} == {("completed", 3000)}
            assert known(process, "removed")[0] == "vanished"
            left = {known(process, f"batch-{n}")[0] for n in range(2)}
            assert left <= {"completed", "vanished"}
        finally:
            for job in (killed, removed, cut_off):
                job.kill()
