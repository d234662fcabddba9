"""Many targets at once: what each costs does not grow with their number."""

import asyncio
import json
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation
from otel_budget.sources import http_connections
from otel_budget.sources.http import Access, Fetcher
from otel_budget.sources.resolver import Address, Resolver, look_up
from otel_budget.sources.scrape import ScrapeSettings, ScrapeSource
from otel_budget.sources.scrape_target import ScrapeTarget
from tests.support.exposition import line, page, serve
from tests.support.figures import note
from tests.support.processes import sidecar, until
from tests.support.raw_server import serve_raw

#: Shows a run by the name of the path. A process of its own: its files and its time are its own.
SERVER = """
import asyncio

class Page(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        run = data.split(b" ", 2)[1].strip(b"/")
        body = b'otel_budget_tokens_total{session_id="%s"} 5\\n' % run
        head = b"HTTP/1.1 200 OK\\r\\nContent-Type: text/plain\\r\\nContent-Length: %d\\r\\n\\r\\n"
        self.transport.write(head % len(body) + body)

async def main():
    server = await asyncio.get_running_loop().create_server(Page, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""
MANY = 400


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a server with as many targets as there are paths."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.terminate()


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process open enough files for a thousand connections that are kept."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < 4096:
        pytest.skip(f"a process may open only {hard} files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def targets(port: int, number: int) -> list[ScrapeTarget]:
    """Return so many targets of one run each."""
    return [ScrapeTarget(f"http://127.0.0.1:{port}/{n}") for n in range(number)]


def read(found: Sequence[ScrapeTarget], times: int = 1, timeout: float = 10) -> Observation:
    """Read the targets, and return the last reading."""

    async def reading() -> Observation:
        source = ScrapeSource(ScrapeSettings(found, interval=30, timeout=timeout), time.time)
        try:
            for _ in range(times - 1):
                await source.read()
            return await source.read()
        finally:
            await source.close()

    return asyncio.run(reading())


def fetching(port: int, number: int) -> float:
    """Return the processor time of asking so many targets once, each over a connection it has."""

    async def asking() -> float:
        fetcher = Fetcher(time.time, 20, 1_000_000)
        urls = [target.url for target in targets(port, number)]
        took = []
        try:
            for _ in range(4):
                began = time.process_time()
                await asyncio.gather(*(fetcher.fetch(u, Access(), accept="*/*") for u in urls))
                took.append(time.process_time() - began)
        finally:
            await fetcher.close()
        return min(took[1:])

    return asyncio.run(asking())


def test_what_a_target_costs_does_not_grow_with_their_number(port: int, many_files: None) -> None:
    """Twenty times as many cost some twenty times as much, not four hundred times."""
    few, many = fetching(port, 50), fetching(port, 1000)
    assert many < 3 * 20 * few
    note(
        "One costs one",
        "1,000 targets asked at once over connections that are kept, beside 50",
        f"{many / 1000 * 1e6:.0f} µs of the processor each, beside {few / 50 * 1e6:.0f} µs",
    )


def test_all_are_read_where_fewer_files_may_be_open_than_there_are_targets(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections that are kept are closed to make room for others."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    reading = read(targets(port, MANY), times=2)
    assert (len(reading.sessions), reading.problems) == (MANY, ())


def test_those_that_hang_take_a_share_of_the_files_and_the_others_wait(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The others of this process go on opening theirs; it is said once."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))

    def hang(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(1)

    with serve_raw(hang) as address:
        hanging = [ScrapeTarget(f"http://{address}/{n}") for n in range(60)]
        reading = read(hanging, timeout=0.3)
    problems = [problem.detail for problem in reading.problems]
    assert sum("no complete answer within 0.3 s" in text for text in problems) == 60
    assert caplog.text.count("50 targets are being asked at once") == 1


@contextmanager
def hanging_lookups(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let each lookup of a name that ends in ``.invalid`` hang, as without a name server."""
    over = threading.Event()

    def lookup(name: str) -> Sequence[Address]:
        if name.endswith(".invalid"):
            over.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return look_up(name)

    monkeypatch.setattr(http_connections, "Resolver", lambda clock: Resolver(clock, lookup))
    try:
        yield
    finally:
        over.set()


