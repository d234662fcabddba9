"""Runs in real web servers and workers: each counts its own calls, and the sidecar sees each.

The applications are in ``servers``. They run in an environment of their own; the sidecar is that of
the development environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.libraries.environments import ROOT, NoEnvironmentError, python_of
from tests.support.ports import free_port
from tests.support.processes import SidecarProcess, sidecar, until
from tests.support.real import REQUIRE

pytestmark = pytest.mark.libraries

CALLS = 4
"""That each endpoint of ``servers.web`` makes."""
CEILING = 40
"""Calls that the sidecar of the workers allows."""
APPLICATIONS = "tests.libraries.servers"


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of the servers' environment."""
    return _python("servers")


def _python(environment: str) -> Path:
    try:
        return python_of(environment)
    except NoEnvironmentError as error:
        if os.environ.get(REQUIRE) == "1":
            raise
        pytest.skip(f"NOT TESTED FOR REAL: {error}")


@contextmanager
def running(folder: Path, *command: str | Path, **environment: str) -> Iterator[str]:
    """Run a server or a worker; yield nothing of it but its end, in order. Its log is shown."""
    log = folder / "process.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(part) for part in command], cwd=ROOT, stdout=out, stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(folder),
                 **environment},
        )  # fmt: skip
    try:
        yield str(log)
    finally:
        process.terminate()
        process.wait(30)
        sys.stdout.write(log.read_text())


def got(url: str) -> bytes | None:
    """Return what is answered; None while nothing is."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            body: bytes = answer.read()
            return body
    except OSError:
        return None


@contextmanager
def ceiling(folder: Path) -> Iterator[tuple[SidecarProcess, dict[str, str]]]:
    """Run a sidecar that finds runs by file_sd; yield it, and what tells an application of it."""
    targets = folder / "targets"
    targets.mkdir()
    found = ("--file-sd", str(targets / "*.json"), "--interval", "0.2s")
    with sidecar(folder, *found, "--max-api-calls", str(CEILING)) as side:
        yield side, {"SIDECAR": side.url, "TARGETS_FOLDER": str(targets)}


def ended(side: SidecarProcess, *session_ids: str) -> dict[str, tuple[str, int]]:
    """Return the state and the calls of each run, once the sidecar knows that all are over."""

    def look() -> dict[str, tuple[str, int]] | None:
        found = {}
        for name in session_ids:
            verdict = side.verdict(name)
            if verdict is None or verdict["run_state"] == "running":
                return None
            found[name] = (verdict["run_state"], verdict["resources"]["api_calls"]["used"])
        return found

    return until(look, side.process)


# --- one process, many requests at once -----------------------------------------------------------
def test_each_request_of_fastapi_counts_its_own_calls(python: Path, tmp_path: Path) -> None:
    """Three at once of each way to open a run: streams, dependencies, pools, the middleware."""
    ways = ["generator", "bound", "dependency", "async_dependency", "pool", "middleware/stream",
            "middleware/plain"]  # fmt: skip
    names = {f"{way.replace('/', '-')}-{n}": way for way in ways for n in range(3)}
    names |= {f"limited-{n}": "limited" for n in range(3)}
    port = free_port()
    serve = (python, "-m", "uvicorn", f"{APPLICATIONS}.web:app", "--port", str(port))
    with running(tmp_path, *serve) as log, ThreadPoolExecutor(len(names)) as pool:
        at = f"http://127.0.0.1:{port}"
        until(lambda: got(f"{at}/counted"))
        list(pool.map(lambda name: got(f"{at}/{names[name]}/{name}"), names))
        counted = json.loads(got(f"{at}/counted") or b"{}")
    wanted = {name: 2 if way == "limited" else CALLS for name, way in names.items()}
    assert counted == {**wanted, "": 0}
    said = Path(log).read_text()
    assert "Failed to detach context" not in said
    assert "outside any run" not in said


def test_each_graph_of_langgraph_in_a_streaming_endpoint_counts_its_own_calls() -> None:
    """Its nodes run in threads with a copy of a context that has no run any more."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OTEL_METRICS_EXPORTER": "none"}
    done = subprocess.run(
        [str(_python("langchain")), "-m", f"{APPLICATIONS}.graph"], cwd=ROOT, env=environment,
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == [4, 4, 4, 0]
    assert "outside any run" not in done.stderr


# --- processes that are forked after metrics were served ------------------------------------------
def test_workers_of_a_preloaded_gunicorn_are_seen_by_the_sidecar(
    python: Path, tmp_path: Path
) -> None:
    """serve_metrics(register=…) in the master alone: each worker opens a page of its own."""
    with ceiling(tmp_path) as (side, told):
        port = free_port()
        serve = (python, "-m", "gunicorn", "--preload", "-w", "2", "--threads", "2", "-b",
                 f"127.0.0.1:{port}", f"{APPLICATIONS}.preloaded:app")  # fmt: skip
        names = [f"web-{n}" for n in range(4)]
        with running(tmp_path, *serve, **told), ThreadPoolExecutor(4) as pool:
            until(lambda: got(f"http://127.0.0.1:{port}/"))
            answers = list(pool.map(lambda name: got(f"http://127.0.0.1:{port}/{name}"), names))
            assert all((answer or b"").endswith(b" limit_exceeded") for answer in answers)
            _stopped_soon(ended(side, *names))
        assert not list((tmp_path / "targets").iterdir()), "entries of processes that are gone"


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_tasks_of_a_celery_worker_are_seen_by_the_sidecar(
    pool: str, python: Path, tmp_path: Path
) -> None:
    """serve_metrics(register=…) where the application is set up, in the worker's main process."""
    with ceiling(tmp_path) as (side, told):
        for name in ("BROKER_FOLDER", "RESULT_FOLDER"):
            (tmp_path / name).mkdir()
            told[name] = str(tmp_path / name)
        work = (python, "-m", "celery", "-A", f"{APPLICATIONS}.tasks", "worker", "-P", pool,
                "-c", "2")  # fmt: skip
        names = [f"task-{n}" for n in range(4)]
        with running(tmp_path, *work, **told):
            results = _done(python, names, told)
            assert {reason for _, _, reason in results} == {"limit_exceeded"}
            assert len({process for process, _, _ in results}) == (2 if pool == "prefork" else 1)
            _stopped_soon(ended(side, *names))
        left = list((tmp_path / "targets").iterdir())
        assert not left, "entries of processes that are gone"


def _done(python: Path, names: list[str], told: dict[str, str]) -> list[list[Any]]:
    """Have tasks done, and return what they returned."""
    ask = f"""
import json
from {APPLICATIONS}.tasks import research
asked = [research.delay(name, 1000) for name in {names!r}]
print(json.dumps([one.get(timeout=60, interval=0.05) for one in asked]))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **told}
    answer = subprocess.run(
        [str(python), "-c", ask], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=120, check=True,
    )  # fmt: skip
    found: list[list[Any]] = json.loads(answer.stdout.splitlines()[-1])
    return found


def _stopped_soon(runs: dict[str, tuple[str, int]]) -> None:
    for name, (state, calls) in runs.items():
        assert state == "stopped", name
        assert CEILING <= calls < 2 * CEILING, name
