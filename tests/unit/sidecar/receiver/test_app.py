"""What the receiver answers, and when: over a source that does as a test wants."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from starlette.testclient import TestClient

from otel_budget import semconv
from otel_budget.sidecar.api.auth import local_names
from otel_budget.sidecar.receiver import app as app_module
from otel_budget.sidecar.receiver.app import ReceiverApp
from otel_budget.sidecar.receiver.push_tokens import PushTokens
from otel_budget.sources.decompression import Gzip, Plain
from otel_budget.sources.otlp.messages import OtlpError
from otel_budget.sources.otlp.pushed_runs import Taken
from otel_budget.sources.otlp.source import OtlpSource, TooLargeError

MOST = 10_000
JSON = {"content-type": "application/json"}
PROTOBUF = {"content-type": "application/x-protobuf"}
TOKEN = "t" * 32


class FakeSource:
    """A source that keeps what it is given."""

    def __init__(self) -> None:
        """Have taken nothing."""
        self.taken: list[tuple[str, bytes, str, str]] = []
        self.answer: Taken | Exception = Taken(("run-1",), 3)

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Do nothing."""
        yield

    async def take(
        self, signal: str, body: bytes, packed: Plain | Gzip, content_type: str, peer: str
    ) -> Taken:
        """Unpack it, keep it, and answer as the test wants."""
        whole = b"".join(packed.feed(body))
        packed.finish()
        if len(whole) > MOST:
            raise TooLargeError("the body unpacks to more than it may")
        self.taken.append((signal, whole, content_type, peer))
        if isinstance(self.answer, Exception):
            raise type(self.answer)(*self.answer.args)  # a new one: its traceback is its own
        return self.answer


class Scene:
    """A receiver with a fake source, and what it noted."""

    def __init__(self, tokens: PushTokens | None = None) -> None:
        """tokens: who may push; everybody by default."""
        self.source, self.noted = FakeSource(), list[tuple[str, str, int, int]]()
        self.refused: list[str] = []
        self.stored, self.hangs = True, False
        self.not_theirs: dict[str, str] = {}
        self.app = ReceiverApp(
            cast("OtlpSource", self.source),
            self.judge,
            tokens or PushTokens(None),
            most=MOST,
            notes=self,
            refused=lambda _peer, runs: Counter(
                self.not_theirs[run] for run in runs if run in self.not_theirs
            ),
            only_hosts=local_names(),
            on_refused=lambda reason, _client: self.refused.append(reason),
        )
        self.client = TestClient(self.app, base_url="http://127.0.0.1")

    async def judge(self) -> bool:
        """Judge, or hang."""
        if self.hangs:
            await asyncio.Event().wait()
        return self.stored

    def note_push(self, signal: str, outcome: str, items: int = 0, rejected: int = 0) -> None:
        """Keep the note."""
        self.noted.append((signal, outcome, items, rejected))

    def push(self, path: str = "/v1/metrics", body: bytes = b"{}", **headers: str) -> Any:
        """Push a body, as JSON if no header says otherwise."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(path, content=body, headers={**JSON, **given})


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_what_is_taken_is_answered_in_the_encoding_it_came_in(scene: Scene) -> None:
    """With an empty message, of whatever encoding."""
    answer = scene.push()
    assert (answer.status_code, answer.json()) == (200, {})
    assert answer.headers["content-type"] == "application/json"
    answer = scene.push("/v1/logs", b"", content_type="application/x-protobuf")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert [signal for signal, *_ in scene.source.taken] == ["metrics", "logs"]
    assert scene.noted == [("metrics", "taken", 3, 0), ("logs", "taken", 3, 0)]


def test_what_was_refused_is_never_answered_with_nothing(scene: Scene) -> None:
    """In either encoding the number and the reasons are there."""
    scene.source.answer = Taken(("run-1",), 1, {semconv.IMPLAUSIBLE: 2, semconv.SESSION_LIMIT: 5})
    words = "refused: implausible 2, session_limit 5"
    assert scene.push().json() == {
        "partialSuccess": {"rejectedDataPoints": "7", "errorMessage": words}
    }
    assert scene.push("/v1/logs").json()["partialSuccess"]["rejectedLogRecords"] == "7"
    answer = scene.push(content_type="application/x-protobuf")
    metrics = ExportMetricsServiceResponse.FromString(answer.content).partial_success
    assert (metrics.rejected_data_points, metrics.error_message) == (7, words)
    answer = scene.push("/v1/logs", content_type="application/x-protobuf")
    logs = ExportLogsServiceResponse.FromString(answer.content).partial_success
    assert (logs.rejected_log_records, logs.error_message) == (7, words)
    assert scene.noted[0] == ("metrics", "taken", 1, 7)


def test_what_the_ledger_refused_is_said_too(scene: Scene) -> None:
    """Who pushes another one's run is not told that all is well."""
    scene.not_theirs = {"run-1": semconv.CARRIED_ELSEWHERE}
    refused = {"rejectedDataPoints": "1", "errorMessage": "refused: carried_elsewhere 1"}
    assert scene.push().json() == {"partialSuccess": refused}
    scene.source.answer = Taken(("run-1", "run-2"), 3)
    assert scene.push().json() == {"partialSuccess": refused}
    assert scene.noted == [("metrics", "taken", 0, 1), ("metrics", "taken", 3, 1)]


def test_traces_are_taken_and_dropped_unread(scene: Scene) -> None:
    """Whatever is in them."""
    assert scene.push("/v1/traces", b"\xff\x00 no trace").json() == {}
    assert not scene.source.taken
    assert scene.noted == [("traces", "ignored", 0, 0)]


