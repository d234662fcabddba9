"""A real VictoriaMetrics as a child process on loopback, scraping what a test serves."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from mirakuru import HTTPExecutor

from tests.ports import free_port
from tests.prometheus_process import JOB
from tests.real import require


@contextmanager
def victoria_metrics(
    folder: Path, addresses: Sequence[str], *flags: str, interval: str = "500ms"
) -> Iterator[str]:
    """Run one that scrapes the addresses; yield its URL.

    What it scraped is to be seen 1 to 2 s later, a series that is new after up to 13 s.
    """
    job = {"job_name": JOB, "static_configs": [{"targets": list(addresses)}]}
    scrape = {"global": {"scrape_interval": interval}, "scrape_configs": [job]}
    (folder / "scrape.yml").write_text(json.dumps(scrape), encoding="utf-8")  # JSON is YAML
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        require("victoria-metrics"),
        f"-httpListenAddr={urlsplit(url).netloc}",
        f"-storageDataPath={folder / 'data'}",
        f"-promscrape.config={folder / 'scrape.yml'}",
        "-memory.allowedBytes=100MB",
        "-loggerLevel=ERROR",
        *flags,
    ]
    with HTTPExecutor(command, url=f"{url}/health", timeout=30, sleep=0.05):
        yield url
