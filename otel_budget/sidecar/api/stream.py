"""``/v1/stream``: verdicts as they are made, on all runs or on some; which, may change meanwhile.

A process with many runs follows all of them over one stream. The runs that it begins later, and
those that end, it says with ``POST /v1/stream/{stream_id}``; the id, which cannot be guessed, comes
in a header of the stream. What one address may follow is bounded for all of its streams together.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from otel_budget.core import sse, validation
from otel_budget.errors import InvalidValueError
from otel_budget.sidecar.api import request_body

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from otel_budget.sidecar.api.broadcaster import Subscription, VerdictBroadcaster
    from otel_budget.sidecar.api.connection_limits import Limits

#: Runs that may be followed from one address, over all of its streams.
MAX_FOLLOWED: Final = 100_000
_RETRY_AFTER: Final = {"Retry-After": "10"}
_DIGITS: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would otherwise hold verdicts back until a buffer is full
}


class Streams:
    """The endpoints."""

    def __init__(self, broadcaster: VerdictBroadcaster, limits: Limits) -> None:
        """Begin with none open."""
        self._broadcaster, self._limits = broadcaster, limits
        self._open: dict[str, _Following] = {}
        self._followed: Counter[str] = Counter()
        """Runs by the address they are followed from."""

    async def stream(self, request: Request) -> Response:
        """Answer with a stream."""
        wanted = [validation.session_id(one) for one in request.query_params.getlist("session_id")]
        last = request.headers.get("last-event-id")
        after = None if not last else _sequence(last)
        if request.method == "HEAD":
            return Response(headers=_HEADERS, media_type=_EventStream.media_type)
        client = request.client.host if request.client else ""
        self._mind_followed(client, len(wanted))
        if not self._limits.open_stream(client):
            most = self._limits.streams_per_client
            detail = f"{most:,} streams are open from {client} already: close some, or ask by GET"
            raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, detail, _RETRY_AFTER)
        return _EventStream(self, self._broadcaster, wanted, after, client)

    async def change(self, request: Request) -> Response:
        """Follow other runs over an open stream; answer which of the new ones are not known yet."""
        add, remove = _runs(await request_body.json_of(request, self._limits.request_body))
        following = self._open.get(request.path_params["stream_id"])
        if following is None:
            detail = "no such stream is open: open another one"
            raise HTTPException(HTTPStatus.NOT_FOUND, detail)
        self._mind_followed(following.client, len(add) - len(remove))
        before = following.subscription.follows
        unknown = self._broadcaster.follow(following.subscription, add)
        self._broadcaster.unfollow(following.subscription, remove)
        self._followed[following.client] += following.subscription.follows - before
        headers = {"Cache-Control": "no-store"}
        return Response(json.dumps({"unknown": unknown}), 200, headers, "application/json")

    def opened(self, subscription: Subscription, client: str) -> str:
        """Take note of a stream on some runs; return its id."""
        stream_id = secrets.token_urlsafe(16)
        self._open[stream_id] = _Following(subscription, client)
        self._followed[client] += subscription.follows
        return stream_id

    def closed(self, stream_id: str | None, client: str) -> None:
        """Take note of the end of a stream. stream_id: None for one on all runs."""
        self._limits.close_stream(client)
        following = None if stream_id is None else self._open.pop(stream_id, None)
        if following is not None:
            self._followed[client] -= following.subscription.follows
            if self._followed[client] <= 0:
                del self._followed[client]

    def _mind_followed(self, client: str, more: int) -> None:
        if self._followed[client] + more > MAX_FOLLOWED:
            self._limits.on_refused("streams", client)
            detail = f"more than {MAX_FOLLOWED:,} runs are followed from {client}: ask by GET"
            raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, detail, _RETRY_AFTER)


class _Following:
    """An open stream on some runs."""

    __slots__ = ("client", "subscription")

    def __init__(self, subscription: Subscription, client: str) -> None:
        self.subscription, self.client = subscription, client


class _EventStream(StreamingResponse):
    """Server-Sent Events for one subscriber, who is gone when the response is over."""

    media_type = "text/event-stream"

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
                # At the end the server cuts off a reader that does not read; that is no defect.
                if not self._broadcaster.closed:
                    raise
            finally:
                self._streams.closed(stream_id, self._client)


def _sequence(text: str) -> int:
    if _DIGITS.fullmatch(text) is None:
        raise InvalidValueError("Last-Event-ID", text, f"a whole number from 0 to {10**18}")
    return int(text)


def _runs(data: object) -> tuple[list[str], list[str]]:
    """Return the runs to follow, and those not to follow any more. Raises InvalidValueError."""
    allowed = '{"add": [session ids], "remove": [session ids]}'
    if not isinstance(data, dict) or not data.keys() <= {"add", "remove"}:
        raise InvalidValueError("body", data, allowed)
    lists = [data.get(key, []) for key in ("add", "remove")]
    if not all(isinstance(one, list) for one in lists):
        raise InvalidValueError("body", data, allowed)
    add, remove = ([validation.session_id(run) for run in one] for one in lists)
    return add, remove
