"""A run in a process of its own: what it serves, what it leaves, what it never loads."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from otel_budget import ResourceMonitor
from otel_budget.sdk.checkpoints.store import CheckpointFolder
from tests.support.ports import free_port
from tests.support.processes import until

#: What the process may not have loaded: the sidecar's, and what only it needs.
NEVER = ("h11", "pydantic", "rich", "starlette", "uvicorn", "sqlite3")

BEGIN = """
import sys, time, urllib.request
from pathlib import Path
from otel_budget import ResourceLimits, ResourceMonitor, serve_metrics
def scrape(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()
"""


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a process that nobody has configured but the test."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OTEL")}
    return {**kept, **changes}


def finished(code: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a process to its end, which must be a good one unless the test looks."""
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", BEGIN + textwrap.dedent(code), *arguments],
        capture_output=True, text=True, timeout=60, check=False, env=environment(**env),
    )  # fmt: skip


@contextmanager
def running(code: str, *arguments: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-c", BEGIN + textwrap.dedent(code), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE, text=True,
        env=environment(**env),
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    """Return the next line a process prints."""
    return process.stdout.readline().strip() if process.stdout else ""


def scraped(url: str) -> str:
    """Return what a ``/metrics`` shows."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        found: bytes = answer.read()
    return found.decode()


def test_a_process_serves_by_itself_when_the_environment_says_prometheus() -> None:
    """From the first use of the first run: its session, and what the process used in all."""
    port = str(free_port())
    code = """
    monitor = ResourceMonitor(session_id="by-itself", workflow="w")
    print("made", flush=True); sys.stdin.readline()
    monitor.record_operation(5, api_call=True)
    print("used", flush=True); sys.stdin.readline()
    """
    exporter = {"OTEL_METRICS_EXPORTER": "otlp, prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": port}
    with running(code, **exporter) as process:
        assert line(process) == "made"
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(port))) != 0  # there was no reason yet
        print(file=process.stdin, flush=True)
        assert line(process) == "used"
        text = scraped(f"http://localhost:{port}/metrics")
        assert 'otel_budget_tokens_total{session_id="by-itself"} 5.0' in text
        assert 'otel_budget_session_state{session_id="by-itself",state="running"} 1.0' in text
        assert "otel_budget_usage_tokens_total{" in text


#: How others serve this process's metrics before otel-budget is asked to.
OTHERS = {
    "the exporter that opentelemetry-instrument starts": """
    from opentelemetry import metrics
    from opentelemetry.exporter.prometheus import _AutoPrometheusMetricReader
    from opentelemetry.sdk.metrics import MeterProvider
    metrics.set_meter_provider(MeterProvider(metric_readers=[_AutoPrometheusMetricReader()]))
    """,
    "prometheus_client": """
    import os, prometheus_client
    port = int(os.environ["OTEL_EXPORTER_PROMETHEUS_PORT"])
    prometheus_client.start_http_server(port, "127.0.0.1")
    """,
    "our own": 'endpoint = serve_metrics("127.0.0.1")',
}


OWN_PAGE = """
import logging
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
with ResourceMonitor(session_id="own-page") as monitor:
    monitor.record_operation(5, api_call=True)
    page = scrape(f"http://127.0.0.1:{sys.argv[1]}/metrics")
    print('tokens_total{session_id="own-page"} 5.0' in page)
"""


@pytest.mark.parametrize("other", OTHERS)
def test_a_port_that_is_the_process_s_own_already_is_no_error(other: str) -> None:
    """Its page has the runs, and that is said; nothing is to be stopped."""
    port = str(free_port())
    code = textwrap.dedent(OTHERS[other]) + textwrap.dedent(OWN_PAGE)
    exporter = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": port}
    done = finished(code, port, **exporter)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert "which this process already serves" in done.stderr
    assert not {"ERROR", "WARNING"} & set(done.stderr.split())


def test_a_monitor_left_open_is_closed_at_exit(tmp_path: Path) -> None:
    """Its last checkpoint is there, with all it used and the state it kept."""
    code = """
    monitor = ResourceMonitor(session_id="left", project_root=sys.argv[1])
    monitor.record_operation(5, api_call=True)
    monitor.keep_state({"step": 3})
    """
    done = finished(code, str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    saved = CheckpointFolder(tmp_path, "left").read()
    assert (saved.usage.tokens, saved.state) == (5, {"step": 3})


LAST_SCRAPE = """
import threading
endpoint = serve_metrics("127.0.0.1", 0)
monitors = [ResourceMonitor(session_id=f"m{n}") for n in range(30)]
for monitor in monitors:
    monitor.record_operation(7)
scrape(endpoint.url)
pages = []
def follow():
    while True:
        time.sleep(0.2)
        try:
            text = scrape(endpoint.url)
        except OSError as exc:
            text = repr(exc)
        page = [line for line in text.splitlines() if 'state="%s"} 1.0' % sys.argv[1] in line]
        if page:
            print(len(page), "usage_tokens_total{" in text, flush=True)
            return
follower = threading.Thread(target=follow, daemon=True)
follower.start()
# What was answered is to be read and printed, too: this runs after our own work at the end.
import atexit
from otel_budget.sdk.lifecycle.at_exit import AT_EXIT
atexit.unregister(AT_EXIT.run)
atexit.register(follower.join, 5)
atexit.register(AT_EXIT.run)
"""


@pytest.mark.parametrize(("end", "state"), [("", "completed"), ("raise SystemExit(1)", "completed"),
                                            ("raise ValueError", "failed")])  # fmt: skip
def test_runs_left_open_are_seen_in_their_final_state_by_one_more_scrape(
    end: str, state: str
) -> None:
    """All of them by the same one, with the sums of the process; and the answer goes out whole."""
    done = finished(LAST_SCRAPE + end, state)
    assert done.stdout.splitlines()[:1] == ["30 True"], done.stderr


def test_a_taken_port_is_an_error_that_says_so() -> None:
    """With what to do about it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code = 'serve_metrics("127.0.0.1", int(sys.argv[1]))'
        done = finished(code, str(taken.getsockname()[1]))
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("otel_budget.errors.ListenError: cannot listen on 127.0.0.1:")
    assert "Address already in use" in last
    assert "choose another port" in last


def test_a_port_taken_in_the_automatic_mode_is_logged_and_the_run_goes_on() -> None:
    """Once, with the same words: nobody asked for an endpoint in the code."""
    code = """
    for _ in range(3):
        monitor = ResourceMonitor()
        monitor.record_operation(5)
        print(monitor.should_continue(), monitor.get_usage_report().tokens)
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        exporter = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": port}
        done = finished(code, **exporter)
        wrong = finished(code, **{**exporter, "OTEL_EXPORTER_PROMETHEUS_PORT": "many"})
    for process, words in ((done, f"cannot listen on localhost:{port}"), (wrong, "'many'")):
        assert process.returncode == 0
        assert process.stdout == "True 5\n" * 3
        assert process.stderr.count(words) == 1


def test_a_registered_endpoint_is_found_and_gone_at_exit(tmp_path: Path) -> None:
    """In Prometheus's file_sd format; what killed processes left is told apart."""
    code = """
    endpoint = serve_metrics("127.0.0.1", 0, register=sys.argv[1])
    print(endpoint.port, flush=True); sys.stdin.readline()
    """
    with running(code, str(tmp_path)) as killed:
        line(killed)
    killed.wait(30)
    (left,) = tmp_path.iterdir()
    with running(code, str(tmp_path)) as process:
        port = line(process)
        (entry,) = (path for path in tmp_path.iterdir() if "-dead-" not in path.name)
        assert entry != left
        assert json.loads(entry.read_text()) == [{"targets": [f"127.0.0.1:{port}"], "labels": {}}]
        scraped(f"http://127.0.0.1:{port}/metrics")
        assert process.communicate("\n", timeout=30)[1] == ""
    (kept,) = tmp_path.iterdir()
    assert "-dead-" in kept.name, "for some minutes, so that it is seen to have been killed"


def test_a_forked_child_ends_by_itself_and_takes_nothing_of_its_parents_along(
    tmp_path: Path,
) -> None:
    """Neither the endpoint's entry nor the run; it does not wait for threads it does not have."""
    code = """
    import os
    endpoint = serve_metrics("127.0.0.1", 0, register=sys.argv[1] + "/sd")
    monitor = ResourceMonitor(session_id="parent", project_root=sys.argv[1])
    monitor.record_operation(5, api_call=True)
    child = os.fork()
    if child == 0:
        del monitor
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(len(list(Path(sys.argv[1], "sd").iterdir())), Path(sys.argv[1], ".otel_budget").exists())
    """
    done = finished(code, str(tmp_path))
    assert (done.stdout, done.stderr) == ("0\n1 False\n", "")
    assert CheckpointFolder(tmp_path, "parent").read().usage.tokens == 5


def test_a_killed_process_leaves_whole_checkpoints_to_resume_from(tmp_path: Path) -> None:
    """Wherever SIGKILL strikes, again and again; usage never goes down, and nothing is doubled."""
    code = """
    root = sys.argv[1]
    if Path(root, ".otel_budget").exists():
        monitor = ResourceMonitor.resume("killed", root)
    else:
        monitor = ResourceMonitor(session_id="killed", project_root=root)
    print(monitor.get_usage_report().tokens, monitor.state, flush=True)
    while True:
        monitor.record_operation(1)
        monitor.checkpoint({"tokens": monitor.get_usage_report().tokens})
    """
    folder, before = CheckpointFolder(tmp_path, "killed"), 0
    for _ in range(4):
        with running(code, str(tmp_path)) as process:
            tokens, state = line(process).split(" ", 1)
            assert int(tokens) == before
            assert state == (str({"tokens": before}) if before else "None")
            numbers = folder._numbers() or [0]
            until(lambda n=numbers[-1]: folder._numbers()[-1:] > [n + 15], process)  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
            process.wait(30)
        kept = [folder.read(path) for path in sorted(folder.path.glob("[0-9]*.json"))]
        assert len(kept) in {10, 11}  # the eleventh was just being taken away
        assert [saved.usage.tokens for saved in kept] == sorted(s.usage.tokens for s in kept)
        before = kept[-1].usage.tokens
        assert before > 0
    monitor = ResourceMonitor.resume("killed", tmp_path)
    assert monitor.get_usage_report().tokens == before
    monitor.close(timeout=0)


def test_each_night_of_a_job_is_a_run_of_its_own_unless_the_last_one_did_not_complete(
    tmp_path: Path,
) -> None:
    """By the README's pattern, in processes that end in every way; without ``with``, too."""
    code = """
    import os, signal
    from otel_budget import NoCheckpointError
    root, way = sys.argv[1:]
    limits = ResourceLimits(max_tokens=1000)
    try:
        monitor = ResourceMonitor.resume("nightly", root, limits)
    except NoCheckpointError:
        monitor = ResourceMonitor(limits, session_id="nightly", project_root=root)
    print(monitor.get_usage_report().tokens, flush=True)
    monitor.record_operation(100, api_call=True)
    if way == "killed":
        monitor.checkpoint()
        os.kill(os.getpid(), signal.SIGKILL)
    if way == "raised":
        raise RuntimeError
    if way == "stopped":
        monitor.update_limits(max_tokens=1)
        monitor.should_continue()
    if way.startswith("exit"):
        with monitor:
            sys.exit(int(way[4:]))
    """
    ways = ("end", "end", "killed", "raised", "stopped", "exit1", "exit0", "end", "end")
    began = [int(finished(code, str(tmp_path), way).stdout) for way in ways]
    assert began == [0, 0, 0, 100, 200, 300, 400, 500, 0]


def test_a_child_of_multiprocessing_that_fails_leaves_a_run_to_be_taken_up(tmp_path: Path) -> None:
    """Its own end calls the exit handlers with the exception on its way, and prints it after."""
    code = """
    import multiprocessing
    def work(way):
        monitor = ResourceMonitor(session_id=way, project_root=sys.argv[1])
        monitor.record_operation(5, api_call=True)
        globals()["kept"] = monitor
        if way == "raises":
            raise RuntimeError
        if way.startswith("exits"):
            sys.exit(int(way[-1]))
    if __name__ == "__main__":
        for way in ("raises", "exits-1", "exits-0", "returns"):
            child = multiprocessing.get_context("fork").Process(target=work, args=(way,))
            child.start()
            child.join()
    """
    finished(code, str(tmp_path))
    ways = ("raises", "exits-1", "exits-0", "returns")
    said = [CheckpointFolder(tmp_path, way).read().outcome for way in ways]
    assert said == ["failed", "failed", "stopped", "completed"]


def test_an_agent_process_loads_nothing_that_only_the_sidecar_needs(tmp_path: Path) -> None:
    """Used in full: endpoint, checkpoints, spans, a sidecar to follow, an orchestrator."""
    code = """
    from otel_budget import Orchestrator
    from otel_budget.testing import FakeClock
    endpoint = serve_metrics("127.0.0.1", 0)
    monitor = ResourceMonitor(session_id="slim", project_root=sys.argv[1],
                              sidecar="http://127.0.0.1:9")
    with monitor, monitor.phase("p"), monitor.operation() as operation:
        operation.record(tokens=5, cost_usd=1)
        monitor.wait_for_stop(0.05)
    Orchestrator({"resource_limits": {}}).run({"a": lambda monitor: None})
    scrape(endpoint.url)
    print([name for name in sys.argv[2:] if name in sys.modules])
    """
    done = finished(code, str(tmp_path), *NEVER)
    assert done.stdout == "[]\n", done.stderr


def test_a_signal_handler_may_close_the_run_in_the_middle_of_anything(tmp_path: Path) -> None:
    """As those who are stopped by SIGTERM do; nothing waits for itself."""
    code = """
    import signal
    monitor = ResourceMonitor(session_id="signalled", project_root=sys.argv[1])
    def end(*_):
        monitor.checkpoint({"ended": True})
        monitor.close("stopped")
        print("closed", flush=True)
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    print("ready", flush=True)
    while True:
        monitor.record_operation(1, api_call=True)
        monitor.record_operation(1, model="m", cost_usd=1)
        monitor.check_limits()
    """
    for _ in range(5):
        with running(code, str(tmp_path)) as process:
            assert line(process) == "ready"
            process.send_signal(signal.SIGTERM)
            assert line(process) == "closed"
            assert process.wait(30) == 0
    assert CheckpointFolder(tmp_path, "signalled").read().state == {"ended": True}
