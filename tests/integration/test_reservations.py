"""Reservations in shared budgets of a real sidecar, while whatever takes part is killed.

Never is there more room than there is, and none is lost for longer than a lease.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from otel_budget import semconv
from tests.support.exposition import Exposition, line, page, serve
from tests.support.figures import length
from tests.support.ports import free_port
from tests.support.processes import SidecarProcess, sidecar, until

LIMIT = 1000
RUNS = ("one", "two", "three")
PATH = "/v1/reservations"
STARTED_AT = repr(1_700_000_000.25)
#: Reserves what it is told to, says the id, and does nothing more.
HOLDER = """
import json, sys, time, urllib.request
url, session_id, tokens, lease = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
body = {"session_id": session_id, "resources": {"tokens": tokens}, "lease_seconds": lease}
headers = {"Content-Type": "application/json", "Idempotency-Key": "holder"}
asked = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
print(json.load(urllib.request.urlopen(asked))["id"], flush=True)
time.sleep(600)
"""


def shown(used: Mapping[str, int]) -> str:
    """Return the page of runs that used so many tokens."""
    lines = []
    for name, tokens in used.items():
        lines += [
            line(semconv.SESSION_TOKENS, tokens, name),
            line(semconv.SESSION_START, STARTED_AT, name),
            line(semconv.INCARNATION_START, STARTED_AT, name),
            *(
                line(semconv.SESSION_STATE, int(each == "running"), name, state=each)
                for each in semconv.SESSION_STATES
            ),
        ]
    return page(*lines)


@contextmanager
def configured(folder: Path, interval: str = "1h") -> Iterator[tuple[Path, Exposition]]:
    """Give the configuration of a sidecar with one budget over three runs, and what it reads.

    interval: between two readings; after the first one no sample comes for as long.
    """
    with serve() as endpoint:
        endpoint.show(shown(dict.fromkeys(RUNS, 0)))
        file = folder / "sidecar.yaml"
        config = {
            "source": {"scrape": {"targets": [endpoint.url], "interval": interval}},
            "budgets": [{"name": "all", "window": "total", "limits": {"max_tokens": LIMIT}}],
            "listen": {"address": f"127.0.0.1:{free_port()}"},
            "storage": {"path": str(folder / "ledger.db")},
        }
        file.write_text(json.dumps(config))
        yield file, endpoint


def ask(
    url: str, method: str, path: str, body: object = None, key: str | None = None
) -> tuple[int, Any]:
    """Return status and JSON of an answer."""
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Idempotency-Key"] = key
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, json.loads(exc.read())


def reserve(
    url: str, of: str, tokens: int, *, lease: float = 600, key: str | None = None
) -> tuple[int, Any]:
    body = {"session_id": of, "resources": {"tokens": tokens}, "lease_seconds": lease}
    return ask(url, "POST", PATH, body, key or uuid.uuid4().hex)


def held(url: str) -> int:
    """Return what is held of the budget."""
    found = ask(url, "GET", "/v1/budgets/all")[1]
    return int(found["resources"]["tokens"]["held"])


def knows_all(process: SidecarProcess) -> bool:
    return all(process.verdict(name) for name in RUNS)


def test_room_of_a_killed_holder_and_of_a_killed_sidecar_is_lost_for_a_lease_at_most(
    tmp_path: Path,
) -> None:
    lease = 4.0
    with configured(tmp_path) as (config, _):
        with sidecar(tmp_path, config=config) as first:
            until(lambda: knows_all(first))
            began = time.monotonic()
            holder = subprocess.Popen(
                [sys.executable, "-c", HOLDER, first.url + PATH, "one", "900", str(lease)],
                stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert holder.stdout is not None
            with holder:
                assert holder.stdout.readline()
                holder.send_signal(signal.SIGKILL)
            said = reserve(first.url, "two", 101)
            if time.monotonic() < began + lease:
                assert (said[0], said[1]["reason"]) == (409, "budget_busy")
            first.kill()
        with sidecar(tmp_path, config=config) as second:
            until(lambda: second.verdict("two"))
            while True:
                asked_at = time.monotonic()
                status, said = reserve(second.url, "two", 101)
                if status == 201:
                    break
                assert said["reason"] == "budget_busy"
                assert asked_at < began + lease + 60, "the room is lost"
                time.sleep(0.05)
            assert time.monotonic() >= began + lease, "there was more room than there is"
            assert held(second.url) == 101


def test_an_answer_that_is_lost_is_asked_for_again_and_nothing_is_held_twice(
    tmp_path: Path,
) -> None:
    with configured(tmp_path) as (config, _), sidecar(tmp_path, config=config) as process:
        until(lambda: knows_all(process))
        host, _, port = process.url.removeprefix("http://").partition(":")
        body = json.dumps(
            {"session_id": "one", "resources": {"tokens": 400}, "lease_seconds": 600}
        ).encode()
        with socket.create_connection((host, int(port)), 10) as line_to_it:
            head = (
                f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                f"Idempotency-Key: lost\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            line_to_it.sendall(head.encode() + body)
        until(lambda: held(process.url))
        status, said = reserve(process.url, "one", 400, key="lost")
        assert (status, held(process.url)) == (201, 400)
        for _ in range(2):  # the answer to a commit may be lost as well
            used = {"used": {"tokens": 250}}
            assert ask(process.url, "POST", f"{PATH}/{said['id']}/commit", used)[0] == 200
            assert held(process.url) == 250


class Ledger:
    """What the runs used, as they show it."""

    def __init__(self, endpoint: Exposition) -> None:
        self._endpoint, self._used, self._lock = endpoint, dict.fromkeys(RUNS, 0), threading.Lock()

    @property
    def total(self) -> int:
        return sum(self._used.values())

    def use(self, of: str, tokens: int) -> None:
        with self._lock:
            self._used[of] += tokens
            self._endpoint.show(shown(self._used))


class Client(threading.Thread):
    """Reserves and commits until nothing is left, whatever becomes of the sidecar meanwhile."""

    def __init__(self, url: str, of: str, ledger: Ledger) -> None:
        super().__init__(daemon=True)
        self.url, self.of, self.ledger = url, of, ledger
        self.problem = "still runs"

    def run(self) -> None:
        try:
            while self.call():
                pass
            self.problem = ""
        except BaseException as exc:
            self.problem = repr(exc)
            raise

    def call(self) -> bool:
        """Make one call; False when nothing is left."""
        key = uuid.uuid4().hex
        status, said = self.again(lambda: reserve(self.url, self.of, 10, key=key))
        if status == 409:
            if said["reason"] == "budget_exceeded":
                return False
            assert said["reason"] == "budget_busy"
            time.sleep(0.1)
            return True
        assert status == 201, said
        self.ledger.use(self.of, 10)
        path, used = f"{PATH}/{said['id']}/commit", {"used": {"tokens": 10}}
        status, said = self.again(lambda: ask(self.url, "POST", path, used))
        assert status == 200, said
        return True

    def again(self, what: Any) -> tuple[int, Any]:
        """Ask until there is an answer."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                status, said = what()
            except (OSError, http.client.HTTPException):
                pass
            else:
                if status not in (404, 503):  # just started: it has not judged anything yet
                    return status, said
            time.sleep(0.02)
        raise AssertionError("no answer within 60 s")


