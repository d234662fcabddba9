"""The runs of a process follow a sidecar over one connection, whatever answers at its address."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from otel_budget import ResourceLimits, ResourceMonitor, semconv, serve_metrics
from otel_budget.core import sse, verdict_json
from otel_budget.sdk.sidecar_client.address import SidecarAddress
from otel_budget.sdk.sidecar_client.client import VerdictClient
from otel_budget.sdk.sidecar_client.nudge import MOST_AT_ONCE, look
from otel_budget.testing import stop_verdict
from tests.support.figures import note
from tests.support.ports import free_port
from tests.support.processes import SidecarProcess, sidecar, until
from tests.support.scripted_sidecar import Answer, Request, scripted

RUNS = 150


@contextmanager
def followed(
    tmp_path: Path,
    *,
    lease: str = "3s",
    interval: str = "200ms",
    max_tokens: int | None = None,
    **limits: Any,
) -> Iterator[SidecarProcess]:
    """Run a sidecar that reads this process, with limits for its clients."""
    with serve_metrics("127.0.0.1", 0, register=str(tmp_path / "targets")):
        config = tmp_path / "sidecar.yaml"
        settings = {
            "source": {
                "scrape": {
                    "file_sd": [str(tmp_path / "targets/*.json")],
                    "interval": interval,
                    "timeout": interval,
                }
            },
            "verdicts": {"lease": lease},
            "resource_limits": {"max_tokens": max_tokens},
            "listen": {"address": f"127.0.0.1:{free_port()}", "limits": limits},
            "storage": {"path": str(tmp_path / "ledger.db")},
        }
        config.write_text(json.dumps(settings))
        with sidecar(tmp_path, config=config) as process:
            yield process


def run_of(stack: ExitStack, url: str, name: str, **options: Any) -> ResourceMonitor:
    """Begin a run that follows a sidecar; end it with the stack."""
    limits = options.pop("limits", ResourceLimits.only(max_tokens=1000))
    monitor = ResourceMonitor(limits, name, sidecar=url, **options)
    stack.callback(monitor.close, timeout=0)
    monitor.record_operation(tokens=1, api_call=True)
    monitor.should_continue()
    return monitor


def believed(monitor: ResourceMonitor) -> bool:
    """Tell whether a verdict of the sidecar is believed."""
    lease = monitor._run._lease
    return lease is not None and lease.is_in_force()


def renewed(monitors: Iterable[ResourceMonitor]) -> None:
    """Wait until the sidecar has said again of each what it said, however slow it is just now."""
    leases = [lease for m in monitors if (lease := m._run._lease) is not None]
    ends = [lease._until for lease in leases]
    until(
        lambda: all(
            lease._until > end and lease.is_in_force()
            for lease, end in zip(leases, ends, strict=True)
        )
    )


def figure(process: SidecarProcess, name: str) -> float:
    """Return one of the sidecar's metrics."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", process.metrics(), re.MULTILINE)
    assert found is not None
    return float(found[1])


def hearing() -> list[str]:
    """Return the threads of this process that hear a sidecar."""
    return [t.name for t in threading.enumerate() if t.name.startswith("otel-budget-verdicts")]


def test_many_runs_share_a_stream_and_each_of_them_comes_and_goes_as_it_likes(
    tmp_path: Path,
) -> None:
    with followed(tmp_path, request_body=1000) as process, ExitStack() as stack:
        runs = [run_of(stack, process.url, f"shared-{n}") for n in range(RUNS)]
        until(lambda: all(map(believed, runs)), seconds=60)
        until(lambda: len(hearing()) == 1)
        assert figure(process, semconv.SUBSCRIBERS.name) == 1
        runs[0].close(timeout=0)  # the one that opened the stream
        late = run_of(stack, process.url, "shared-late")
        twin = run_of(stack, process.url, "shared-1")  # of an id that is followed already
        until(lambda: believed(late))
        until(lambda: twin._run.record.sidecar_reachable is True)
        renewed((*runs[1:], late))
        assert figure(process, semconv.SUBSCRIBERS.name) == 1
        for monitor in (*runs, late, twin):
            monitor.close(timeout=0)
        until(lambda: not hearing(), seconds=10)
        until(lambda: figure(process, semconv.SUBSCRIBERS.name) == 0, seconds=10)
    note(
        "One costs one", f"{RUNS} runs in one process, begun and ended in turn",
        "one connection and one thread for all of them; none when they are over",
    )  # fmt: skip