def test_names_whose_lookup_hangs_cost_only_themselves(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Targets by address and by another name are read; nothing waits for a lookup at the end."""
    lost = [ScrapeTarget(f"http://agent-{n}.invalid:9464/metrics") for n in range(200)]
    by_name = ScrapeTarget(f"http://localhost:{port}/by-name")
    settings = ScrapeSettings([by_name, *lost, *targets(port, 1)], timeout=0.5)

    async def readings() -> list[Observation]:
        source = ScrapeSource(settings, time.time)
        try:
            return [await source.read(), await source.read()]
        finally:
            await source.close()

    with hanging_lookups(monkeypatch):
        began = time.monotonic()
        found = asyncio.run(readings())
        assert time.monotonic() - began < 5
        waiting = [t for t in threading.enumerate() if t.name.startswith("lookup ")]
        assert 0 < len(waiting) <= 64
        assert all(thread.daemon for thread in waiting)
    for reading in found:
        assert {session.session_id for session in reading.sessions} == {"by-name", "0"}
        assert len(reading.problems) == len(lost)


#: In place of a resolver whose name server does not answer; an interpreter loads it at its start.
NO_NAME_SERVER = """
import socket, time

asked = socket.getaddrinfo

def getaddrinfo(host, *more, **others):
    if str(host).endswith(".invalid"):
        time.sleep(60)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return asked(host, *more, **others)

socket.getaddrinfo = getaddrinfo
"""


def test_a_sidecar_whose_name_server_is_silent_judges_and_ends_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run elsewhere is stopped, and SIGTERM waits for no lookup."""
    lost = 100
    with serve() as good:
        good.show(page(line(semconv.SESSION_TOKENS, 10, "good")))
        (tmp_path / "sitecustomize.py").write_text(NO_NAME_SERVER)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        names = [f"http://agent-{number}.invalid:9464/metrics" for number in range(lost)]
        config = {
            "source": {"scrape": {"targets": [good.url, *names], "interval": "1s"}},
            "resource_limits": {"max_tokens": 1000},
            "listen": {"address": "127.0.0.1:0"},
            "storage": {"path": str(tmp_path / "ledger.db")},
        }
        (tmp_path / "sidecar.yaml").write_text(json.dumps(config))
        with sidecar(tmp_path, config=tmp_path / "sidecar.yaml") as process:
            until(lambda: process.verdict("good"), process.process)
            good.show(page(line(semconv.SESSION_TOKENS, 5000, "good")))
            began = time.monotonic()
            until(lambda: (process.verdict("good") or {}).get("action") == "stop", seconds=10)
            stopped = time.monotonic() - began
            process.metrics()
            threads = len(list(Path(f"/proc/{process.process.pid}/task").iterdir()))
            began = time.monotonic()
            process.process.terminate()
            process.process.wait(5)
            ended = time.monotonic() - began
    assert threads < 64 + 20
    note(
        "One costs one",
        f"{lost} targets by names for which no name server answers, at an interval of 1 s",
        f"a run elsewhere is stopped after {stopped:.1f} s, {threads} threads, SIGTERM takes "
        f"{ended:.1f} s",
    )


def test_a_connection_that_is_closed_as_it_is_used_again_is_no_problem() -> None:
    """A server may have had enough of it at that very moment."""
    asked = []

    def once(connection: socket.socket, over: threading.Event) -> None:
        body = b'otel_budget_tokens_total{session_id="run-1"} 5\n'
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % len(body) + body)
        asked.append(1)
        connection.recv(65536)  # the next request, which it does not answer

    with serve_raw(once) as address:
        reading = read([ScrapeTarget(f"http://{address}/")], times=3)
    assert (len(reading.sessions), reading.problems) == (1, ())
    assert len(asked) == 3