def test_a_sidecar_that_is_killed_again_and_again_lets_in_what_there_is_and_no_more(
    tmp_path: Path,
) -> None:
    kills = length(1, 20)
    with configured(tmp_path, "500ms") as (config, endpoint), ExitStack() as stack:
        ledger = Ledger(endpoint)
        process = stack.enter_context(sidecar(tmp_path, config=config))
        until(lambda: knows_all(process))
        clients = [Client(process.url, name, ledger) for name in RUNS for _ in range(2)]
        for client in clients:
            client.start()
        for number in range(1, kills + 1):
            until(
                lambda: (
                    ledger.total >= number * LIMIT // (kills + 2)  # noqa: B023 - called at once
                    or not any(c.is_alive() for c in clients)
                )
            )
            process.kill()
            process = stack.enter_context(sidecar(tmp_path, config=config))
        for client in clients:
            client.join(120)
            assert not client.is_alive()
            assert client.problem == ""
        assert ledger.total == LIMIT
        until(lambda: not held(process.url))
        found = ask(process.url, "GET", "/v1/budgets/all")[1]
        assert found["resources"]["tokens"]["used"] == LIMIT


#: Makes calls at once until it is told to stop, each of 100 tokens.
CALLER = """
import json, sys, threading, time
from otel_budget import BudgetExceeded, ResourceLimits, ResourceMonitor, serve_metrics

port, name, url, threads, reserves = sys.argv[1:]
serve_metrics("127.0.0.1", int(port))
monitor = ResourceMonitor(ResourceLimits.only(), name, sidecar=url)
made, lock = [0], threading.Lock()

def call():
    while monitor.should_continue():
        if reserves == "yes":
            try:
                with monitor.reserve(tokens=100, timeout=20):
                    use()
            except BudgetExceeded:
                return
        else:
            use()

def use():
    time.sleep(0.05)
    monitor.record_operation(tokens=100, api_call=True)
    with lock:
        made[0] += 1

with monitor:
    heard = monitor._guard._lease.current
    while not (heard() and heard().budgets):
        time.sleep(0.02)
    print("ready", flush=True)
    sys.stdin.readline()
    callers = [threading.Thread(target=call) for _ in range(int(threads))]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    print(made[0], flush=True)
    sys.stdin.readline()
"""


