"""Programs that receive OTLP as child processes on loopback: a Prometheus 3, and a Collector.

`make read-back-parts` builds both out of Go modules: Debian's Prometheus has no receiver.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mirakuru import HTTPExecutor

from tests.support.ports import free_port
from tests.support.real import missing

TOOLS = Path(__file__).parents[2] / ".venv-tools"


def built(program: str) -> str:
    """Return the path of a program that is built for the tests; else skip the test, loudly."""
    found = shutil.which(program, path=f"{TOOLS}") or shutil.which(program)
    if found is None:
        missing(f"{program!r} is not built; build it with: make read-back-parts")
    return found


@contextmanager
def prometheus_3(folder: Path) -> Iterator[str]:
    """Run a Prometheus 3 that receives OTLP and scrapes nothing; yield its URL."""
    config = folder / "prometheus3.yml"
    config.write_text("scrape_configs: []\n", encoding="utf-8")
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        built("prometheus3"), f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb3'}",
        f"--web.listen-address={url.removeprefix('http://')}", "--web.enable-otlp-receiver",
        "--log.level=error",
    ]  # fmt: skip
    with HTTPExecutor(command, url=f"{url}/-/ready", timeout=30, sleep=0.05):
        yield url


@contextmanager
def collector(folder: Path) -> Iterator[tuple[str, str]]:
    """Run an OpenTelemetry Collector; yield where it receives OTLP, and its Prometheus page."""
    receives, shows = (f"127.0.0.1:{free_port()}" for _ in range(2))
    pipeline = {"receivers": ["otlp"], "exporters": ["prometheus"]}
    config = folder / "otelcol.json"
    config.write_text(json.dumps({
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": receives}}}},
        "exporters": {"prometheus": {"endpoint": shows}},
        "service": {
            "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "error"}},
            "pipelines": {"metrics": pipeline},
        },
    }))  # fmt: skip
    command = [built("otelcol"), "--config", str(config)]
    page = f"http://{shows}/metrics"
    with HTTPExecutor(command, url=page, timeout=30, sleep=0.05):
        yield f"http://{receives}", page
