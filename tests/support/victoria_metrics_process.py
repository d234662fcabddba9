"""A real VictoriaMetrics as a child process on loopback, scraping what a test serves."""

import itertools
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mirakuru import HTTPExecutor

from tests.support.exposition import Exposition
from tests.support.http_server import serving
from tests.support.ports import free_port
from tests.support.prometheus_process import JOB
from tests.support.real import require


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


def asked_of(url: str, form: Any) -> tuple[int, bytes]:
    """Return the status and the body that a form is answered with: a mapping, or pairs."""
    asked = urllib.request.Request(url, urllib.parse.urlencode(form).encode())
    try:
        with urllib.request.urlopen(asked, timeout=5) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read()


@contextmanager
def uncached(behind: str) -> Iterator[str]:
    """Serve what a VictoriaMetrics answers, asked in another way each time; yield the URL.

    It keeps for up to 10 s which series a filter selects, and shows a new one only then.
    """
    number = itertools.count()

    def answer(path: str, form: bytes) -> tuple[int, bytes]:
        pairs = dict(urllib.parse.parse_qsl(form.decode()))
        selector = f'job="{JOB}"'
        pairs["query"] = pairs["query"].replace(selector, f'{selector},asked!="{next(number)}"')
        return asked_of(behind + path, pairs)

    with serving(answer) as url:
        yield url


class Patience:
    """Waits until what endpoints show has become what a VictoriaMetrics answers."""

    def __init__(self, url: str, endpoints: tuple[Exposition, ...]) -> None:
        """Keep where to ask, and who is scraped."""
        self._url, self._endpoints, self._number = url, endpoints, itertools.count()

    def show(self, texts: tuple[str | None, ...]) -> None:
        """Let the endpoints show this, and wait until it is to be seen."""
        mark = f'shown{{number="{next(self._number)}"}} 1\n'
        for endpoint, text in zip(self._endpoints, texts, strict=True):
            endpoint.show(None if text is None else text + mark)
        for endpoint in self._endpoints:
            endpoint.wait_until_asked(1)
        at = time.time()
        for endpoint, text in zip(self._endpoints, texts, strict=True):
            place = f'job="{JOB}",instance="{endpoint.address}"'
            name = mark.split("{")[1].split("}", maxsplit=1)[0]
            self._wait(f"timestamp(up{{{place}}}) > {at}")
            if text is not None:
                self._wait(f"shown{{{place},{name}}}")

    def _wait(self, query: str, *, patience: float = 20.0) -> None:
        until = time.monotonic() + patience
        form = urllib.parse.urlencode({"query": query, "nocache": 1}).encode()
        while True:
            with urllib.request.urlopen(f"{self._url}/api/v1/query", form, timeout=5) as answer:
                if json.load(answer)["data"]["result"]:
                    return
            if time.monotonic() > until:
                raise TimeoutError(f"VictoriaMetrics has nothing for {query}")
            time.sleep(0.1)
