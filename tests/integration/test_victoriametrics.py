"""A real VictoriaMetrics between agents and sidecar: at its defaults, and late."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.figures import note
from tests.http_server import serving
from tests.processes import SidecarProcess, agent, sidecar, until
from tests.victoria_metrics_process import victoria_metrics

#: Seconds that are hidden from every query where ``nocache`` does not arrive; 30 unless told.
OFFSET = 5


@contextmanager
def judged(folder: Path, url: str, most_tokens: int) -> Iterator[SidecarProcess]:
    """Run a sidecar that asks there twice a second, with a hold of a second."""
    config = {
        "source": {"prometheus": {"url": url, "interval": "500ms"}},
        "resource_limits": {"max_tokens": most_tokens},
        "verdicts": {"hold": "1s"},
        "listen": {"address": "127.0.0.1:0"},
        "storage": {"path": "ledger.db"},
    }
    (folder / "sidecar.yaml").write_text(json.dumps(config), encoding="utf-8")
    with sidecar(folder, config=folder / "sidecar.yaml") as process:
        until(lambda: process.verdict("late"), process.process)
        yield process


def seen(process: SidecarProcess, seconds: float) -> set[tuple[str, str]]:
    """Return action and reason of all verdicts on the run in that time."""
    found, end = set(), time.monotonic() + seconds
    while time.monotonic() < end:
        verdict = process.verdict("late")
        assert verdict is not None
        found.add((verdict["action"], verdict["reason"]))
        time.sleep(0.1)
    return found


def delay_of(process: SidecarProcess) -> float:
    """Return what samples are found to be late by, in seconds."""
    name = 'otel_budget_sidecar_source_delay_seconds{source="prometheus"} '
    return float(process.metrics().partition(name)[2].partition("\n")[0])


@pytest.mark.real("victoria-metrics")
def test_runs_are_judged_through_one_at_its_defaults_as_by_a_prometheus(tmp_path: Path) -> None:
    """It hides the newest 30 s from queries, unless it is asked not to."""

    def told() -> tuple[str, str]:
        verdict = process.verdict("late")
        assert verdict is not None
        return verdict["action"], verdict["reason"]

    with (
        agent("late", pause=0.1, tokens=10) as running,
        victoria_metrics(tmp_path, [urlsplit(running.metrics).netloc]) as url,
        judged(tmp_path, url, 700) as process,
    ):
        until(lambda: told() == ("stop", "limit_exceeded"), process.process)
        verdict = process.verdict("late")
        assert verdict is not None
        assert verdict["resources"]["tokens"]["used"] < 700 + 100 * 3  # 3 s of it at the most
        assert delay_of(process) < 3
        assert 'inconclusive_total{reason="stale_data"} 0.0' in process.metrics()


@pytest.mark.real("victoria-metrics")
def test_runs_behind_a_steady_delay_are_judged_by_their_numbers(tmp_path: Path) -> None:
    """Not inconclusive for ever; the delay is said once, with the figure, and in a metric."""
    with (
        agent("late", pause=0.1) as running,
        victoria_metrics(
            tmp_path, [urlsplit(running.metrics).netloc], f"-search.latencyOffset={OFFSET}s"
        ) as behind,
        delayed(behind) as url,
        judged(tmp_path, url, 10_000_000) as process,
    ):
        assert seen(process, OFFSET + 2) == {("continue", "within_limits")}
        assert process.said().count("samples arrive steadily late, by up to ") == 1
        delay = delay_of(process)
    assert OFFSET - 1 < delay < OFFSET + 2
    note(
        "Never silently open",
        f"a real VictoriaMetrics that hides the newest {OFFSET} s, asked every 0.5 s, hold 1 s",
        f"judged by its numbers all the time; a delay of {delay:.0f} s said once",
    )


@contextmanager
def delayed(behind: str) -> Iterator[str]:
    """Serve what a VictoriaMetrics answers through a proxy that knows no ``nocache``."""

    def answer(path: str, form: bytes) -> tuple[int, bytes]:
        pairs = [pair for pair in urllib.parse.parse_qsl(form.decode()) if pair[0] != "nocache"]
        asked = urllib.request.Request(behind + path, urllib.parse.urlencode(pairs).encode())
        try:
            with urllib.request.urlopen(asked, timeout=5) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as exc:
            return exc.code, exc.read()

    with serving(answer) as url:
        yield url
