"""One target that is slow, hangs or is costly delays nobody else: a real sidecar, bad servers.

The honest run is stopped long before the others are done, so the bounds are generous.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from otel_budget import semconv
from tests.support.exposition import Exposition, line, page, serve
from tests.support.figures import note
from tests.support.ports import free_port
from tests.support.processes import SidecarProcess, sidecar, until
from tests.support.raw_server import Answer, serve_raw

TOKENS = semconv.SESSION_TOKENS
#: Seconds: far above the interval of a second, far below what there is to wait for.
SOON = 6.0


def runs(count: int, tokens: int = 1, prefix: str = "slow") -> bytes:
    """Return a page of so many runs."""
    return page(*(line(TOKENS, tokens, f"{prefix}-{n}") for n in range(count))).encode()


def answering(body: bytes, after: float = 0.0) -> Answer:
    """Answer with a page after a while."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"

    def answer(connection: socket.socket, over: threading.Event) -> None:
        if not over.wait(after):
            connection.sendall(head.encode() + body)

    return answer


def never(connection: socket.socket, over: threading.Event) -> None:
    """Take the request, and say nothing."""
    over.wait(60)


@contextmanager
def judged(
    folder: Path, targets: Sequence[object], **scrape: object
) -> Iterator[tuple[SidecarProcess, Exposition]]:
    """Run a sidecar over an honest target and these; yield it once the honest run is known."""
    with serve() as good:
        good.show(page(line(TOKENS, 1, "good")))
        source = {"targets": [good.url, *targets], "interval": "1s", **scrape}
        config = {
            "source": {"scrape": source},
            "resource_limits": {"max_tokens": 1000},
            "listen": {"address": f"127.0.0.1:{free_port()}"},
            "storage": {"path": str(folder / "book.db")},
        }
        path = folder / "config.yaml"
        path.write_text(json.dumps(config))
        with sidecar(folder, config=path) as process:
            until(lambda: process.verdict("good"))
            yield process, good


def seconds_to_stop(process: SidecarProcess, good: Exposition) -> float:
    """Let the honest run cross its limit; return the seconds until it is to stop."""
    good.show(page(line(TOKENS, 5000, "good")))
    began = time.monotonic()

    def stopped() -> bool:
        found = process.verdict("good")
        return found is not None and found["action"] == "stop"

    until(stopped)
    return time.monotonic() - began


def seconds_to_end(process: SidecarProcess) -> float:
    """End it in order; return how long that takes."""
    began = time.monotonic()
    process.process.terminate()
    assert process.process.wait(20) == 0
    return time.monotonic() - began


@contextmanager
def asking_again_and_again(ask: Callable[[http.client.HTTPConnection, int], None], url: str,
                           times: int) -> Iterator[None]:  # fmt: skip
    """Ask in so many threads while the block runs."""
    over = threading.Event()

    def forever(number: int) -> None:
        while not over.is_set():
            connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
            try:
                ask(connection, number)
            except OSError:
                over.wait(0.05)
            finally:
                connection.close()

    threads = [threading.Thread(target=forever, args=(n,), daemon=True) for n in range(times)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def nudge(connection: http.client.HTTPConnection, number: int) -> None:
    """Nudge a run of the slow target."""
    connection.request("POST", f"/v1/nudge?session_id=slow-{number}")
    with connection.getresponse() as response:
        response.read()


def test_nudges_of_one_slow_target_are_one_request_and_hold_up_nobody(tmp_path: Path) -> None:
    """64 at a time; and a nudge of another target's run is done at once."""
    asked = 0
    slow = answering(runs(64), 0.8)

    def answer(connection: socket.socket, over: threading.Event) -> None:
        nonlocal asked
        asked += 1
        slow(connection, over)

    with serve_raw(answer) as address, \
            judged(tmp_path, [f"http://{address}/metrics"]) as (process, good):  # fmt: skip
        until(lambda: process.verdict("slow-63"))
        with asking_again_and_again(nudge, process.url, 64):
            before, began = asked, time.monotonic()
            took = seconds_to_stop(process, good)
            time.sleep(1.0)
            requests, lasted = asked - before, time.monotonic() - began
            began = time.monotonic()
            connection = http.client.HTTPConnection(process.url.removeprefix("http://"), timeout=30)
            connection.request("POST", "/v1/nudge?session_id=good")
            with connection.getresponse() as response:
                assert response.status == 204
            nudged = time.monotonic() - began
            connection.close()
    assert took < SOON
    assert nudged < 1.0
    assert requests <= lasted / 0.8 + 2, "one after the other, whoever waits"
    note(
        "One costs one",
        "64 nudges at a time for runs of a target that answers after 0.8 s, at an interval of 1 s",
        f"a run elsewhere is stopped after {took:.1f} s, its nudge done after {1000 * nudged:.0f} "
        "ms",
    )


def costly(lines: int) -> Answer:
    """Show a page that takes some tenths of a second to read, at each scrape."""
    series = (f'{TOKENS.name}{{session_id="costly",x="{n}"}} {n}\n' for n in range(lines))
    name = TOKENS.name.removesuffix("_total")
    body = f"# TYPE {name} counter\n{''.join(series)}# EOF\n".encode()
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()

    def answer(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(head + body)

    return answer


def test_pages_that_are_costly_take_turns_and_none_from_others(tmp_path: Path) -> None:
    """Thirty of them, each below its own bound: all together take far longer than the interval."""
    with serve_raw(costly(12_000)) as address:
        targets = [f"http://{address}/{n}" for n in range(30)]
        with judged(tmp_path, targets) as (process, good):
            took = seconds_to_stop(process, good)
            until(lambda: "waits to be parsed" in process.said())
            ended = seconds_to_end(process)
    assert took < SOON
    assert ended < 5
    note(
        "One costs one",
        "30 targets whose pages take 0.3 s of the processor each, at an interval of 1 s",
        f"a run elsewhere is stopped after {took:.1f} s",
    )


def test_a_list_of_targets_that_cannot_be_opened_delays_nobody(tmp_path: Path) -> None:
    """A FIFO to which nobody writes, in place of a file, or of a token."""
    os.mkfifo(tmp_path / "targets.json")
    os.mkfifo(tmp_path / "token")
    secret = {"url": "http://127.0.0.1:9/metrics", "bearer_token_file": str(tmp_path / "token")}
    listed = {"file_sd": [str(tmp_path / "*.json")]}
    with judged(tmp_path, [secret], **listed) as (process, good):
        took = seconds_to_stop(process, good)
        assert "targets.json: is not a regular file" in process.said()
        assert f"token file {tmp_path / 'token'} is not a regular file" in process.said()
        ended = seconds_to_end(process)
    assert took < SOON
    assert ended < 5


def test_targets_that_hang_delay_no_stop_elsewhere_nor_the_end(tmp_path: Path) -> None:
    """However many."""
    with serve_raw(never) as address:
        targets = [f"http://{address}/{n}" for n in range(100)]
        with judged(tmp_path, targets) as (process, good):
            took = seconds_to_stop(process, good)
            ended = seconds_to_end(process)
    assert took < SOON
    assert ended < 5
