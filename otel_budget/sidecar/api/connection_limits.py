"""How much a client may hold of the server: uvicorn's HTTP protocol with bounds.

- A connection too many is closed at once, before anything is read of it.
- A request that is not there in time, head and body, ends its connection; so does an idle one.
- A client that does not take up what it was sent, a stream included, loses its connection: what
  waits for it would wait for ever, and its place with it.
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

#: Bytes a request's line and headers may have. A token, a cursor and an event id need some hundred.
MAX_HEAD = 16_384
#: Takes the reason of a refusal, and the client's address.
OnRefused = Callable[[str, str], None]
_BODY_OR_HEAD_MISSING = (h11.IDLE, h11.SEND_BODY)


def not_counted(_reason: str, _client: str) -> None:
    """Let a refusal pass."""


@dataclass(slots=True)
class Limits:
    """What clients may hold, all of them together or each; and how much of it they do."""

    connections: int = 10_000
    streams_per_client: int = 1000
    """Streams open from one address."""
    request_body: int = 65_536
    """Bytes."""
    request_timeout: float = 10.0
    """Seconds a request may take to arrive, and what was sent may wait to be taken up."""
    on_refused: OnRefused = not_counted
    """Called with a reason and the client's address."""
    streams: Counter[str] = field(default_factory=Counter)
    """Open streams by the client's address."""

    def open_stream(self, client: str) -> bool:
        """Count a stream; False if it is one too many."""
        if self.streams[client] >= self.streams_per_client:
            self.on_refused("streams", client)
            return False
        self.streams[client] += 1
        return True

    def close_stream(self, client: str) -> None:
        """Count it no more."""
        self.streams[client] -= 1
        if self.streams[client] <= 0:
            del self.streams[client]


class BoundedProtocol(H11Protocol):
    """One connection, within the limits."""

    def __init__(self, limits: Limits, *args: Any, **kwargs: Any) -> None:
        """As uvicorn makes it, with limits first."""
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._arriving: asyncio.TimerHandle | None = None
        self._leaving: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Begin, or refuse."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self._cut("connections")
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take in what arrived."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._limits.on_refused("malformed", self.client[0] if self.client else "")
        super().send_400_response(msg)

    def pause_writing(self) -> None:
        """Wait for the client to read, but not for ever."""
        self.flow.pause_writing()
        if self._leaving is None:
            self._leaving = self.loop.call_later(self._limits.request_timeout, self._cut, "reader")

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        self.flow.resume_writing()
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of it."""
        for timer in (self._arriving, self._leaving):
            if timer is not None:
                timer.cancel()
        self._arriving = self._leaving = None
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Count the time while a request is missing, or a part of it."""
        missing = self.conn.their_state in _BODY_OR_HEAD_MISSING and not self.transport.is_closing()
        if missing and self._arriving is None:
            self._arriving = self.loop.call_later(self._limits.request_timeout, self._late)
        elif not missing and self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None

    def _late(self) -> None:
        self._arriving = None
        unfinished = self.conn.their_state is h11.SEND_BODY or bool(self.conn.trailing_data[0])
        if self.cycle is None or unfinished:
            self._cut("request")
        else:
            self.transport.close()  # only idle between two requests

    def _cut(self, reason: str) -> None:
        """End the connection without waiting for anything."""
        self._limits.on_refused(reason, self.client[0] if self.client else "")
        self.transport.abort()
