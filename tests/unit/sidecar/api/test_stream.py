"""``/v1/stream``: its headers, what it sends, and when it ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette.types import Message

from otel_budget.sidecar.api.broadcaster import VerdictBroadcaster
from tests.support.api import assert_problem
from tests.support.sidecar_fixtures import events, verdict


def test_a_last_event_id_that_is_no_number_is_refused(client: TestClient) -> None:
    answer = client.get("/v1/stream", headers={"Last-Event-ID": "abc"})
    assert "Last-Event-ID" in assert_problem(answer, 400)["detail"]


def test_the_stream_has_the_headers_that_keep_it_flowing(client: TestClient) -> None:
    answer = client.head("/v1/stream")
    assert answer.headers["content-type"].partition(";")[0] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"


def test_the_stream_sends_what_is_current_and_ends_when_the_broadcaster_closes(
    client: TestClient, broadcaster: VerdictBroadcaster
) -> None:
    broadcaster.close()
    answer = client.get("/v1/stream", headers={"Last-Event-ID": "1"})
    assert [v["sequence"] for v in events([answer.content])] == [2, 3]
    assert "id: 3\nevent: verdict\n" in answer.text


def test_the_stream_carries_changes_and_forgets_a_reader_who_left(
    app: Starlette, broadcaster: VerdictBroadcaster
) -> None:
    async def follow() -> None:
        async with streaming(app, b"session_id=a") as sent:
            await sent.get()  # the headers
            assert [v["sequence"] for v in events([(await sent.get())["body"]])] == [1]
            assert broadcaster.subscribers == 1
            broadcaster.publish([verdict("a", 9)])
            assert [v["sequence"] for v in events([(await sent.get())["body"]])] == [9]

    asyncio.run(asyncio.wait_for(follow(), 10))
    assert broadcaster.subscribers == 0


@asynccontextmanager
async def streaming(app: Starlette, query: bytes) -> AsyncIterator[asyncio.Queue[Message]]:
    """Open a stream as a server would; yield what the application sends, then hang up."""
    sent: asyncio.Queue[Message] = asyncio.Queue()
    gone = asyncio.Event()

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "method": "GET", "path": "/v1/stream", "raw_path": b"/v1/stream", "root_path": "",
        "query_string": query, "headers": [], "scheme": "http",
    }  # fmt: skip
    task = asyncio.create_task(app(scope, receive, sent.put))
    yield sent
    gone.set()
    await task