@contextmanager
def callers(
    folder: Path, limit: int, *, threads: int, reserve_first: bool
) -> Iterator[tuple[SidecarProcess, list[subprocess.Popen[str]]]]:
    """Give three processes whose runs share a budget, ready to make calls at once."""
    ports = [free_port() for _ in RUNS]
    file = folder / "sidecar.yaml"
    targets = [f"http://127.0.0.1:{port}/metrics" for port in ports]
    budget = {
        "name": "all", "window": "total", "limits": {"max_tokens": limit}, "warning_threshold": 1,
    }  # fmt: skip
    config = {
        "source": {"scrape": {"targets": targets, "interval": "1s"}},
        "budgets": [budget],
        "listen": {"address": f"127.0.0.1:{free_port()}"},
        "storage": {"path": str(folder / "ledger.db")},
    }
    file.write_text(json.dumps(config))
    with sidecar(folder, config=file) as process, ExitStack() as stack:
        begun = []
        for name, port in zip(RUNS, ports, strict=True):
            said = "yes" if reserve_first else "no"
            command = [sys.executable, "-c", CALLER, str(port), name, process.url, str(threads)]
            begun.append(
                stack.enter_context(
                    subprocess.Popen(
                        [*command, said], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                    )
                )
            )
        try:
            for one in begun:
                assert one.stdout is not None
                assert one.stdout.readline() == "ready\n"
            yield process, begun
        finally:
            for one in begun:
                one.kill()


def tell(processes: list[subprocess.Popen[str]]) -> None:
    for one in processes:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()


def made(processes: list[subprocess.Popen[str]]) -> int:
    """Let them call, and return the tokens that they used."""
    tell(processes)
    calls = 0
    for one in processes:
        assert one.stdout is not None
        calls += int(one.stdout.readline())
    return calls * 100


@pytest.mark.parametrize(
    ("threads", "limit"),
    [(16, 1000), (43, 1000), (43, 10_000)][: length(1, 3)],
)
def test_calls_at_once_of_three_processes_use_what_is_left_and_no_more(
    tmp_path: Path, threads: int, limit: int
) -> None:
    """The same calls without reservations use several times as much."""
    (tmp_path / "with").mkdir()
    with callers(tmp_path / "with", limit, threads=threads, reserve_first=True) as (
        process,
        agents,
    ):
        assert made(agents) == limit
        until(lambda: not held(process.url))
        found = ask(process.url, "GET", "/v1/budgets/all")[1]
        assert found["resources"]["tokens"]["used"] == limit
        tell(agents)
    if length(1, 2) < 2:
        return
    (tmp_path / "without").mkdir()
    with callers(tmp_path / "without", limit, threads=threads, reserve_first=False) as (_, agents):
        assert made(agents) > limit
        tell(agents)