def test_many_runs_that_cross_a_line_at_once_are_stopped_with_few_threads(tmp_path: Path) -> None:
    """A line that only the sidecar knows; it is nudged for all of them together."""
    with (
        followed(tmp_path, lease="20s", interval="1s", max_tokens=500) as process,
        ExitStack() as stack,
    ):
        unlimited = ResourceLimits.only(max_tokens=10**9)
        runs = [run_of(stack, process.url, f"crossing-{n}", limits=unlimited) for n in range(RUNS)]
        until(lambda: all(map(believed, runs)), seconds=60)
        threads, began = 0, time.monotonic()
        for monitor in runs:
            monitor.record_operation(tokens=1000)
            threads = max(threads, threading.active_count())
        for monitor in runs:
            stop = monitor.wait_for_stop(30)
            assert stop is not None
            assert stop.reason == "limit_exceeded"
        took = time.monotonic() - began
        nudging = [t for t in threading.enumerate() if t.name.startswith("otel-budget-nudge-")]
    assert len(nudging) <= MOST_AT_ONCE
    assert threads < RUNS / 2
    note(
        "One costs one", f"{RUNS} runs of one process go over the sidecar's ceiling at once",
        f"all are stopped, the last after {took:.1f} s; {len(nudging)} threads ask for it",
    )  # fmt: skip


