"""One HTTP/1.1 connection, with h11 for the protocol and asyncio for the bytes."""

from __future__ import annotations

import asyncio
from typing import Final

import h11

from otel_budget.errors import OtelBudgetError

#: Bytes that have arrived and wait to be read, beyond which the other side has to wait.
_MOST_UNREAD: Final = 131_072
#: Interim answers before the one that was asked for; each takes time in which no other has a turn.
_MOST_INTERIM: Final = 100
#: Bytes of the head of an answer.
_LONGEST_HEAD: Final = 102_400


class HungUpError(OtelBudgetError):
    """The other side closed the connection before it answered."""


class Wire(asyncio.Protocol):
    """The bytes of one connection: not more of them at once than somebody takes."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._pieces: list[bytes] = []
        self._size = 0
        self._over = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_quiet(self) -> bool:
        """Tell whether it is open, and nothing arrived that nobody asked for."""
        return not self._over and not self._pieces

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of TCP and TLS it is
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size > _MOST_UNREAD:
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._over = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._over, self._error = True, exc
        self._wake()

    async def read(self) -> bytes:
        """Return what has arrived; nothing at the end. Raises OSError if the connection broke."""
        while not self._pieces:
            if self._over:
                if self._error is not None:
                    raise self._error
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if self._size > _MOST_UNREAD and not self._over:
            self.transport.resume_reading()
        self._size = 0
        return data

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Connection:
    """One connection, with one request at a time on it."""

    def __init__(self, wire: Wire, key: object) -> None:
        """Take over an open one. key: under which it is kept."""
        self.key, self._wire = key, wire
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LONGEST_HEAD)
        self.received = 0
        """Bytes since the present request was sent."""
        self.was_used = False
        """Whether there was a request before the present one."""
        self.kept_at = 0.0

    async def ask(self, request: h11.Request, body: bytes) -> h11.Response:
        """Send a request, and return the head of the answer.

        Raises HungUpError, h11.ProtocolError or OSError.
        """
        data = self._http.send(request)
        if body:
            data = (data or b"") + (self._http.send(h11.Data(body)) or b"")
        data = (data or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        self.received = 0
        self._wire.transport.write(data)
        for _ in range(_MOST_INTERIM):
            try:
                event = await self.next_event()
            except (ConnectionError, h11.RemoteProtocolError) as exc:
                if self.received and isinstance(exc, h11.RemoteProtocolError):
                    raise
                raise HungUpError("the connection was closed before it was answered") from exc
            if isinstance(event, h11.Response):
                return event
        raise h11.RemoteProtocolError(f"more than {_MOST_INTERIM} interim answers (HTTP 1xx)")

    async def next_event(self) -> object:
        """Return what comes next of an answer, as h11 names it.

        Raises h11.RemoteProtocolError or OSError.
        """
        while (event := self._http.next_event()) is h11.NEED_DATA:
            data = await self._wire.read()
            self.received += len(data)
            self._http.receive_data(data)
        return event

    def renew(self) -> bool:
        """Make it ready for another request; False if it cannot have one."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self.was_used = True
        return self.is_quiet

    @property
    def is_quiet(self) -> bool:
        """As of what arrives on it."""
        return self._wire.is_quiet

    @property
    def has_more(self) -> bool:
        """Whether more arrived than the answer was said to be."""
        return bool(self._http.trailing_data[0])

    def close(self) -> None:
        """Say goodbye, without waiting."""
        self._wire.transport.close()

    def abort(self) -> None:
        """Drop it, whatever is on its way."""
        self._wire.transport.abort()
