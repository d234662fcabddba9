"""How fast verdicts are given out: asked for one by one, and to many who listen."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.listeners import Listeners
from benchmarks.report import Goal, Report
from benchmarks.rounds import Spread, steps
from otel_budget import semconv
from tests.support.exposition import line, page, serve
from tests.support.ports import free_port
from tests.support.processes import SidecarProcess, sidecar, until

if TYPE_CHECKING:
    from collections.abc import Iterator

_RUNS, _RATE, _CONNECTIONS = 1000, 1000, 16
_TOKEN = "a" * 32
#: The same server with nothing behind it.
_EMPTY = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

async def nothing(request):
    return Response(b"{}", media_type="application/json")

app = Starlette(routes=[Route("/", nothing)])
uvicorn.run(app, port=int(sys.argv[1]), log_level="critical", access_log=False, http="h11",
            loop="asyncio")
"""


def run(*, quick: bool) -> Report:
    """Measure with a real sidecar in a process of its own."""
    listeners = 500 if quick else 5000
    with ExitStack() as stack:
        process = stack.enter_context(_sidecar())
        empty = stack.enter_context(_empty())
        address = process.url.removeprefix("http://")
        latencies = asyncio.run(_at_a_rate(address, 2.0 if quick else 10.0))
        ours, theirs = [], []
        for _ in steps(3 if quick else 10, "requests, as many as go"):
            ours.append(asyncio.run(_as_many_as_go(address, "/v1/verdicts/run-7", 1.0)))
            theirs.append(asyncio.run(_as_many_as_go(empty, "/", 1.0)))
        ratio = Spread.of([a / b for a, b in zip(ours, theirs, strict=True)])
        heard = _all_hear(address, listeners, 4 if quick else 20)
    firsts = Spread.of([first for first, _ in heard])
    lasts = Spread.of([last for _, last in heard])
    p50, p99 = (statistics.quantiles(latencies, n=100)[share - 1] for share in (50, 99))
    return Report(
        title="Giving verdicts out",
        about=(
            f"A sidecar process that knows {_RUNS:,} runs. GET of a verdict at {_RATE:,} requests "
            "a second, from the moment each was due; then as many as go over "
            f"{_CONNECTIONS} connections, in turns with an endpoint of Starlette that does "
            f"nothing, on uvicorn with the same protocol. {listeners:,} listeners on the stream of "
            "one run, and an operator stops it and lets it go on: from the order to the last."
        ),
        columns=("", "measured"),
        rows=(
            ("GET of a verdict, p50", f"{p50 * 1e3:.2f} ms"),
            ("GET of a verdict, p99", f"{p99 * 1e3:.2f} ms"),
            ("requests a second", Spread.of(ours).text(digits=0)),
            ("requests a second, an empty endpoint", Spread.of(theirs).text(digits=0)),
            ("ratio of the two", ratio.text()),
            (f"the first of {listeners:,} listeners hears an order", firsts.text(1e3, 0) + " ms"),
            (f"the last of {listeners:,} listeners hears it", lasts.text(1e3, 0) + " ms"),
        ),
        goals=(
            Goal("GET, p50 in ms", p50 * 1e3, 1.0), Goal("GET, p99 in ms", p99 * 1e3, 5.0),
            Goal("empty endpoint, of a verdict, in requests a second", 1 / ratio.median, 1 / 0.7),
            Goal(f"the last of {listeners:,} listeners, in ms", lasts.median * 1e3, 250, 0),
        ),
    )  # fmt: skip


@contextmanager
def _sidecar() -> Iterator[SidecarProcess]:
    with tempfile.TemporaryDirectory() as name, serve() as endpoint:
        folder = Path(name)
        endpoint.show(
            page(*(line(semconv.SESSION_TOKENS, 5, f"run-{number}") for number in range(_RUNS)))
        )
        (folder / "admin").write_text(_TOKEN, encoding="utf-8")
        file = folder / "sidecar.yaml"
        config = {
            "source": {"scrape": {"targets": [endpoint.url], "interval": "5s"}},
            "verdicts": {"lease": "60s"},
            "listen": {"address": "127.0.0.1:0", "admin_token_file": str(folder / "admin"),
                       "limits": {"streams_per_client": 10_000}},
            "storage": {"path": str(folder / "sidecar.db")},
        }  # fmt: skip
        file.write_text(json.dumps(config), encoding="utf-8")
        with sidecar(folder, config=file) as process:
            until(lambda: process.verdict("run-7"))
            yield process


@contextmanager
def _empty() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", _EMPTY, str(port)])
    try:
        address = f"127.0.0.1:{port}"
        until(lambda: _answers(address), process)
        yield address
    finally:
        process.kill()
        process.wait()


def _answers(address: str) -> bool:
    try:
        return asyncio.run(_as_many_as_go(address, "/", 0.01)) > 0
    except OSError:
        return False


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
    """Send a request and take the whole answer."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode())
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)


def _request(address: str, path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode()


async def _at_a_rate(address: str, seconds: float) -> list[float]:
    """Ask for verdicts at a steady rate; return how long after it was due each was there."""
    host, _, port = address.partition(":")
    total, taken, began = int(seconds * _RATE), 0, time.perf_counter() + 0.2
    latencies: list[float] = []

    async def connection() -> None:
        nonlocal taken
        reader, writer = await asyncio.open_connection(host, int(port))
        while taken < total:
            number, taken = taken, taken + 1
            due = began + number / _RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await _ask(reader, writer, _request(address, f"/v1/verdicts/run-{number % _RUNS}"))
            latencies.append(time.perf_counter() - due)
        writer.close()

    await asyncio.gather(*(connection() for _ in range(_CONNECTIONS)))
    return latencies


async def _as_many_as_go(address: str, path: str, seconds: float) -> float:
    """Return requests a second, over all connections."""
    host, _, port = address.partition(":")
    request, done = _request(address, path), 0
    until_ = time.perf_counter() + seconds

    async def connection() -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection(host, int(port))
        while time.perf_counter() < until_:
            await _ask(reader, writer, request)
            done += 1
        writer.close()

    await asyncio.gather(*(connection() for _ in range(_CONNECTIONS)))
    return done / seconds


def _all_hear(address: str, number: int, orders: int) -> list[tuple[float, float]]:
    """Return after how long the first and the last listener heard of each order."""
    run = "run-7"
    found: list[tuple[float, float]] = []
    with Listeners(address, _request(address, f"/v1/stream?session_id={run}"), number) as listeners:
        time.sleep(0.5)
        for _ in steps(orders // 2, "orders"):
            for kind, word in (("stop", b"operator_stop"), ("release", b"within_limits")):
                order = partial(asyncio.run, _order(address, run, kind))
                found.append(listeners.hear(word, order))
                time.sleep(0.2)
    return found


async def _order(address: str, run: str, kind: str) -> None:
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = b'{"reason": "bench"}'
    head = (
        f"POST /v1/sessions/{run}/{kind} HTTP/1.1\r\nHost: {address}\r\n"
        f"Authorization: Bearer {_TOKEN}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    await _ask(reader, writer, head.encode() + body)
    writer.close()