def test_without_a_stream_to_be_had_runs_ask_three_times_in_a_lease_and_none_is_stopped(
    tmp_path: Path,
) -> None:
    """The bound on streams is reached by others."""
    with followed(tmp_path, lease="4s", streams_per_client=1) as process, ExitStack() as stack:
        other = socket.create_connection(("127.0.0.1", int(process.url.rpartition(":")[2])), 10)
        stack.callback(other.close)
        other.sendall(b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in other.recv(100)
        runs = [
            run_of(stack, process.url, f"refused-{n}", on_sidecar_loss="stop") for n in range(60)
        ]
        until(lambda: all(map(believed, runs)), seconds=60)
        refused = 'otel_budget_sidecar_refused_requests_total{reason="streams"}'
        before = figure(process, refused)
        for _ in range(2):
            renewed(runs)
            assert all(monitor.should_continue() for monitor in runs)
        assert figure(process, refused) - before <= 3  # it asks for 10 s of quiet
    note(
        "One costs one", "60 runs whose process gets no stream",
        "each has its verdicts by asking, three times in a lease for all together",
    )  # fmt: skip


def test_a_sidecar_that_lets_no_stream_be_changed_is_followed_over_the_one_of_all_runs() -> None:
    """An earlier version; of what is new it is asked by GET."""
    paths: list[str] = []

    def script(asked: Request) -> None:
        paths.append(asked.path)
        verdicts = {name: stop_verdict(name, sequence=1, message=name) for name in "ab"}
        if asked.path == "/v1/stream":
            asked.stream(*map(sse.verdict_frame, verdicts.values()), stay=True)
        elif "/stream" in asked.path:
            asked.stream(sse.verdict_frame(verdicts[asked.path[-1]]), stay=True)
        else:
            asked.say(
                200, verdict_json.to_json(stop_verdict(asked.path[-1], message=asked.path[-1]))
            )

    heard = Queue[str]()
    with scripted(script) as server, ExitStack() as stack:
        for name in "abc":
            client = VerdictClient(
                server.url, name, on_verdict=lambda verdict: heard.put(verdict.message),
                on_reachable=lambda _: None,
            )  # fmt: skip
            client.start()
            stack.callback(client.stop)
            while heard.get(timeout=20) != name:
                pass
    assert paths[0] == "/v1/stream?session_id=a"
    assert "/v1/stream" in paths


def retry(asked: Request, when: str) -> None:
    """Answer with a Retry-After."""
    asked.send_response(503)
    asked.send_header("Retry-After", when)
    asked.send_header("Content-Length", "0")
    asked.end_headers()


def elsewhere(asked: Request) -> None:
    """Send it to itself."""
    asked.send_response(301)
    asked.send_header("Location", asked.path)
    asked.send_header("Content-Length", "0")
    asked.end_headers()


def garbage(asked: Request) -> None:
    """Send what is no HTTP."""
    asked.wfile.write(b"\0\xff\r\n\r\n")


ODD: dict[str, Answer] = {
    "a page": lambda asked: asked.say(200, "<html>", "text/html"),
    "nothing": lambda asked: asked.say(200, ""),
    "no content": lambda asked: asked.say(204, ""),
    "elsewhere": elsewhere,
    "not found": lambda asked: asked.say(404, "no", "text/plain"),
    "not yet": lambda asked: asked.say(503, "{}"),
    "too many": lambda asked: asked.say(429, "{}"),
    "in a while": lambda asked: retry(asked, "30"),
    "at a time": lambda asked: retry(asked, "Fri, 31 Dec 2049 23:59:59 GMT"),
    "hangs up": lambda _asked: None,
    "garbage": garbage,
    "a silent stream": lambda asked: asked.stream(stay=True),
    "an empty stream": lambda asked: asked.stream(stay=False),
    "comments": lambda asked: asked.stream(": alive\n" * 9, stay=False),
    "a stream, cut off": lambda asked: asked.stream(
        sse.verdict_frame(stop_verdict("mine", sequence=1)), stay=False
    ),
    "by asking alone": lambda asked: (
        asked.say(200, "")
        if "stream" in asked.path
        else asked.say(200, verdict_json.to_json(stop_verdict("mine")))
    ),
}


def test_nothing_that_answers_is_asked_without_a_pause() -> None:
    """All of them at once, for three seconds after each was asked."""
    asked: dict[str, int] = dict.fromkeys(ODD, 0)

    def counting(name: str) -> Answer:
        def answer(request: Request) -> None:
            asked[name] += 1
            ODD[name](request)

        return answer

    with ExitStack() as stack:
        for name in ODD:
            server = stack.enter_context(scripted(counting(name)))
            client = VerdictClient(
                server.url, "mine", on_verdict=lambda _: None, on_reachable=lambda _: None
            )
            client.start()
            stack.callback(client.stop)
        until(lambda: all(asked.values()) and min(asked["in a while"], asked["at a time"]) == 2)
        time.sleep(3)
    assert all(0 < count <= 14 for count in asked.values()), asked
    assert asked["in a while"] == asked["at a time"] == 2, "the stream, and the verdict"
    note(
        "One costs one", f"{len(ODD)} kinds of answers that are no stream, for 3 s",
        f"{max(asked.values())} requests at most",
    )  # fmt: skip


@pytest.mark.parametrize("accepts", [True, False])
def test_a_hung_sidecar_leaves_no_thread_and_no_connection_of_a_run_that_is_over(
    *, accepts: bool
) -> None:
    with socket.socket() as hung, ExitStack() as stack:
        hung.bind(("127.0.0.1", 0))
        hung.listen(100 if accepts else 0)
        if not accepts:
            for _ in range(3):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(hung.getsockname())
        url = f"http://127.0.0.1:{hung.getsockname()[1]}"
        with ExitStack() as runs:
            for n in range(3):
                run_of(runs, url, f"hung-{n}")
            time.sleep(0.2)  # it waits by now
            assert len(hearing()) == 1
            closed_at = time.monotonic()
        until(lambda: not hearing(), seconds=5)
        assert time.monotonic() - closed_at < 4


def test_a_name_server_that_hangs_holds_up_no_run_that_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor the end of a process; all wait for one answer, which is used when it comes."""
    answer, asked, real = threading.Event(), list[Any](), socket.getaddrinfo

    def hangs(host: str, *rest: Any) -> Any:
        if host != "sidecar.example":
            return real(host, *rest)
        asked.append(host)
        answer.wait(20)
        return real("127.0.0.1", *rest)

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    heard = Queue[str]()
    with scripted(
        lambda asked: asked.stream(sse.verdict_frame(stop_verdict("named", sequence=1)), stay=True)
    ) as server:
        url = f"http://sidecar.example:{server.server_port}"
        for n in range(5):
            with ExitStack() as run:
                run_of(run, url, f"named-{n}")
                time.sleep(0.02)
        until(lambda: not hearing(), seconds=5)
        began = time.monotonic()
        assert not look(SidecarAddress.parse(url), "named", 0.2)
        assert time.monotonic() - began < 3
        assert asked == ["sidecar.example"]
        client = VerdictClient(
            url, "named", on_verdict=lambda verdict: heard.put(verdict.action),
            on_reachable=lambda _: None,
        )  # fmt: skip
        client.start()
        answer.set()
        assert heard.get(timeout=20) == "stop"
        client.stop()