def test_a_packed_body_is_unpacked(scene: Scene) -> None:
    """And ``identity`` is no packing."""
    body = b'{"resourceMetrics": []}'
    assert scene.push(body=gzip.compress(body), content_encoding="gzip").status_code == 200
    assert scene.push(body=body, content_encoding="identity").status_code == 200
    assert [taken[1] for taken in scene.source.taken] == [body, body]


def test_a_chunked_body_is_taken(scene: Scene) -> None:
    """Without a Content-Length."""

    def pieces() -> Iterator[bytes]:
        yield b'{"resource'
        yield b'Metrics": []}'

    answer = scene.client.post("/v1/metrics", content=pieces(), headers=JSON)
    assert answer.status_code == 200
    assert scene.source.taken[0][1] == b'{"resourceMetrics": []}'


@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        ("/", {}, b"{}", 404),
        ("/v1/development/profiles", {}, b"{}", 404),
        ("/v1/metrics", {"content_type": "text/plain"}, b"{}", 415),
        ("/v1/metrics", {"content_encoding": "br"}, b"{}", 415),
        ("/v1/metrics", {}, b" " * (MOST + 1), 413),
        ("/v1/metrics", {"content_encoding": "gzip"}, gzip.compress(b" " * 10**6, mtime=0), 413),
        ("/v1/metrics", {"content_encoding": "gzip"}, b"no gzip", 400),
        ("/v1/metrics", {"content_encoding": "gzip"}, gzip.compress(b"{}", mtime=0)[:-3], 400),
        ("/v1/metrics", {"host": "evil.example"}, b"{}", 421),
        ("/v1/metrics", {"x-long": "x" * 20_000}, b"{}", 431),
    ],
)
def test_what_cannot_be_taken_says_why(
    scene: Scene, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    """In a ``Status`` of the encoding, without anything that was sent."""
    answer = scene.push(path, body, **headers)
    assert answer.status_code == status
    assert answer.json().keys() == {"code", "message"}
    assert not scene.source.taken


def test_an_error_in_protobuf_is_a_status(scene: Scene) -> None:
    """google.rpc.Status: field 1 the code, field 2 the message."""
    scene.source.answer = OtlpError("the body is not the protobuf message it should be")
    answer = scene.push(content_type="application/x-protobuf")
    words = b"the body is not the protobuf message it should be"
    assert answer.status_code == HTTPStatus.BAD_REQUEST
    assert answer.content == b"\x08\x03\x12" + bytes([len(words)]) + words
    assert scene.noted == [("metrics", "refused", 0, 0)]


def test_only_post_is_taken(scene: Scene) -> None:
    """Also of a browser that asks whether it may."""
    for method in ("GET", "PUT", "OPTIONS"):
        answer = scene.client.request(method, "/v1/metrics", headers=JSON)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert "access-control-allow-origin" not in answer.headers


def test_who_has_no_token_pushes_nothing(tmp_path: Path) -> None:
    """And is told how to send one."""
    (tmp_path / "tokens").write_text(f"ci:{TOKEN}\nlaptop:{'l' * 32}")
    scene = Scene(PushTokens(tmp_path / "tokens"))
    for given in ("", "Bearer wrong"):
        answer = scene.push(authorization=given)
        assert answer.status_code == HTTPStatus.UNAUTHORIZED
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert (scene.refused, scene.source.taken) == (["token", "token"], [])
    assert scene.push(authorization=f"Bearer {TOKEN}").status_code == HTTPStatus.OK
    assert scene.source.taken[0][3] == "ci"


def test_what_is_not_stored_is_to_be_sent_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the storage refuses or it takes too long."""
    scene.stored = False
    answer = scene.push()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    scene.hangs = True
    monkeypatch.setattr(app_module, "JUDGED_WITHIN", 0.01)
    assert scene.push().status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert {outcome for _, outcome, _, _ in scene.noted} == {"unstored"}


def test_a_defect_is_answered_and_its_traceback_logged_once(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """Who pushes again and again does not fill the log."""
    scene.source.answer = ZeroDivisionError("a bug")
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            assert scene.push().status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    assert len(caplog.records) == 1


def test_bodies_are_bounded_together(scene: Scene) -> None:
    """Past the bound a client is told to come again; what is over gives its place back."""

    async def ask(body: bytes, hold: asyncio.Event) -> int:
        statuses: list[int] = []
        sent = False

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if sent:
                await hold.wait()
                return {"type": "http.request", "body": b"", "more_body": False}
            sent = True
            return {"type": "http.request", "body": body, "more_body": True}

        async def send(message: Any) -> None:
            statuses.append(message.get("status", 0))

        scope = {
            "type": "http", "method": "POST", "path": "/v1/metrics", "raw_path": b"/v1/metrics",
            "query_string": b"", "client": ("127.0.0.1", 1),
            "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")],
        }  # fmt: skip
        await scene.app(scope, receive, send)
        return statuses[0]

    async def scene_of_many() -> None:
        hold = asyncio.Event()
        slow = [asyncio.create_task(ask(b" " * MOST, hold)) for _ in range(8)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert await ask(b" ", hold) == HTTPStatus.SERVICE_UNAVAILABLE
        hold.set()
        assert await asyncio.gather(*slow) == [200] * 8
        assert await ask(b" " * MOST, hold) == HTTPStatus.OK

    asyncio.run(scene_of_many())
    assert ("metrics", "busy", 0, 0) in scene.noted


def test_the_answer_never_quotes_what_was_sent(scene: Scene) -> None:
    """Not in a refusal, either."""
    sent = "a-prompt-that-is-nobodys-business"
    for path in ("/v1/metrics", f"/{sent}"):
        answer = scene.push(path, json.dumps({sent: sent}).encode(), content_type=sent)
        assert sent not in answer.text
