"""Following the sidecar: its stream, a GET while there is none, and whatever else it answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from queue import Queue

import pytest

from otel_budget import Verdict
from otel_budget.core import sse, verdict_json
from otel_budget.sdk.sidecar_client.client import VerdictClient
from otel_budget.sdk.sidecar_client.lease import DEFAULT_LEASE, LISTEN, Lease
from otel_budget.testing import FakeClock, stop_verdict
from tests.support.scripted_sidecar import Answer, Request, scripted

STOP = stop_verdict("mine", message="one", sequence=1)


class Heard:
    """What a client handed on, in its order: messages of verdicts, and True or False."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.queue: Queue[str | bool] = Queue()

    def next(self) -> str | bool:
        """Return the next thing, once it is there."""
        return self.queue.get(timeout=20)

    def verdict(self, verdict: Verdict) -> None:
        """Note a verdict."""
        self.queue.put(verdict.message)

    def reachable(self, reachable: bool) -> None:  # noqa: FBT001 - the callback's signature
        """Note a change."""
        self.queue.put(reachable)


def ended(client: VerdictClient) -> None:
    """See the thread end."""
    assert client._link is not None
    client._link.join(20)
    assert not client._link.is_alive()


@contextmanager
def following(url: str, session_id: str = "mine") -> Iterator[Heard]:
    """Follow until the block ends, and see the thread end."""
    heard = Heard()
    client = VerdictClient(url, session_id, on_verdict=heard.verdict, on_reachable=heard.reachable)
    client.start()
    try:
        yield heard
    finally:
        client.stop()
        ended(client)


def only_get(answer: Answer) -> Answer:
    """Return a script without a stream."""
    return lambda asked: asked.say(404, "") if "/stream" in asked.path else answer(asked)


def frames(*verdicts: Verdict) -> list[str]:
    """Return what a stream sends for these."""
    return [sse.verdict_frame(verdict) for verdict in verdicts]


def test_verdicts_arrive_by_the_stream_as_they_are_made() -> None:
    """In pieces, between comments and events of kinds that come later; for this session."""
    paths: list[str] = []

    def script(asked: Request) -> None:
        paths.append(asked.path)
        first, second = frames(STOP, replace(STOP, message="two", sequence=2))
        asked.stream(sse.KEEP_ALIVE, first[:40], first[40:], "event: news\ndata: x\n\n", second,
                     stay=True)  # fmt: skip

    with scripted(script) as server, following(f"{server.url}/under/") as heard:
        assert [heard.next() for _ in range(3)] == [True, "one", "two"]
        assert heard.queue.empty()
    assert paths == ["/under/v1/stream?session_id=mine"]


def test_a_stream_that_ends_is_opened_again() -> None:
    """The sidecar was restarted; it was there all the time as far as anybody noticed."""
    numbers = iter(range(100))

    def script(asked: Request) -> None:
        asked.stream(*frames(replace(STOP, message=f"{next(numbers)}")), stay=False)

    with scripted(script) as server, following(server.url) as heard:
        assert [heard.next() for _ in range(4)] == [True, "0", "1", "2"]


def test_while_there_is_no_stream_a_get_is_made() -> None:
    """Three times in a lease; the stream is tried again, too."""
    paths: list[str] = []

    def script(asked: Request) -> None:
        paths.append(asked.path.partition("?")[0])
        if "/stream" in asked.path:
            asked.say(503, "")
        else:
            verdict = replace(STOP, message=f"{paths.count(asked.path)}", lease_seconds=1.0)
            asked.say(200, verdict_json.to_json(verdict))

    with scripted(script) as server, following(server.url) as heard:
        before = time.monotonic()
        assert [heard.next() for _ in range(4)] == ["1", True, "2", "3"]
        assert 0.5 < time.monotonic() - before < 5
    assert paths[:2] == ["/v1/stream", "/v1/verdicts/mine"]
    assert paths.count("/v1/stream") > 1


@pytest.mark.parametrize("status", [404, 503])
def test_a_session_the_sidecar_has_not_seen_yet_is_no_loss_of_the_sidecar(status: int) -> None:
    """A problem in the sidecar's own format is an answer: it is there."""
    with (
        scripted(only_get(lambda asked: asked.say(status, "{}"))) as server,
        following(server.url) as heard,
    ):
        assert heard.next() is True
        time.sleep(0.3)  # for further tries, that change nothing
        assert heard.queue.empty()


@pytest.mark.parametrize(
    "answer",
    [
        lambda asked: asked.say(503, "busy", "text/plain"),
        lambda asked: asked.say(404, "<html>no such page</html>", "text/html"),
        lambda asked: asked.say(500, "broken"),
        lambda asked: asked.say(200, "<html>", "text/html"),
        lambda asked: asked.say(200, "[" * 100_000),
        lambda asked: asked.say(200, '{"version": 2}'),
        lambda asked: asked.say(200, '{"version": 1}'),
        lambda asked: asked.say(200, verdict_json.to_json(replace(STOP, session_id="other"))),
        lambda asked: asked.wfile.write(b"no http at all\r\n\r\n"),
        lambda asked: asked.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort"),
        lambda _asked: None,
    ],
    ids=["503", "another server", "500", "html", "too deep", "newer", "incomplete",
         "another session", "no http", "cut off", "hangs up"],
)  # fmt: skip
def test_any_other_answer_counts_as_none_and_is_told_once(answer: Answer) -> None:
    """No verdict comes of it; when it gets better, that is told once, too."""
    well = threading.Event()

    def script(asked: Request) -> None:
        if well.is_set() and "/stream" in asked.path:
            asked.stream(*frames(STOP), stay=True)
        elif "/stream" in asked.path:
            asked.say(404, "")
        else:
            answer(asked)

    with scripted(script) as server, following(server.url) as heard:
        assert heard.next() is False
        time.sleep(0.3)  # for further tries, that change nothing
        assert heard.queue.empty()
        well.set()
        assert [heard.next() for _ in range(2)] == [True, "one"]


