"""What a real Prometheus answers about the recorded runs: ``predict_linear`` over replayed series.

The counters of each run, as scrapes every 15 s see them, become blocks of a new Prometheus; it is
then asked at each moment as a user would: when is the limit where the line through the last five
minutes, or the last hour, leads to?
"""

from __future__ import annotations

import http.client
import json
import math
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from evaluation.cases import scrapes
from evaluation.contestants import Answered, exactly
from otel_budget import semconv
from otel_budget.core.resources import COUNTED, RESOURCES, TIMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from evaluation.cases import Case
    from evaluation.runs import Run

#: Ranges that a user would take.
WINDOWS: Final = ("5m", "1h")
#: Unix time at which every replayed run begins: any will do, and none that changes the results.
BEGAN: Final = 1_767_225_600
_STARTS_WITHIN: Final = 30.0


class MissingProgramError(RuntimeError):
    """Prometheus is not installed."""


def name_of(window: str) -> str:
    """Return what the answers from a range are called."""
    return f"predict_linear, {window}"


def version() -> str:
    """Return the version of the Prometheus that is installed. Raises MissingProgramError."""
    told = subprocess.run(
        [_program("prometheus"), "--version"], capture_output=True, text=True, check=True
    )
    return (told.stdout or told.stderr).split()[2]


def open_metrics(runs: Sequence[Run]) -> str:
    """Return what was scraped of the runs, in the format that Prometheus takes in later."""
    samples = {run.session_id: scrapes(run, number) for number, run in enumerate(runs)}
    lines: list[str] = []
    for resource in COUNTED:
        metric = RESOURCES[resource].counter
        if metric is None or not all(resource in s[0].totals for s in samples.values()):
            continue
        lines.append(f"# TYPE {metric.name.removesuffix('_total')} counter")
        for session_id, seen in samples.items():
            series = f'{metric.name}{{{semconv.SESSION_ID}="{session_id}"}}'
            lines += [
                f"{series} {float(sample.totals[resource])!r} {BEGAN + sample.at:.3f}"
                for sample in seen
            ]
    return "\n".join((*lines, "# EOF", ""))


@contextmanager
def replayed(runs: Sequence[Run]) -> Iterator[Asked]:
    """Run a Prometheus that has seen the runs, on loopback. Raises MissingProgramError."""
    with tempfile.TemporaryDirectory() as folder:
        history, blocks = Path(folder, "history.txt"), Path(folder, "blocks")
        history.write_text(open_metrics(runs), encoding="utf-8")
        subprocess.run(
            [_program("promtool"), "tsdb", "create-blocks-from", "openmetrics",
             str(history), str(blocks)],
            check=True, capture_output=True,
        )  # fmt: skip
        with _server(Path(folder), blocks) as port:
            asked = Asked(port)
            try:
                yield asked
            finally:
                asked.close()


class Asked:
    """A Prometheus that can be asked."""

    def __init__(self, port: int) -> None:
        """Talk to the one on a port of this machine."""
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def number(self, query: str, at: float) -> float | None:
        """Return the one value of a query at a Unix time; None: there is no number."""
        self._connection.request("GET", f"/api/v1/query?{urlencode({'query': query, 'time': at})}")
        answer = json.loads(self._connection.getresponse().read())
        if answer["status"] != "success":
            raise RuntimeError(f"{query}: {answer['error']}")
        found = [float(one["value"][1]) for one in answer["data"]["result"]]
        if len(found) > 1:
            raise RuntimeError(f"{query}: {len(found)} series instead of one")
        return found[0] if found and math.isfinite(found[0]) else None

    def answers(self, asked: Iterable[Case]) -> Iterator[Answered]:
        """Yield what the line through each range says."""
        for case in asked:
            at = BEGAN + case.at
            for window in WINDOWS:
                seconds, calls = self._seconds(case, window, at), None
                made = f"deriv({_series(semconv.API_CALLS, case.session_id)}[{window}])"
                per_second = self.number(made, at)
                if seconds is not None and per_second is not None and per_second > 0:
                    calls = seconds * per_second
                yield Answered(case, name_of(window), exactly(calls, seconds))

    def _seconds(self, case: Case, window: str, at: float) -> float | None:
        """Return the seconds until the line meets the limit: predict_linear(…, s) is the limit."""
        if case.resource in TIMES:
            return float(case.remaining)
        used = f"{_series(case.resource, case.session_id)}[{window}]"
        until = f"({float(case.limit)!r} - predict_linear({used}, 0)) / (deriv({used}) > 0)"
        seconds = self.number(until, at)
        return None if seconds is None else max(0.0, seconds)


def _series(resource: str, session_id: str) -> str:
    metric = RESOURCES[resource].counter
    if metric is None:
        raise ValueError(f"{resource} is not counted")
    return f'{metric.name}{{{semconv.SESSION_ID}="{session_id}"}}'


@contextmanager
def _server(folder: Path, blocks: Path) -> Iterator[int]:
    """Run it over blocks, scraping nothing; yield its port."""
    config = folder / "prometheus.yml"
    config.write_text("scrape_configs: []\n", encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [
        _program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={blocks}",
        "--storage.tsdb.retention.time=100y", f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(process, port)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=_STARTS_WITHIN)


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + _STARTS_WITHIN
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError):
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
                connection.request("GET", "/-/ready")
                answer = connection.getresponse()
                answer.read()
            if answer.status == http.client.OK:
                return
        time.sleep(0.05)
    raise RuntimeError(f"Prometheus was not ready within {_STARTS_WITHIN:g} s")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MissingProgramError(
            f"{name!r} is not installed; "
            "install it with: apt-get install --no-install-recommends prometheus"
        )
    return found
