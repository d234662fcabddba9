"""A forked child carries none of its parent's runs: it shows, saves and ends none of them."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from otel_budget import ResourceLimits, ResourceMonitor, semconv, serve_metrics
from otel_budget.sdk.checkpoints import autosave
from otel_budget.sdk.checkpoints.autosave import autosaver
from otel_budget.sdk.lifecycle import autostart
from otel_budget.sdk.lifecycle.at_exit import LEFT_BEHIND
from otel_budget.sdk.metrics.collector import RUNS
from otel_budget.sdk.run_counters import FOLDED

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    # Threads at a fork are what this is about.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]


def in_child(work: Callable[[], Any], timeout: float = 20.0) -> Any:
    """Do something in a forked child; return what it returned, JSON types."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = {"said": work()}
        except BaseException:  # noqa: BLE001 - to be told in the parent, whatever it is
            answer = {"failed": traceback.format_exc()}
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    deadline = time.monotonic() + timeout
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)
    with os.fdopen(reading, "rb") as file:
        answer = json.loads(file.read())
    assert "failed" not in answer, answer["failed"]
    return answer["said"]


def shown(session_prefix: str) -> dict[str, float]:
    """Return the tokens of each run shown whose id begins so."""
    return {
        sample.labels["session_id"]: sample.value
        for family in RUNS.collect()
        for sample in family.samples
        if sample.name == semconv.SESSION_TOKENS.name
        and sample.labels["session_id"].startswith(session_prefix)
    }


def used() -> float:
    """Return the tokens in the sums of the process."""
    return float(sum(value for _, value in RUNS.process.sums(semconv.USAGE_TOKENS)))


@pytest.fixture(autouse=True)
def nobody_scrapes() -> Any:
    """Forget a test's scrapes: the next one's runs would wait for more of them."""
    yield
    RUNS._scrapers.clear()


def test_a_child_shows_its_own_runs_and_none_of_its_parents() -> None:
    """A run of the same name included: it is another incarnation, counted from 0."""
    monitor = ResourceMonitor(session_id="fork-parent")
    monitor.record_operation(100)
    FOLDED["fork"] += 1

    def child() -> Any:
        before = shown("fork-"), used(), dict(FOLDED)
        own = ResourceMonitor(session_id="fork-parent")
        own.record_operation(5)
        return [*before, shown("fork-"), used()]

    assert in_child(child) == [{}, 0.0, {}, {"fork-parent": 5.0}, 5.0]
    assert shown("fork-parent") == {"fork-parent": 100.0}
    del FOLDED["fork"]
    monitor.close(timeout=0)


def test_an_inherited_monitor_warns_once_and_counts_in_no_metric(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its limits still hold; its checkpoints, its end and its spans are the parent's."""
    limits = ResourceLimits(max_tokens=1000)
    monitor = ResourceMonitor(limits, session_id="fork-inherited", project_root=tmp_path)
    monitor.record_operation(100)
    assert monitor.should_continue(0.1)
    assert monitor.checkpoint({"of": "the parent"}) is not None

    def child() -> Any:
        caplog.clear()
        with monitor, monitor.phase("inner"), monitor.operation() as operation:
            monitor.record_operation(50)
            monitor.record_operation(50)
            operation.record(tokens=900)
        going_on, written = monitor.should_continue(0.1), monitor.checkpoint()
        warnings = [r.getMessage() for r in caplog.records if "belongs to process" in r.message]
        return [warnings, shown("fork-"), used(), going_on, written, monitor.state]

    warnings, seen, sums, going_on, written, state = in_child(child)
    assert len(warnings) == 1
    assert f"process {os.getpid()};" in warnings[0]
    assert "make a new monitor in the child" in warnings[0]
    assert (seen, sums, going_on, written) == ({}, 0.0, False, None)
    assert state == {"of": "the parent"}
    assert len(list(tmp_path.rglob("*.json"))) == 1, "the child wrote a checkpoint of the parent's"
    monitor.close(timeout=0)
    assert shown("fork-inherited") == {"fork-inherited": 100.0}


def test_a_child_forecasts_its_own_runs_from_nothing() -> None:
    """The monitor it inherited goes on by the calls it found."""
    monitor = ResourceMonitor(ResourceLimits.only(max_tokens=10_000), session_id="fork-calls")
    for _ in range(10):
        monitor.record_operation(100, api_call=True)
    before = monitor.forecast()["tokens"].calls_left
    assert before is not None

    def child() -> Any:
        own = ResourceMonitor(ResourceLimits.only(max_tokens=10_000), session_id="fork-calls")
        fresh = own.forecast()["tokens"].calls_left
        own.record_operation(5000, api_call=True)
        monitor.record_operation(100, api_call=True)
        return [fresh, own.forecast()["tokens"].calls_left, monitor.forecast()["tokens"].calls_left]

    fresh, own, inherited = in_child(child)
    assert fresh is None
    assert own[0] == pytest.approx(1.0, rel=0.05)
    assert inherited[0] == pytest.approx(89, rel=0.05)
    assert monitor.forecast()["tokens"].calls_left == before
    monitor.close(timeout=0)


def test_multiprocessings_children_count_for_themselves() -> None:
    """By default it forks on Linux, in a pool of workers as anywhere."""
    monitor = ResourceMonitor(session_id="fork-pool")
    monitor.record_operation(1)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_in_a_worker, range(4)) == [{}] * 4
    assert shown("fork-pool") == {"fork-pool": 1.0}
    monitor.close(timeout=0)


