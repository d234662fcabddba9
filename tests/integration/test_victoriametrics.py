"""A real VictoriaMetrics in front of the sidecar: it hides the newest samples from every query."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mirakuru import HTTPExecutor

from tests.figures import note
from tests.ports import free_port
from tests.processes import agent, sidecar, until
from tests.real import require

#: Seconds; 30 unless told otherwise.
OFFSET = 5


@contextmanager
def victoria_metrics(folder: Path, address: str) -> Iterator[str]:
    """Run one that scrapes an address twice a second; yield its URL."""
    job = {"job_name": "agents", "static_configs": [{"targets": [address]}]}
    scrape = {"global": {"scrape_interval": "500ms"}, "scrape_configs": [job]}
    (folder / "scrape.yml").write_text(json.dumps(scrape), encoding="utf-8")  # JSON is YAML
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        require("victoria-metrics"),
        f"-httpListenAddr={urlsplit(url).netloc}",
        f"-storageDataPath={folder / 'data'}",
        f"-promscrape.config={folder / 'scrape.yml'}",
        f"-search.latencyOffset={OFFSET}s",
        "-memory.allowedBytes=100MB",
        "-loggerLevel=ERROR",
    ]
    with HTTPExecutor(command, url=f"{url}/health", timeout=30, sleep=0.05):
        yield url


@pytest.mark.real("victoria-metrics")
def test_runs_behind_a_steady_delay_are_judged_by_their_numbers(tmp_path: Path) -> None:
    """Not inconclusive for ever; the delay is said once, with the figure, and in a metric."""
    with (
        agent("late", pause=0.1) as running,
        victoria_metrics(tmp_path, urlsplit(running.metrics).netloc) as url,
    ):
        config = {
            "source": {"prometheus": {"url": url, "interval": "500ms"}},
            "resource_limits": {"max_tokens": 10_000_000},
            "verdicts": {"hold": "1s"},
            "listen": {"address": "127.0.0.1:0"},
            "storage": {"path": "ledger.db"},
        }
        (tmp_path / "sidecar.yaml").write_text(json.dumps(config), encoding="utf-8")
        with sidecar(tmp_path, config=tmp_path / "sidecar.yaml") as process:
            until(lambda: process.verdict("late"), process.process)
            seen = set()
            end = time.monotonic() + OFFSET + 2
            while time.monotonic() < end:
                verdict = process.verdict("late")
                assert verdict is not None
                seen.add((verdict["action"], verdict["reason"]))
                time.sleep(0.1)
            assert seen == {("continue", "within_limits")}
            assert process.said().count("samples arrive steadily late, by up to ") == 1
            shown = process.metrics()
    name = 'otel_budget_sidecar_source_delay_seconds{source="prometheus"} '
    delay = float(shown.partition(name)[2].partition("\n")[0])
    assert OFFSET - 1 < delay < OFFSET + 2
    note(
        "Never silently open",
        f"a real VictoriaMetrics that hides the newest {OFFSET} s, asked every 0.5 s, hold 1 s",
        f"judged by its numbers all the time; a delay of {delay:.0f} s said once",
    )
