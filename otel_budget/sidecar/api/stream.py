"""``/v1/stream``: verdicts as they are made, on all runs or on some, which may change meanwhile.

A process with many runs follows all of them over one stream. With ``POST /v1/stream/{stream_id}``
it adds runs that start later and removes those that end; the id, which cannot be guessed, comes in
a header of the stream. What one address may follow is bounded over all its streams.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from otel_budget.core import sse, validation
from otel_budget.errors import InvalidValueError
from otel_budget.sidecar.api import request_body
from otel_budget.sidecar.api.connection_limits import client_of
from otel_budget.sidecar.api.models import ABSENT, Body, RequestObject, SessionId, SessionIds
from otel_budget.sidecar.api.problem import problem_answer
from otel_budget.sidecar.api.rendered import NO_STORE, json_response
from otel_budget.sidecar.api.route import Answer, Operation, Parameter, RequestBody, Tag
from otel_budget.sidecar.api.verdict_body import SESSION_ID, VERDICT_EXAMPLE

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from otel_budget.sidecar.api.broadcaster import Subscription, VerdictBroadcaster
    from otel_budget.sidecar.api.connection_limits import ClientLimits

#: Runs that may be followed from one address, over all of its streams.
MAX_FOLLOWED: Final = 100_000
_RETRY_AFTER: Final = {"Retry-After": "10"}
_DIGITS: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_HEADERS: Final = {
    **NO_STORE,
    "X-Accel-Buffering": "no",  # nginx would otherwise hold verdicts back until a buffer is full
}
_MEDIA_TYPE: Final = "text/event-stream"
_TOO_MANY_STREAMS: Final = "{} already has {:,} open streams: close some, or ask by GET"
_NO_STREAM: Final = "no stream with this id is open: open a new one"
_TOO_MANY_RUNS: Final = "more than {:,} runs are followed from {}: ask by GET"


class FollowRequest(RequestObject):
    """Runs to add to a stream, and runs to remove from it."""

    add: list[SessionId] = ABSENT
    remove: list[SessionId] = ABSENT


class FollowedBody(Body):
    """What a stream cannot carry yet."""

    unknown: list[SessionId]
    """Added runs that have no verdict yet."""


class Streams:
    """Opens streams, and changes which runs they are about."""

    def __init__(self, broadcaster: VerdictBroadcaster, limits: ClientLimits) -> None:
        """Take the parts."""
        self._broadcaster, self._limits = broadcaster, limits
        self._open: dict[str, _Following] = {}
        self._followed: Counter[str] = Counter()
        """Number of runs by the address they are followed from."""

    @Operation(
        path="/v1/stream",
        id="streamVerdicts",
        tag=Tag.VERDICTS,
        summary="Verdicts as they change, as Server-Sent Events",
        description="Resumes from Last-Event-ID. One stream can carry all runs.",
        parameters=(
            Parameter("session_id", "Only these runs.", SessionIds, [SESSION_ID]),
            Parameter(
                "Last-Event-ID",
                "Start with verdicts newer than this sequence only.",
                Annotated[int, Field(ge=0)],
                42,
                "header",
            ),
        ),
        answers=(
            Answer(
                200,
                "Each event is `event: verdict`, with the sequence as its `id:` and a Verdict on "
                "one line as its `data:`. Current verdicts come at once, changes as they happen, "
                "and each verdict again every third of its lease with the same sequence. Comments "
                "keep a quiet stream open.",
                str,
                sse.frame(
                    sse.EVENT_VERDICT, json.dumps(VERDICT_EXAMPLE), VERDICT_EXAMPLE["sequence"]
                ),
                _MEDIA_TYPE,
                {
                    sse.STREAM_HEADER: {
                        "schema": {"type": "string"},
                        "description": "The id of a stream that was opened for some runs only.",
                    }
                },
            ),
            problem_answer(
                429,
                "Too many streams are open from this address.",
                _TOO_MANY_STREAMS.format("127.0.0.1", 1000),
                retry_after=True,
            ),
        ),
    )
    async def stream(self, request: Request) -> Response:
        """Open a stream."""
        wanted = [validation.session_id(one) for one in request.query_params.getlist("session_id")]
        last = request.headers.get("last-event-id")
        after = None if not last else _sequence(last)
        if request.method == "HEAD":
            return Response(headers=_HEADERS, media_type=_MEDIA_TYPE)
        client = client_of(request)
        self._check_followed(client, len(wanted))
        if not self._limits.open_stream(client):
            detail = _TOO_MANY_STREAMS.format(client, self._limits.streams_per_client)
            raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, detail, _RETRY_AFTER)
        return _EventStream(self, self._broadcaster, wanted, after, client)

    @Operation(
        method="POST",
        path="/v1/stream/{stream_id}",
        id="followOthers",
        tag=Tag.VERDICTS,
        summary="Add runs to an open stream that was opened for some runs, or remove them",
        description=f"The id of the stream is in its response header {sse.STREAM_HEADER}.",
        parameters=(
            Parameter(
                "stream_id",
                "The stream's id.",
                str,
                "1dF3kqJ0Qm6s0bYw5Zx2Tg",
                "path",
                required=True,
            ),
        ),
        body=RequestBody(FollowRequest, {"add": [SESSION_ID], "remove": []}),
        answers=(
            Answer(200, "The stream now follows these runs.", FollowedBody, {"unknown": []}),
            problem_answer(404, "No stream with this id is open.", _NO_STREAM),
            problem_answer(
                429,
                "Too many runs are followed from this address.",
                _TOO_MANY_RUNS.format(MAX_FOLLOWED, "127.0.0.1"),
                retry_after=True,
            ),
        ),
    )
    async def change(self, request: Request) -> Response:
        """Add runs to an open stream and remove others; answer which have no verdict yet."""
        add, remove = _runs_in(await request_body.json_of(request, self._limits.request_body))
        following = self._open.get(request.path_params["stream_id"])
        if following is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, _NO_STREAM)
        self._check_followed(following.client, len(add) - len(remove))
        before = following.subscription.follows
        unknown = self._broadcaster.follow(following.subscription, add)
        self._broadcaster.unfollow(following.subscription, remove)
        self._followed[following.client] += following.subscription.follows - before
        return json_response(json.dumps({"unknown": unknown}))

    def opened(self, subscription: Subscription, client: str) -> str:
        """Register a stream on some runs; return its id."""
        stream_id = secrets.token_urlsafe(16)
        self._open[stream_id] = _Following(subscription, client)
        self._followed[client] += subscription.follows
        return stream_id

    def closed(self, stream_id: str | None, client: str) -> None:
        """Forget a stream that ended. stream_id: None for one on all runs."""
        self._limits.close_stream(client)
        following = None if stream_id is None else self._open.pop(stream_id, None)
        if following is not None:
            self._followed[client] -= following.subscription.follows
            if self._followed[client] <= 0:
                del self._followed[client]

    def _check_followed(self, client: str, more: int) -> None:
        if self._followed[client] + more > MAX_FOLLOWED:
            self._limits.on_refused("streams", client)
            detail = _TOO_MANY_RUNS.format(MAX_FOLLOWED, client)
            raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, detail, _RETRY_AFTER)


class _Following:
    """An open stream on some runs."""

    __slots__ = ("client", "subscription")

    def __init__(self, subscription: Subscription, client: str) -> None:
        self.subscription, self.client = subscription, client


class _EventStream(StreamingResponse):
    """Server-Sent Events for one subscriber, unsubscribed when the response ends."""

    media_type = _MEDIA_TYPE

    def __init__(
        self,
        streams: Streams,
        broadcaster: VerdictBroadcaster,
        wanted: list[str],
        after: int | None,
        client: str,
    ) -> None:
        self._streams, self._broadcaster, self._client = streams, broadcaster, client
        self._wanted, self._after = wanted, after
        super().__init__((), headers=_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._broadcaster.subscribe(*self._wanted, after=self._after) as subscription:
            stream_id = None
            if self._wanted:
                stream_id = self._streams.opened(subscription, self._client)
                self.headers[sse.STREAM_HEADER] = stream_id
            self.body_iterator = subscription.frames()
            try:
                await super().__call__(scope, receive, send)
            except asyncio.CancelledError:
                # At shutdown the server cuts off readers that do not read; that is no defect.
                if not self._broadcaster.closed:
                    raise
            finally:
                self._streams.closed(stream_id, self._client)


def _sequence(text: str) -> int:
    if _DIGITS.fullmatch(text) is None:
        raise InvalidValueError("Last-Event-ID", text, f"a whole number from 0 to {10**18}")
    return int(text)


def _runs_in(data: object) -> tuple[list[str], list[str]]:
    """Return the runs to add and the runs to remove. Raises InvalidValueError."""
    allowed = '{"add": [session ids], "remove": [session ids]}'
    if not isinstance(data, dict) or not data.keys() <= {"add", "remove"}:
        raise InvalidValueError("body", data, allowed)
    lists = [data.get(key, []) for key in ("add", "remove")]
    if not all(isinstance(one, list) for one in lists):
        raise InvalidValueError("body", data, allowed)
    add, remove = ([validation.session_id(run) for run in one] for one in lists)
    return add, remove