def _in_a_worker(_number: int) -> dict[str, float]:
    return shown("fork-pool")


def test_locks_that_another_thread_held_at_the_fork_are_free_in_the_child(tmp_path: Path) -> None:
    """Every lock there is; else a child hangs once in a blue moon."""
    monitor = ResourceMonitor(session_id="fork-locks", project_root=tmp_path)
    monitor.record_operation(1)
    monitor.should_continue(0.5)
    saver = autosaver(monitor._record.clock)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with (
            RUNS._lock, RUNS.process._lock, autostart._once, autosave._lock, saver._changed,
            monitor._record.lock, monitor._guard._lock, monitor._guard._outbox._delivering,
            LEFT_BEHIND._working,
        ):  # fmt: skip
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    try:
        assert in_child(lambda: _use_everything(monitor, tmp_path)) == {"fork-own": 3.0}
    finally:
        done.set()
        thread.join()
        monitor.close(timeout=0)


def _use_everything(inherited: ResourceMonitor, root: Path) -> dict[str, float]:
    inherited.record_operation(2, model="one")
    inherited.should_continue(0.5)
    inherited.update_limits(checkpoint_interval=1)
    inherited.close()
    own = ResourceMonitor(session_id="fork-own", project_root=root)
    own.record_operation(3, model="two")
    assert own.checkpoint() is not None
    own.close()
    ResourceMonitor(session_id="left-behind").record_operation(4)
    LEFT_BEHIND.finish()
    return shown("fork-")


def test_a_child_lets_go_of_its_parents_port(tmp_path: Path) -> None:
    """It could not answer there, and must not take back the parent's entry."""
    endpoint = serve_metrics("127.0.0.1", 0, register=tmp_path)

    def child() -> Any:
        endpoint.close()
        with serve_metrics("127.0.0.1", 0, register=tmp_path):
            return len(list(tmp_path.glob("*.json")))

    assert in_child(child) == 2
    assert len(list(tmp_path.glob("*.json"))) == 1
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)  # until the parent has looked
        os._exit(0)
    os.close(reading)
    try:
        endpoint.close()
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", endpoint.port)) != 0
    finally:
        with suppress(OSError):
            os.write(writing, b".")
        os.close(writing)
        os.waitpid(pid, 0)


