"""A real sidecar that programs push to: what they served is what it counted, whatever happens."""

from __future__ import annotations

import gzip
import http.client
import json
import random
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from otel_budget import semconv
from tests.support.exposition import line, page, serve
from tests.support.figures import note
from tests.support.paths import TESTS
from tests.support.ports import free_port
from tests.support.processes import SidecarProcess, sidecar, until

FIXTURES = TESTS / "agents" / "fixtures"
CASES = ("claude_code/delta_pb", "claude_code/cumulative_json", "gemini_cli/cumulative_json",
         "codex/delta_pb")  # fmt: skip
JSON, PROTOBUF = "application/json", "application/x-protobuf"


class Receiving:
    """A sidecar with a receiver."""

    def __init__(self, process: SidecarProcess, port: int) -> None:
        """Keep what was started."""
        self.process, self.port = process, port

    def push(self, signal: str, body: bytes, kind: str = JSON, **headers: str) -> tuple[int, bytes]:
        """Push a body; return the status and what was answered."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/{signal}", body, {"content-type": kind, **headers}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def used(self, session_id: str) -> dict[str, float]:
        """Return what a run has used, by resource, as judged."""
        verdict = self.process.verdict(session_id)
        assert verdict is not None, self.process.said()
        return {name: float(state["used"]) for name, state in verdict["resources"].items()}


@contextmanager
def receiving(folder: Path, *more: str, source: str = "") -> Iterator[Receiving]:
    """Run a sidecar with a receiver. more: lines of ``source.otlp``; source: beside it."""
    ports = free_port(), free_port()
    config = folder / "sidecar.yaml"
    config.write_text(
        "\n".join(
            [
                "source:",
                *([f"  {source}"] if source else []),
                "  otlp:",
                f'    address: "127.0.0.1:{ports[1]}"',
                *(f"    {each}" for each in more),
                f'listen: {{address: "127.0.0.1:{ports[0]}"}}',
                "storage: {path: sidecar.db}",
            ]
        )
    )
    with sidecar(folder, config=config) as process:
        until(lambda: "receiving OTLP on" in process.said(), process.process)
        yield Receiving(process, ports[1])


def requests_of(case: str) -> list[tuple[str, bytes, str]]:
    """Return the requests of a recording, in order: signal, body and content type."""
    found = []
    for path in sorted((FIXTURES / case).glob("[0-9]*_v1_*")):
        signal = "metrics" if "_v1_metrics" in path.name else "logs"
        found.append((signal, path.read_bytes(), JSON if path.suffix == ".json" else PROTOBUF))
    return found


def expected_of(case: str) -> dict[str, Any]:
    """Return what was served."""
    found: dict[str, Any] = json.loads((FIXTURES / case / "expected.json").read_text())
    return found


def points(session_id: str, tokens: int, *, start: int = 10**18, name: str = "a") -> bytes:
    """Return a request with the tokens of a run, cumulative, as Claude Code tells them."""
    point = {
        "attributes": [
            {"key": "session.id", "value": {"stringValue": session_id}},
            {"key": "type", "value": {"stringValue": "input"}},
        ],
        "startTimeUnixNano": str(start),
        "timeUnixNano": str(start + 10**9),
        "asDouble": tokens,
    }
    metric = {
        "name": "claude_code.token.usage",
        "unit": "tokens",
        "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [point]},
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": name}}]}
    return json.dumps(
        {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]}
    ).encode()


@pytest.mark.parametrize("case", CASES)
def test_what_a_recorded_agent_used_is_what_was_served(tmp_path: Path, case: str) -> None:
    """By real HTTP, packed or not; each request is answered once its verdict is there."""
    expected = expected_of(case)
    with receiving(tmp_path) as at:
        for number, (signal, body, kind) in enumerate(requests_of(case)):
            packed = {"content-encoding": "gzip"} if number % 2 else {}
            status, _ = at.push(signal, gzip.compress(body) if packed else body, kind, **packed)
            assert status == 200
        used = at.used(expected["session_id"])
    assert used["tokens"] == expected["tokens"]
    assert used["api_calls"] == expected["served"]["calls"]


@pytest.mark.parametrize("case", CASES)
def test_a_sidecar_killed_between_any_two_requests_forgets_and_doubles_nothing(
    tmp_path: Path, case: str
) -> None:
    """SIGKILL after an answer: what was answered is stored."""
    expected = expected_of(case)
    left = requests_of(case)
    while left:
        with receiving(tmp_path) as at:
            for signal, body, kind in left[:3]:
                assert at.push(signal, body, kind)[0] == 200
            at.process.kill()
        left = left[3:]
    with receiving(tmp_path) as at:
        used = at.used(expected["session_id"])
    assert used["tokens"] == expected["tokens"]
    assert used["api_calls"] == expected["served"]["calls"]


def test_a_request_that_is_sent_again_counts_once(tmp_path: Path) -> None:
    """As a client does that got no answer."""
    expected = expected_of(CASES[0])
    with receiving(tmp_path) as at:
        for signal, body, kind in requests_of(CASES[0]):
            for _ in range(3):
                assert at.push(signal, body, kind)[0] == 200
        assert at.used(expected["session_id"])["tokens"] == expected["tokens"]


def test_who_has_another_token_takes_over_no_run(tmp_path: Path) -> None:
    """It is refused, counted and logged; the owner goes on."""
    ours, theirs = "o" * 32, "t" * 32
    (tmp_path / "tokens").write_text(f"ours:{ours}\ntheirs:{theirs}\n")
    with receiving(tmp_path, "token_file: tokens") as at:
        assert at.push("metrics", points("job", 100))[0] == 401
        assert at.push("metrics", points("job", 100), authorization=f"Bearer {ours}")[0] == 200
        liar = {"authorization": f"Bearer {theirs}"}
        status, said = at.push("metrics", points("job", 10**6, name="b"), **liar)
        assert (status, b"refused: carried_elsewhere 1" in said) == (200, True)
        assert at.used("job")["tokens"] == 100
        again = at.push("metrics", points("job", 150), authorization=f"Bearer {ours}")
        assert again == (200, b"{}")
        assert at.used("job")["tokens"] == 150
        dropped = f'dropped_samples_total{{reason="{semconv.CARRIED_ELSEWHERE}"}} 1.0'
        assert dropped in at.process.metrics()
        assert "otlp://theirs also shows this run, which otlp://ours" in at.process.said()


def test_scraped_and_pushed_runs_are_judged_side_by_side(tmp_path: Path) -> None:
    """What is scraped vanishes when its target shows it no more; what was pushed does not."""
    with serve() as endpoint:
        endpoint.show(page(line(semconv.SESSION_TOKENS, 7, "scraped")))
        source = f'scrape: {{targets: ["{endpoint.url}"], interval: 200ms}}'
        with receiving(tmp_path, source=source) as at:
            assert at.push("metrics", points("pushed", 100))[0] == 200
            until(lambda: at.process.verdict("scraped"), at.process.process)
            assert (at.used("scraped")["tokens"], at.used("pushed")["tokens"]) == (7, 100)
            endpoint.show("")
            until(lambda: _state(at, "scraped") == semconv.VANISHED, at.process.process)
            assert _state(at, "pushed") != semconv.VANISHED


def _state(at: Receiving, session_id: str) -> str | None:
    verdict = at.process.verdict(session_id)
    return None if verdict is None else verdict.get("run_state")


def test_hostile_bodies_cost_their_sender_alone(tmp_path: Path) -> None:
    """Bombs, garbage, half requests: an honest pusher is served all the time."""
    chance = random.Random(20_261_129)
    bomb = gzip.compress(b" " * 200_000_000)
    with receiving(tmp_path) as at:
        over, slowest, statuses = threading.Event(), [0.0], set[int]()

        def harm() -> None:
            while not over.is_set():
                statuses.add(at.push("metrics", bomb, **{"content-encoding": "gzip"})[0])
                statuses.add(at.push("logs", chance.randbytes(5000), PROTOBUF)[0])
                statuses.add(at.push("metrics", b"[" * 1_000_000)[0])
                _send(at.port, _head("Transfer-Encoding: chunked") + b"zz\r\ngarbage")

        harming = threading.Thread(target=harm)
        harming.start()
        try:
            for number in range(1, 30):
                began = time.monotonic()
                assert at.push("metrics", points("honest", 100 * number))[0] == 200
                slowest[0] = max(slowest[0], time.monotonic() - began)
        finally:
            over.set()
            harming.join()
        assert statuses == {400, 413}
        assert at.used("honest")["tokens"] == 2900
        note(
            "One costs one",
            "gzip bombs, random bytes, nested JSON and broken chunks pushed without a pause",
            f"29 honest pushes beside them, the slowest taken after {slowest[0]:.2f} s",
        )


def _head(*headers: str) -> bytes:
    lines = ["POST /v1/metrics HTTP/1.1", "Host: localhost", f"Content-Type: {JSON}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def _send(port: int, data: bytes) -> bytes:
    with closing(socket.create_connection(("127.0.0.1", port), 10)) as connection:
        connection.sendall(data)
        connection.settimeout(5)
        try:
            return connection.recv(1000)
        except OSError:
            return b""


def test_a_thousand_connections_that_send_slowly_keep_nobody_out(tmp_path: Path) -> None:
    """Each has begun a body and never ends it; all are cut off after ``request_timeout``."""
    with receiving(tmp_path) as at:
        slow = []
        try:
            for _ in range(1000):
                one = socket.create_connection(("127.0.0.1", at.port), 10)
                one.sendall(_head("Content-Length: 1000") + b"{")
                slow.append(one)
            assert at.push("metrics", points("honest", 100))[0] == 200
            for one in (slow[0], slow[-1]):
                one.settimeout(60)
                assert one.recv(100) == b""
        finally:
            for one in slow:
                one.close()


def test_many_sessions_are_pushed_by_several_connections(tmp_path: Path) -> None:
    """A thousand runs, each pushed three times; the figures are in the notes."""
    runs, rounds = 1000, 3
    with receiving(tmp_path) as at:

        def push_some(worker: int) -> list[float]:
            took = []
            connection = http.client.HTTPConnection("127.0.0.1", at.port, timeout=60)
            for turn in range(1, rounds + 1):
                for number in range(worker, runs, 8):
                    began = time.monotonic()
                    connection.request(
                        "POST", "/v1/metrics", points(f"run-{number}", 10 * turn),
                        {"content-type": JSON},
                    )  # fmt: skip
                    answer = connection.getresponse()
                    answer.read()
                    assert answer.status == 200
                    took.append(time.monotonic() - began)
            connection.close()
            return took

        began = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            took = sorted(each for some in pool.map(push_some, range(8)) for each in some)
        seconds = time.monotonic() - began
        verdicts = all_verdicts(at)
    assert len(verdicts) == runs
    assert {verdict["resources"]["tokens"]["used"] for verdict in verdicts} == {30}
    note(
        "One costs one",
        f"{runs:,} runs pushed {rounds} times each by 8 connections",
        f"{len(took) / seconds:,.0f} pushes a second, judged and stored before each answer; half "
        f"within {took[len(took) // 2]:.3f} s, 99% within {took[-len(took) // 100]:.3f} s",
    )


def test_a_reload_rebinds_and_keeps_what_was_pushed(tmp_path: Path) -> None:
    """Another address, then another limit: nothing counts twice, nothing is lost."""
    with receiving(tmp_path) as at:
        assert at.push("metrics", points("job", 100))[0] == 200
        config, other = tmp_path / "sidecar.yaml", free_port()
        config.write_text(config.read_text().replace(f":{at.port}", f":{other}"))
        at.process.process.send_signal(1)
        until(lambda: f"receiving OTLP on http://127.0.0.1:{other}" in at.process.said(),
              at.process.process)  # fmt: skip
        before, at.port = at.port, other
        assert at.push("metrics", points("job", 120))[0] == 200
        config.write_text(config.read_text() + "\nresource_limits: {max_tokens: 110}\n")
        at.process.process.send_signal(1)
        until(lambda: _action(at, "job") == "stop", at.process.process)
        assert at.push("metrics", points("job", 130))[0] == 200
        assert at.used("job")["tokens"] == 130
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", before), 2)


def _action(at: Receiving, session_id: str) -> str | None:
    verdict = at.process.verdict(session_id)
    return None if verdict is None else str(verdict["action"])


def all_verdicts(at: Receiving) -> list[dict[str, Any]]:
    """Return all verdicts, page by page."""
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        more = f"&cursor={cursor}" if cursor else ""
        answer = json.loads(at.process.get(f"/v1/verdicts?limit=1000{more}"))
        found, cursor = [*found, *answer["verdicts"]], answer["next_cursor"]
    return found


def test_a_run_that_is_one_too_many_in_the_ledger_is_told_so(tmp_path: Path) -> None:
    """Here the idle ones have made room for it already."""
    with receiving(tmp_path, "session_limit: 100", "idle: 1s") as at:
        for number in range(100):
            assert at.push("metrics", points(f"run-{number}", 1)) == (200, b"{}")
        time.sleep(1.2)
        said = at.push("metrics", points("one-more", 1))
        assert at.process.verdict("one-more") is None
        assert said[0] == 200
        assert b"refused: session_limit 1" in said[1]
