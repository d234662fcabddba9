"""The history of runs in a real Prometheus, read back: what a sidecar would have read there."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.core.observation import RunObservation
from otel_budget.replay.history import PrometheusHistory
from otel_budget.sources.prometheus import PrometheusSettings
from otel_budget.sources.prometheus_vector import take_apart, whole_query
from tests.support.exposition import Exposition, line, page, serve
from tests.support.processes import until
from tests.support.prometheus_process import JOB, prometheus
from tests.support.victoria_metrics_process import victoria_metrics

pytestmark = pytest.mark.real("prometheus")

MATCHERS = (f'job="{JOB}"',)


def run(session: str, tokens: int) -> tuple[str, ...]:
    """Return the series of a run."""
    return (
        line(semconv.SESSION_TOKENS, tokens, session),
        line(semconv.SESSION_API_CALLS, tokens // 100, session),
        line(semconv.SESSION_INFO, 1, session, workflow="nightly"),
    )


def run_page(session: str, tokens: int, *more: str) -> str:
    """Return what a process shows of a run."""
    return page(*run(session, tokens), *more)


@contextmanager
def listed(folder: Path, here: Exposition, listed_too: Exposition) -> Iterator[tuple[str, Path]]:
    """Run a Prometheus that scrapes both; the second as long as a file lists it."""
    file = folder / "targets.json"
    file.write_text(json.dumps([{"targets": [listed_too.address], "labels": {"job": JOB}}]))
    job = {
        "job_name": "listed",
        "file_sd_configs": [{"files": [str(file)], "refresh_interval": "1s"}],
    }
    with prometheus(folder, [here.address], [job]) as url:
        yield url, file


def whole(url: str, at: float) -> tuple[Any, ...]:
    """Return what the query of a live sidecar finds as of a time: runs, times, and ``up``."""
    form = {"query": whole_query(MATCHERS, None), "time": f"{at:.3f}"}
    asked = urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(f"{url}/api/v1/query", asked, timeout=10) as got:
        answer, found = take_apart(got.read(), None)
    return by_run(found.sessions), answer.sampled, answer.ups


def by_run(sessions: Any) -> dict[tuple[str, str], RunObservation]:
    """Return runs by target and id, without the time of their samples."""
    return {(s.target, s.session_id): s._replace(sampled_at=0.0) for s in sessions}


def history(url: str, begin: float, end: float, interval: float = 0.1) -> PrometheusHistory:
    """Return the history of the runs of a test."""
    settings = PrometheusSettings(url, interval=interval, matchers=MATCHERS)
    return PrometheusHistory(settings, begin, end, clock=time.monotonic)


def test_at_each_tick_the_history_shows_what_the_live_query_gave(tmp_path: Path) -> None:
    with serve() as here, serve() as there, listed(tmp_path, here, there) as (url, file):
        begin = time.time()
        progress = line(semconv.PROGRESS, 0.5, "a")
        there.show(run_page("b", 700))
        for text in (
            run_page("a", 100),
            run_page("a", 200, progress),
            run_page("a", 300),
            None,
            run_page("a", 400, *run("c", 50)),
            run_page("c", 60),
            run_page("c", 10),
        ):
            here.show(text)
            here.wait_until_asked(3)
        file.write_text("[]")
        here.show(run_page("c", 20))
        gone = f"{JOB}/{there.address}"
        until(lambda: gone not in whole(url, time.time())[2])
        here.show(run_page("c", 30))
        here.wait_until_asked(3)
        end = time.time()
        past = history(url, begin, end)

        async def compare() -> int:
            seen = 0
            async for tick in past.ticks():
                found, taken = past.answer.found(lambda *_: 0.0), past.answer.taken()
                assert (by_run(found.sessions), taken.sampled, taken.ups) == whole(url, tick.at)
                seen += bool(found.sessions)
            return seen

        assert asyncio.run(compare()) > 30
        assert past.answer.run_labels["a"]["workflow"] == "nightly"
        assert past.coverage.gap_count == 1  # before the first scrape


@pytest.mark.backends
@pytest.mark.real("victoria-metrics")
def test_a_victoria_metrics_shows_what_it_showed_then(tmp_path: Path) -> None:
    with serve() as here, victoria_metrics(tmp_path, [here.address]) as url:
        here.show(run_page("a", 100))
        here.wait_until_asked(4)
        begin = time.time()
        for text in (
            run_page("a", 200),
            run_page("a", 300, *run("c", 50)),
            run_page("c", 60),
            None,
            run_page("c", 70),
        ):
            here.show(text)
            here.wait_until_asked(4)
        end = time.time()
        until(lambda: [tokens_in(whole(url, at)[0], "c") for at in (end,)] == [70])
        past = history(url, begin, end, interval=0.5)
        seen: dict[str, list[int | None]] = {"a": [], "c": []}

        async def follow() -> None:
            async for _ in past.ticks():
                found = by_run(past.answer.found(lambda *_: 0.0).sessions)
                for name, values in seen.items():
                    value = tokens_in(found, name)
                    if values[-1:] != [value]:
                        values.append(value)

        asyncio.run(follow())
        assert seen == {"a": [100, 200, 300, None], "c": [None, 50, 60, None, 70]}


def tokens_in(found: dict[tuple[str, str], RunObservation], session_id: str) -> int | None:
    """Return the tokens of a run; None if it is not shown."""
    for (_, name), shown in found.items():
        if name == session_id:
            return int(shown.counters["tokens", ""])
    return None
