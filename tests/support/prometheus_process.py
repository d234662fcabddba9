"""A real Prometheus as a child process on loopback, scraping what a test serves."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mirakuru import HTTPExecutor

from tests.support.ports import free_port
from tests.support.real import require

SCRAPE_INTERVAL = "200ms"
JOB = "agents"


@contextmanager
def prometheus(
    folder: Path,
    addresses: Sequence[str] = (),
    jobs: Sequence[Mapping[str, Any]] = (),
    more: Mapping[str, Any] | None = None,
    external_labels: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Run a Prometheus that scrapes the addresses every 200 ms; yield its URL.

    jobs: further ones, as they stand in its configuration. more: further sections of that.
    external_labels: put on what it sends to other servers.

    Its first scrape comes 5 s after its start, and so does the first after a change of targets:
    start one per test run, and change what the targets show.
    """
    config = {
        "global": {
            "scrape_interval": SCRAPE_INTERVAL,
            "scrape_timeout": SCRAPE_INTERVAL,
            "evaluation_interval": SCRAPE_INTERVAL,
            "external_labels": dict(external_labels or {}),
        },
        **(more or {}),
        "scrape_configs": [
            {"job_name": JOB, "static_configs": [{"targets": list(addresses)}]},
            *jobs,
        ],
    }
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    with prometheus_with(folder, file) as url:
        yield url


@contextmanager
def prometheus_with(folder: Path, file: Path) -> Iterator[str]:
    """Run a Prometheus with a configuration file; yield its URL."""
    port = free_port()
    command = [
        require("prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    url = f"http://127.0.0.1:{port}"
    with HTTPExecutor(command, url=f"{url}/-/ready", timeout=30, sleep=0.05):
        yield url


@contextmanager
def alertmanager_with(folder: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """Run an Alertmanager with a configuration; yield its address."""
    file = folder / "alertmanager.json"
    file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    address = f"127.0.0.1:{free_port()}"
    command = [
        require("prometheus-alertmanager"),
        f"--config.file={file}",
        f"--storage.path={folder / 'am'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
        "--log.level=error",
    ]
    with HTTPExecutor(command, url=f"http://{address}/-/ready", timeout=20, sleep=0.05):
        yield address
