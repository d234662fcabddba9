"""A real VictoriaMetrics between agents and sidecar: at its defaults, and late."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation
from otel_budget.ledger.ledger import Ledger
from otel_budget.presets.loader import shipped
from otel_budget.presets.model import Preset
from otel_budget.sources.prometheus import PrometheusSettings, PrometheusSource
from tests.support.exposition import line, page, serve
from tests.support.figures import note
from tests.support.http_server import serving
from tests.support.processes import SidecarProcess, agent, sidecar, until
from tests.support.prometheus_process import JOB, prometheus
from tests.support.victoria_metrics_process import asked_of, uncached, victoria_metrics

FOREIGN = Path(__file__).parent.parent / "foreign"

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


@pytest.mark.backends
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
        return asked_of(behind + path, pairs)

    with serving(answer) as url:
        yield url


@pytest.mark.backends
@pytest.mark.real("prometheus")
@pytest.mark.real("victoria-metrics")
def test_a_pair_of_prometheus_that_write_into_one_doubles_nothing(tmp_path: Path) -> None:
    """Of our own runs, and of programs that do not say which process they are."""
    own = line(semconv.SESSION_TOKENS, 1000, "own")
    began = line(semconv.INCARNATION_START, round(time.time(), 3), "own")
    foreign = (FOREIGN / "claude_code_2.1.330.prom").read_text(encoding="utf-8")
    with ExitStack() as stack:
        endpoint = stack.enter_context(serve())
        endpoint.show(page(own, began) + foreign)
        store = stack.enter_context(victoria_metrics(tmp_path, []))
        for replica in ("a", "b"):
            folder = tmp_path / replica
            folder.mkdir()
            more = {"remote_write": [{"url": f"{store}/api/v1/write"}]}
            labels = {"replica": replica}
            stack.enter_context(
                prometheus(folder, [endpoint.address], more=more, external_labels=labels)
            )
        url = stack.enter_context(uncached(store))
        assert until_seen(url, None, 2) == {("own", "tokens"): 1000}
        session = "ba8b11a9-0b6c-472a-8133-48db5b9683ff"
        found = until_seen(url, shipped()["claude_code"], 2)
        assert found[session, "tokens"] == 1300


def until_seen(url: str, chosen: Preset | None, ways: int) -> dict[tuple[str, str], Any]:
    """Read until runs are seen in so many ways; return what each has used of tokens."""
    ledger, end = Ledger(), time.monotonic() + 30

    async def read() -> Observation:
        query = PrometheusSettings(url, matchers=(f'job="{JOB}"',), preset=chosen)
        source = PrometheusSource(query, time.time)
        try:
            return await source.read()
        finally:
            await source.close()

    while time.monotonic() < end:
        reading = asyncio.run(read())
        if len({session.target for session in reading.sessions}) == ways:
            ledger.apply(reading)
            return {
                (session_id, "tokens"): account.totals()[semconv.TOKENS]
                for session_id, account in ledger.runs.items()
            }
        time.sleep(0.2)
    raise TimeoutError(f"not seen in {ways} ways: {reading}")
