"""How much of the server a client may take: uvicorn's HTTP protocol with bounds.

- A connection beyond the limit is closed at once, before anything is read from it.
- A request whose head and body do not arrive in time ends its connection; so does idling.
- A client that does not read what it was sent, also on a stream, loses its connection: otherwise it
  would hold its place, and what waits for it, for ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

    from starlette.requests import Request

#: Bytes that a request's line and headers may have. A token, a cursor and an event id need a few
#: hundred.
MAX_HEAD = 16_384
#: Takes the reason for a refusal, and the client's address.
OnRefused = Callable[[str, str], None]
_BODY_OR_HEAD_MISSING = (h11.IDLE, h11.SEND_BODY)


def not_counted(_reason: str, _client: str) -> None:
    """Ignore a refusal."""


def client_of(request: Request) -> str:
    """Return the address a request came from; empty if the server does not know it."""
    return request.client.host if request.client else ""


@dataclass(slots=True)
class ClientLimits:
    """What clients may take, together or each, and how much of it they have taken."""

    connections: int = 10_000
    streams_per_client: int = 1000
    """Streams open from one address."""
    request_body: int = 65_536
    """Bytes."""
    request_timeout: float = 10.0
    """Seconds that a request may take to arrive, and that what was sent may wait to be read."""
    on_refused: OnRefused = not_counted
    """Called with a reason and the client's address."""
    streams: Counter[str] = field(default_factory=Counter)
    """Open streams by the client's address."""

    def open_stream(self, client: str) -> bool:
        """Count a stream that opens; return False, uncounted, if it is beyond the limit."""
        if self.streams[client] >= self.streams_per_client:
            self.on_refused("streams", client)
            return False
        self.streams[client] += 1
        return True

    def close_stream(self, client: str) -> None:
        """Count a stream that closed."""
        self.streams[client] -= 1
        if self.streams[client] <= 0:
            del self.streams[client]


class BoundedProtocol(H11Protocol):
    """One connection, within the limits."""

    def __init__(self, limits: ClientLimits, *args: Any, **kwargs: Any) -> None:
        """Take the limits, then what uvicorn passes."""
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._request_timer: asyncio.TimerHandle | None = None
        self._reader_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Start waiting for a request, or refuse the connection."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self._cut("connections")
            return
        self._limit_request()

    def data_received(self, data: bytes) -> None:
        """Read what arrived."""
        super().data_received(data)
        self._limit_request()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._limit_request()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._limits.on_refused("malformed", self.client[0] if self.client else "")
        super().send_400_response(msg)

    def pause_writing(self) -> None:
        """Wait for the client to read, but not for ever."""
        self.flow.pause_writing()
        if self._reader_timer is None:
            self._reader_timer = self.loop.call_later(
                self._limits.request_timeout, self._cut, "reader"
            )

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        self.flow.resume_writing()
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        for timer in (self._request_timer, self._reader_timer):
            if timer is not None:
                timer.cancel()
        self._request_timer = self._reader_timer = None
        super().connection_lost(exc)

    def _limit_request(self) -> None:
        """Limit the time for which a request, or a part of it, is missing."""
        missing = self.conn.their_state in _BODY_OR_HEAD_MISSING and not self.transport.is_closing()
        if missing and self._request_timer is None:
            self._request_timer = self.loop.call_later(
                self._limits.request_timeout, self._request_overdue
            )
        elif not missing and self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _request_overdue(self) -> None:
        self._request_timer = None
        unfinished = self.conn.their_state is h11.SEND_BODY or bool(self.conn.trailing_data[0])
        if self.cycle is None or unfinished:
            self._cut("request")
        else:
            self.transport.close()  # idle between two requests

    def _cut(self, reason: str) -> None:
        """End the connection without waiting for anything."""
        self._limits.on_refused(reason, self.client[0] if self.client else "")
        self.transport.abort()
