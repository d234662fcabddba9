"""What clients may hold of a real sidecar: connections, streams, time, bytes; over raw sockets."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from otel_budget import semconv
from tests.support.exposition import line, page, serve
from tests.support.figures import note
from tests.support.processes import SidecarProcess, sidecar, until

CONNECTIONS, STREAMS, SECONDS = 20, 5, 1.0
ADMIN = "a" * 32


@pytest.fixture
def process(tmp_path: Path) -> Iterator[SidecarProcess]:
    """A sidecar that allows little."""
    (tmp_path / "admin").write_text(ADMIN)
    file = tmp_path / "sidecar.yaml"
    with serve() as endpoint:
        runs = (line(semconv.SESSION_TOKENS, 5, f"run-{number:04}") for number in range(500))
        endpoint.show(page(*runs))
        config = {
            "source": {"scrape": {"targets": [endpoint.url], "interval": "100ms"}},
            "verdicts": {"lease": "1s"},
            "listen": {
                "address": "127.0.0.1:0",
                "admin_token_file": str(tmp_path / "admin"),
                "limits": {
                    "connections": CONNECTIONS, "streams_per_client": STREAMS,
                    "request_body": 1000, "request_timeout": f"{SECONDS}s",
                },
            },
            "storage": {"path": str(tmp_path / "ledger.db")},
        }  # fmt: skip
        file.write_text(json.dumps(config))
        with sidecar(tmp_path, config=file) as running:
            until(lambda: running.verdict("run-0000"))
            yield running


def connect(process: SidecarProcess) -> socket.socket:
    """Open a connection."""
    port = int(process.url.rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def send(process: SidecarProcess, request: bytes) -> bytes:
    """Send bytes and return all that comes back until the end."""
    with connect(process) as connection:
        connection.sendall(request)
        return rest(connection)


def rest(connection: socket.socket) -> bytes:
    """Return what comes until the connection ends; fails after 10 s of silence."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            got += piece
    return got


def ended_after(connection: socket.socket) -> float:
    """Return the seconds until the connection ends, by whatever is received."""
    began = time.monotonic()
    rest(connection)
    return time.monotonic() - began


def counted(process: SidecarProcess, reason: str) -> float:
    """Return how many requests were refused for a reason."""
    with urllib.request.urlopen(process.url + "/metrics", timeout=5) as answer:
        text = answer.read().decode()
    name = f'otel_budget_sidecar_refused_requests_total{{reason="{reason}"}}'
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def get(path: str, *headers: str) -> bytes:
    """Return a request that closes its connection."""
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def test_a_request_that_does_not_arrive_ends_its_connection(process: SidecarProcess) -> None:
    """No head, half a head, a head byte by byte, a body that does not come; and an idle one."""
    post = f"POST /v1/sessions/run-0001/stop HTTP/1.1\r\nAuthorization: Bearer {ADMIN}\r\n"
    post += "Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
    took = []
    for begin in ("", "GET /metrics HTTP/1.1\r\nHo", post):
        with connect(process) as connection:
            connection.sendall(begin.encode())
            took.append(ended_after(connection))
    with connect(process) as connection:  # a slow one, which sends something all the time
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 10:
                connection.sendall(b"G")
                time.sleep(0.05)
        took.append(time.monotonic() - began)
    with connect(process) as connection:
        connection.sendall(get("/-/healthy").replace(b"Connection: close\r\n", b""))
        time.sleep(0.1)
        took.append(ended_after(connection))
    assert all(0.5 * SECONDS < seconds < SECONDS + 4 for seconds in took), took
    assert counted(process, "request") == 4
    note(
        "Lets no one in",
        f"requests that do not arrive, with {SECONDS:.0f} s to do so: no head, "
        "half of one, a byte every 50 ms, no body",
        f"cut off after {max(took):.1f} s at most, counted",
    )  # fmt: skip


def test_what_is_too_large_is_refused(process: SidecarProcess) -> None:
    long = send(process, get("/v1/verdicts", f"X-Long: {'x' * 20_000}"))
    assert long.startswith(b"HTTP/1.1 431")
    many = send(process, get("/v1/verdicts", *(f"X-{n}: {'x' * 90}" for n in range(300))))
    assert many.startswith(b"HTTP/1.1 431")
    with connect(process) as connection:  # in pieces it does not get as far
        for piece in (b"GET / HTTP/1.1\r\nX: ", *[b"x" * 4096] * 4):
            connection.sendall(piece)
            time.sleep(0.02)
        assert rest(connection).startswith(b"HTTP/1.1 400")
    head = (f"POST /v1/sessions/run-0001/stop HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\n")  # fmt: skip
    body = b'{"reason": "' + b"x" * 2000 + b'"}'
    told = send(process, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    assert told.startswith(b"HTTP/1.1 413")
    chunked = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode()
    chunked += b"".join(b"3e8\r\n" + b"x" * 1000 + b"\r\n" for _ in range(3))
    assert send(process, chunked).startswith(b"HTTP/1.1 413")
    assert send(process, b"\x16\x03\x01 hello\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert process.verdict("run-0001")["action"] == "continue"  # type: ignore[index]


def test_connections_and_streams_are_bounded(process: SidecarProcess) -> None:
    with ExitStack() as stack:
        streams = []
        for _ in range(STREAMS):
            connection = stack.enter_context(connect(process))
            connection.sendall(get("/v1/stream?session_id=run-0001"))
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
            streams.append(connection)
        assert send(process, get("/v1/stream")).startswith(b"HTTP/1.1 429")
        streams.pop().close()
        again = stack.enter_context(connect(process))

        def opened() -> bool:
            again.sendall(
                get("/v1/stream?session_id=run-0001").replace(b"Connection: close\r\n", b"")
            )
            return again.recv(15) == b"HTTP/1.1 200 OK"

        time.sleep(0.2)
        assert opened()
        held = [stack.enter_context(connect(process)) for _ in range(CONNECTIONS)]
        time.sleep(0.2)
        cut = sum(not alive(connection) for connection in held)
        assert cut == STREAMS
    until(lambda: counted_or_none(process, "connections") == float(cut))
    assert counted(process, "streams") == 1
    note(
        "Lets no one in", f"{CONNECTIONS + STREAMS} connections where {CONNECTIONS} are allowed, "
        f"{STREAMS + 1} streams where {STREAMS} are",
        f"{cut} connections closed, 1 stream refused with 429; the others go on",
    )  # fmt: skip


def alive(connection: socket.socket) -> bool:
    """Tell whether a connection without a request is still open."""
    connection.settimeout(0.01)
    try:
        return connection.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


def counted_or_none(process: SidecarProcess, reason: str) -> float | None:
    """Return the count once there is room to ask."""
    try:
        return counted(process, reason)
    except OSError:
        return None


def test_a_reader_that_does_not_read_is_cut_off(process: SidecarProcess) -> None:
    """Its stream would otherwise hold a place, and memory, for ever."""
    with connect(process) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(get("/v1/stream"))  # 500 verdicts three times a second
        until(lambda: counted(process, "reader") == 1)
    # On a busy machine a verdict on the 500 may be past its lease for a moment.
    until(lambda: process.verdict("run-0001") is not None)