def test_a_child_of_a_process_that_serves_by_itself_says_that_the_port_is_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not served, its runs would be seen by nobody, and nobody would know."""
    with serve_metrics("127.0.0.1", 0) as endpoint:
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
        monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "127.0.0.1")
        monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(endpoint.port))
        monkeypatch.setitem(autostart._done, "serve", True)

        def child() -> Any:
            caplog.clear()
            with caplog.at_level(logging.ERROR):
                ResourceMonitor(session_id="fork-served").record_operation(1)
            return [record.getMessage() for record in caplog.records]

        (said,) = in_child(child)
    assert "cannot listen on" in said


def test_a_child_of_a_process_with_a_registered_page_opens_one_of_its_own(tmp_path: Path) -> None:
    """At its first run: tasks of a forking worker are seen though only the parent serves."""
    with serve_metrics("127.0.0.1", 0, register=tmp_path) as endpoint:

        def child() -> Any:
            monitor = ResourceMonitor(session_id="fork-page")
            before = len(list(tmp_path.glob("*.json")))
            monitor.record_operation(5)
            monitor.should_continue()
            entries = {json.loads(p.read_text())[0]["targets"][0] for p in tmp_path.glob("*.json")}
            (own,) = entries - {f"127.0.0.1:{endpoint.port}"}
            with urllib.request.urlopen(f"http://{own}/metrics", timeout=5) as answer:
                page = answer.read().decode()
            return [before, 'otel_budget_tokens_total{session_id="fork-page"} 5.0' in page]

        assert in_child(child) == [1, True]


def test_a_child_of_a_process_with_a_fixed_page_says_that_its_runs_are_not_seen(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once: the parent's port cannot be had a second time."""
    with serve_metrics("127.0.0.1", 0) as endpoint:

        def child() -> Any:
            caplog.clear()
            for number in range(3):
                ResourceMonitor(session_id=f"fork-unseen-{number}").should_continue()
            return [record.getMessage() for record in caplog.records]

        (said,) = in_child(child)
    assert f"{endpoint.url} was opened in process {os.getpid()} before this one was forked" in said
    assert "OTEL_BUDGET_REGISTER" in said


def test_the_environment_alone_gives_each_process_of_a_tree_a_page(tmp_path: Path) -> None:
    """Parent and pool, by three variables: what a worker's unit file or manifest can say."""
    targets = tmp_path / "targets"
    script = """
import json, sys, urllib.request
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from otel_budget import ResourceMonitor

def work(number):
    with ResourceMonitor(session_id=f"pool-{number}") as monitor:
        monitor.record_operation(5)
        pages = []
        for entry in Path(sys.argv[1]).glob("*.json"):
            target = json.loads(entry.read_text())[0]["targets"][0]
            with urllib.request.urlopen(f"http://{target}/metrics", timeout=5) as answer:
                pages.append(answer.read().decode())
        wanted = f'otel_budget_tokens_total{{session_id="pool-{number}"}} 5.0'
        return sum(wanted in page for page in pages)

if __name__ == "__main__":
    parent = ResourceMonitor(session_id="pool-parent")
    parent.record_operation(1)
    parent.should_continue()
    with ProcessPoolExecutor(1, mp_context=get_context(sys.argv[2])) as pool:
        print(list(pool.map(work, range(2))))
    parent.close()
"""
    file = tmp_path / "script.py"
    file.write_text(script)
    environment = {
        **os.environ, "OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
        "OTEL_BUDGET_REGISTER": str(targets), "OTEL_BUDGET_SCRAPE_WAIT": "0",
    }  # fmt: skip
    for method in ("fork", "spawn"):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(file), str(targets), method],
            capture_output=True, text=True, env=environment, timeout=60, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == "[1, 1]", (method, done.stderr)
        assert list(targets.iterdir()) == [], method


def test_a_forked_child_goes_on_by_the_limits_of_the_family_that_it_found() -> None:
    """Its counts stay its own; a run that it makes itself is below the one that it is given."""
    lead = ResourceMonitor(ResourceLimits(max_tokens=100), "forked-lead")
    child = ResourceMonitor(session_id="forked-child", parent=lead)
    child.record_operation(tokens=50)

    def work() -> dict[str, Any]:
        child.record_operation(tokens=20)
        mine = ResourceMonitor(session_id="forked-own", parent=lead)
        left = lead.get_tokens_remaining()
        mine.record_operation(tokens=30)
        return {
            "left": left, "parent": mine._record.parent, "goes_on": child.should_continue(),
            "own": mine.verdict.reason, "by": child.verdict.stopped_by,
        }  # fmt: skip

    assert in_child(work) == {
        "left": 30, "parent": "forked-lead", "goes_on": False, "own": "parent_stopped",
        "by": "forked-lead",
    }  # fmt: skip
    assert lead.get_tokens_remaining() == 50
    child.close()
    lead.close()
