"""Who shares a connection to a sidecar, and who has one of their own."""

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from queue import Queue

import pytest

from otel_budget import Verdict
from otel_budget.core import sse
from otel_budget.sdk.sidecar_client.address import ENV_TOKEN_FILE
from otel_budget.sdk.sidecar_client.client import VerdictClient
from otel_budget.testing import stop_verdict
from tests.support.scripted_sidecar import Request, scripted


def client(url: str, name: str, heard: Callable[[str], object]) -> VerdictClient:
    """Return a client that is not started."""

    def hear(verdict: Verdict) -> None:
        heard(verdict.message)

    return VerdictClient(url, name, on_verdict=hear, on_reachable=lambda _: None)


def says(asked: Request) -> None:
    """Stream a verdict on whatever run is asked for."""
    name = asked.path.partition("session_id=")[2]
    if name and "/stream" in asked.path:
        asked.stream(sse.verdict_frame(stop_verdict(name, message=name)), stay=True)
    else:
        asked.say(503, "{}")


def test_each_sidecar_and_each_token_has_a_connection_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Queue[str]()
    monkeypatch.delenv(ENV_TOKEN_FILE, raising=False)
    (tmp_path / "token").write_text("t" * 32)
    with scripted(says) as one, scripted(says) as other, ExitStack() as stack:
        clients = [client(one.url, "a", heard.put), client(other.url, "b", heard.put)]
        monkeypatch.setenv(ENV_TOKEN_FILE, str(tmp_path / "token"))
        clients.append(client(one.url, "c", heard.put))
        for made in clients:
            stack.callback(made.stop)
            made.start()
        assert sorted(heard.get(timeout=20) for _ in clients) == ["a", "b", "c"]
        assert len({made._link for made in clients}) == 3


def test_two_monitors_of_one_id_hear_each_verdict_and_end_apart() -> None:
    heard = Queue[str]()
    with scripted(says) as server:
        first = client(server.url, "a", lambda _: heard.put("first"))
        second = client(server.url, "a", lambda _: heard.put("second"))
        first.start()
        second.start()
        assert heard.get(timeout=20) in ("first", "second")
        assert first._link is second._link
        first.stop()
        first.stop()
        assert second._link is not None
        assert second._link.is_alive()
        second.stop()
        second._link.join(20)
        assert not second._link.is_alive()


def test_a_client_that_was_stopped_before_it_began_follows_nothing() -> None:
    made = client("http://127.0.0.1:9", "a", lambda _: None)
    made.stop()
    made.start()
    assert (made._link, made.problem) == (None, "")


def test_a_forked_child_follows_by_itself_and_leaves_the_parents_stream_alone() -> None:
    heard = Queue[str]()
    with scripted(says) as server:
        parent = client(server.url, "a", heard.put)
        parent.start()
        assert heard.get(timeout=20) == "a"
        reads, writes = os.pipe()
        pid = os.fork()
        if pid == 0:
            told = threading.Event()
            child = client(server.url, "b", lambda _: told.set())
            child.start()
            os.write(writes, b"1" if told.wait(20) and child._link is not parent._link else b"0")
            os._exit(0)
        os.waitpid(pid, 0)
        assert os.read(reads, 1) == b"1"
        assert parent._link is not None
        assert parent._link.is_alive()
        parent.stop()
        parent._link.join(20)
        for end in (reads, writes):
            os.close(end)
