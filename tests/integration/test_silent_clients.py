"""Clients of ``/metrics`` that say nothing, or not all of it, and what is left to the agent."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from otel_budget import ResourceMonitor, serve_metrics
from otel_budget.sdk.metrics import page_server
from otel_budget.sdk.metrics.endpoint import MetricsEndpoint
from otel_budget.sdk.metrics.page_server import PageServer
from tests.integration.test_endpoint import nobody_scrapes  # noqa: F401 - used by pytest
from tests.support.figures import note

AGENT = """
import json, os, resource, sys, threading, time
from pathlib import Path
from otel_budget import ResourceLimits, ResourceMonitor, serve_metrics
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[1])))
print(serve_metrics("127.0.0.1", 0).port, flush=True)
monitor = ResourceMonitor(ResourceLimits(), "own", sys.argv[2])
sys.stdin.readline()
began, used, failed = time.monotonic(), time.process_time(), 0
for step in range(20):
    try:
        Path(os.devnull).open().close()
    except OSError:
        failed += 1
    failed += monitor.checkpoint({"step": step}) is None
    time.sleep(0.04)
busy = (time.process_time() - used) / (time.monotonic() - began)
print(json.dumps({"failed": failed, "busy": busy, "threads": threading.active_count()}), flush=True)
sys.stdin.readline()
"""


@contextmanager
def connected(port: int, number: int) -> Iterator[list[socket.socket]]:
    """Open so many connections, and say nothing."""
    opened: list[socket.socket] = []
    try:
        for _ in range(number):
            opened.append(socket.create_connection(("127.0.0.1", port), timeout=5))
            time.sleep(0.001)
        yield opened
    finally:
        for one in opened:
            one.close()


def page(port: int, host: str = "127.0.0.1") -> str:
    """Return the page as a scraper asks for it."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as client:
        client.request("GET", "/metrics", headers={"Host": host, "User-Agent": "Prometheus/3"})
        answer = client.getresponse()
        found = answer.read().decode()
        assert answer.status == 200, found
        return found


@pytest.mark.parametrize(("files", "number"), [(64, 70), (256, 200)])
def test_silent_connections_take_none_of_the_files_that_an_agent_needs(
    files: int, number: int, tmp_path: Path
) -> None:
    """More of them than the process may have files: it works on, and a scraper is answered."""
    process = subprocess.Popen(
        [sys.executable, "-c", AGENT, str(files), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        with connected(port, number):
            process.stdin.write("\n")
            process.stdin.flush()
            assert 'session_id="own"' in page(port)
            said = json.loads(process.stdout.readline())
            assert 'session_id="own"' in page(port)
    finally:
        process.kill()
        process.communicate()
    assert said["failed"] == 0
    assert said["threads"] < 10
    assert said["busy"] < 0.6
    note(
        "One costs one",
        f"{number} silent connections at an agent that may open {files} files",
        f"no file that it opens fails, {said['threads']} threads, {said['busy']:.0%} of a "
        "processor; a scraper is answered",
    )


@pytest.fixture
def endpoint() -> Iterator[MetricsEndpoint]:
    """Return an open page with a run on it."""
    with ResourceMonitor(session_id="mute"), serve_metrics("127.0.0.1", 0) as opened:
        yield opened


def test_the_longest_silent_goes_where_there_are_too_many(
    endpoint: MetricsEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who have begun to speak go last; a scraper is answered all the same."""
    monkeypatch.setattr(page_server, "MOST", 4)
    with connected(endpoint.port, 4) as silent:
        silent[0].sendall(b"GET /metrics HT")  # and then nothing
        time.sleep(0.2)
        assert 'session_id="mute"' in page(endpoint.port)
        silent[1].settimeout(5)
        assert silent[1].recv(1) == b""
        silent[2].settimeout(0.05)
        with pytest.raises(TimeoutError):
            silent[2].recv(1)
        silent[0].sendall(b"TP/1.1\r\nHost: localhost\r\n\r\n")
        silent[0].settimeout(5)
        assert silent[0].recv(15) == b"HTTP/1.0 200 OK"


def test_who_takes_too_long_to_say_what_is_wanted_is_dropped(
    endpoint: MetricsEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a byte, or one now and then: each has its time, in all."""
    monkeypatch.setattr(page_server, "FIRST_BYTE", 0.2)
    monkeypatch.setattr(page_server, "WHOLE", 0.4)
    with connected(endpoint.port, 2) as (silent, dripping):
        began = time.monotonic()
        with suppress(OSError):  # reset, or a broken pipe
            while time.monotonic() - began < 5:
                dripping.sendall(b"G")
                time.sleep(0.05)
        assert time.monotonic() - began < 3
        silent.settimeout(5)
        assert silent.recv(1) == b""


def test_a_page_in_a_browser_cannot_ask_the_loopback_address_by_its_own_name(
    endpoint: MetricsEndpoint,
) -> None:
    """Its name may lead here by now; what is here is not for it."""
    assert 'session_id="mute"' in page(endpoint.port, f"localhost:{endpoint.port}")
    asked = urllib.request.Request(endpoint.url, headers={"Host": "rebound.example"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked, timeout=5)
    assert refused.value.code == 421
    assert b"mute" not in refused.value.read()
    refused.value.close()


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])  # noqa: S104 - what listens everywhere is what is tried
def test_a_page_that_listens_everywhere_answers_to_whatever_name_leads_to_it(address: str) -> None:
    """A name of a pod, a service or a tunnel, also where it arrives at the loopback address."""
    with serve_metrics(address, 0) as everywhere:
        assert "python_info" in page(everywhere.port, "agents.default.svc:9464")


def test_one_that_begins_to_speak_as_its_place_is_needed_does_not_end_the_page(
    endpoint: MetricsEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are there when the server looks, and it may not answer a connection that it dropped."""
    going, parked = threading.Event(), threading.Event()
    going.set()

    def wait(_: PageServer) -> None:
        if not going.is_set():
            parked.set()
            going.wait(5)

    monkeypatch.setattr(page_server, "MOST", 2)
    monkeypatch.setattr(PageServer, "service_actions", wait)
    with connected(endpoint.port, 2) as (first, _):
        time.sleep(0.1)  # they are accepted
        going.clear()
        parked.wait(5)
        with connected(endpoint.port, 1):
            first.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n")
            going.set()
            time.sleep(0.1)
    with urllib.request.urlopen(endpoint.url, timeout=10) as answer:
        assert answer.status == 200