@pytest.mark.parametrize(
    "rubbish",
    ["event: verdict\ndata: {\n\n", "event: verdict\ndata: []\n\n", "\0\xff\n\n",
     "event: verdict\ndata: " + "x" * 2_000_000 + "\n\n",
     frames(replace(STOP, session_id="other"))[0]],
    ids=["half", "no object", "bytes", "two megabytes", "another session"],
)  # fmt: skip
def test_a_stream_with_rubbish_in_it_is_opened_again(rubbish: str) -> None:
    """What was heard before it was heard."""
    opened = iter(range(100))

    def script(asked: Request) -> None:
        if "/stream" not in asked.path:
            asked.say(404, "")
        elif next(opened) == 0:
            asked.stream(*frames(STOP), rubbish, stay=False)
        else:
            asked.stream(*frames(replace(STOP, message="two")), stay=True)

    with scripted(script) as server, following(server.url) as heard:
        assert [heard.next() for _ in range(3)] == [True, "one", "two"]


def test_nobody_listens_there() -> None:
    """Told once; the client goes on trying, and can be stopped."""
    with scripted(lambda _asked: None) as server:
        url = server.url
    with following(url) as heard:
        assert heard.next() is False


def test_a_failure_of_who_is_told_does_not_end_the_following() -> None:
    """The stream goes on, whatever is raised: without it no run would ever hear a stop."""
    told = Queue[str]()

    def fail(verdict: Verdict) -> None:
        told.put(verdict.message)
        raise SystemExit("in the reader")

    def script(asked: Request) -> None:
        if "/stream" in asked.path:
            asked.stream(*frames(STOP, replace(STOP, message="two", sequence=2)), stay=True)

    with scripted(script) as server:
        client = VerdictClient(server.url, "mine", on_verdict=fail, on_reachable=lambda _: None)
        client.start()
        assert [told.get(timeout=20) for _ in range(2)] == ["one", "two"]
        client.stop()
        ended(client)


def test_stopping_hangs_up_at_once_and_hands_nothing_on() -> None:
    """Though the stream is silent and stays open."""
    with (
        scripted(lambda asked: asked.stream(*frames(STOP), stay=True)) as server,
        following(server.url) as heard,
    ):
        assert [heard.next(), heard.next()] == [True, "one"]
        before = time.monotonic()
    assert time.monotonic() - before < 5
    assert heard.queue.empty()


# --- the lease -----------------------------------------------------------------------------------
def test_a_verdict_is_believed_for_its_lease_and_not_a_moment_longer(clock: FakeClock) -> None:
    """Counted from its receipt on the reader's own clock."""
    lease = Lease(clock.clock)
    clock.jump(1e9)
    lease.renew(replace(STOP, lease_seconds=10))
    clock.advance(9.999)
    assert lease.current() is not None
    clock.advance(0.001)
    assert lease.current() is None


@pytest.mark.parametrize(("said", "seconds"), [(None, DEFAULT_LEASE), (0.0, 0.0), (3.5, 3.5)])
def test_a_lease_is_as_long_as_the_verdict_says(
    said: float | None, seconds: float, clock: FakeClock
) -> None:
    """None at all is not believed; one that says nothing has the default."""
    lease = Lease(clock.clock)
    lease.renew(replace(STOP, lease_seconds=said))
    assert lease.left() == (seconds or LISTEN)
    assert (lease.current() is None) is (seconds == 0)


def test_the_first_verdict_has_time_from_when_it_is_asked_for(clock: FakeClock) -> None:
    """Not from when the monitor was made; and only the first."""
    lease = Lease(clock.clock)
    clock.advance(100)
    lease.wait_from_now()
    assert lease.left() == DEFAULT_LEASE
    lease.renew(replace(STOP, lease_seconds=1))
    lease.wait_from_now()
    assert lease.left() == 1


@pytest.mark.parametrize(
    ("sequence", "evaluated_at", "taken"),
    [
        (6, 11.0, True),
        (5, 10.0, True),
        (4, 11.0, True),
        (6, 9.0, True),
        (4, 9.0, False),
        (None, 9.0, True),
    ],
    ids=["newer", "said again", "restarted", "clock put back", "overtaken", "no sequence"],
)
def test_an_older_verdict_that_arrives_late_replaces_no_newer_one(
    sequence: int | None, evaluated_at: float, taken: object, clock: FakeClock
) -> None:
    """Older by sequence and by time: either alone may have begun anew."""
    lease = Lease(clock.clock)
    lease.renew(replace(STOP, sequence=5, evaluated_at=10.0))
    late = replace(STOP, sequence=sequence, evaluated_at=evaluated_at, message="late")
    assert lease.renew(late) is taken
    current = lease.current()
    assert current is not None
    assert (current.message == "late") is taken
