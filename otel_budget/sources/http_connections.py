"""HTTP/1.1 connections: h11 for the protocol, asyncio for the bytes, kept and used again.

Each request costs the same however many connections there are: one that is kept is found by its
place, and those kept longest are at one end. (A common client pool looks at every connection for
every request.)
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import ssl
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import h11

from otel_budget.errors import OtelBudgetError
from otel_budget.sources.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_budget.net.url import Place
    from otel_budget.sources.base import Clock
    from otel_budget.sources.resolver import Address

logger = logging.getLogger(__name__)

#: Seconds; longer than the usual interval between two reads, so that connections are used again.
_KEEP_ALIVE: Final = 30.0
#: Seconds for the goodbye of TLS, for which no request waits.
_TLS_GOODBYE: Final = 1.0
#: One of so many files that the process may open can be a connection to a target.
_SHARE_OF_FILES: Final = 2
_MOST_OPEN: Final = 1_000_000
#: Bytes that have arrived and wait to be read, beyond which the other side has to wait.
_MOST_UNREAD: Final = 131_072
#: Interim answers before the one that was asked for; each takes time in which no other has a turn.
_MOST_INTERIM: Final = 100
#: Bytes of the head of an answer.
_LONGEST_HEAD: Final = 102_400


class HungUpError(OtelBudgetError):
    """The other side closed the connection before it answered."""


class Wire(asyncio.Protocol):
    """The bytes of one connection; the other side waits while too many are unread."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._pieces: list[bytes] = []
        self._size = 0
        self._over = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_quiet(self) -> bool:
        """Tell whether it is open, and nothing has arrived unasked."""
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
        """key: under which the connection is kept."""
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
        """Close it in order, without waiting for that."""
        self._wire.transport.close()

    def abort(self) -> None:
        """Drop it, whatever is on its way."""
        self._wire.transport.abort()


class ConnectError(OtelBudgetError):
    """Say why there is no connection."""


class NobodyListensError(ConnectError):
    """The host is there, and says that nobody listens at the address."""


class Connections:
    """The connections of one source."""

    def __init__(self, clock: Clock, seconds: float, names: Resolver | None = None) -> None:
        """seconds: the longest that a caller waits for a connection."""
        self._clock, self._seconds, self._names = clock, seconds, names or Resolver(clock)
        self._idle: OrderedDict[Connection, None] = OrderedDict()
        """Kept for longest first."""
        self._by_key: dict[object, list[Connection]] = {}
        self._busy = 0
        self._freed, self._was_crowded = asyncio.Event(), False

    async def take(self, place: Place, context: ssl.SSLContext | None) -> Connection:
        """Return a connection that is kept, or a new one. Raises ConnectError.

        It is given back by ``keep`` or ``drop``.
        """
        key = (place.host, place.port, context)
        while kept := self._by_key.get(key):
            connection = kept[-1]
            self._forget(connection)
            if connection.is_quiet and self._clock() - connection.kept_at < _KEEP_ALIVE:
                self._busy += 1
                return connection
            connection.close()
        self._busy += 1
        try:
            return Connection(await self._open(place, context), key)
        except BaseException:
            self._give_back()
            raise

    def keep(self, connection: Connection) -> None:
        """Keep a connection whose answer was read, if it can be used again."""
        self._give_back()
        now = self._clock()
        if connection.renew():
            connection.kept_at = now
            self._idle[connection] = None
            self._by_key.setdefault(connection.key, []).append(connection)
        else:
            connection.close()
        while self._idle and now - next(iter(self._idle)).kept_at >= _KEEP_ALIVE:
            self._drop_oldest()

    def drop(self, connection: Connection) -> None:
        """Close a connection, whatever is on its way."""
        self._give_back()
        connection.abort()

    def close(self) -> None:
        """Close all that are kept, without the goodbye of TLS, which nothing would wait for."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()
        self._by_key.clear()

    async def room(self) -> None:
        """Wait, one at a time, until there is a file left for another one that is asked."""
        while self._busy >= self._most():
            if not self._was_crowded:
                logger.warning(
                    "%d targets are being asked at once, as many as the limit of open files allows "
                    "(half of it): the others wait; raise the limit (ulimit -n)", self._busy,
                )  # fmt: skip
            self._was_crowded = True
            self._freed.clear()
            await self._freed.wait()
        while self._idle and self._busy + len(self._idle) >= self._most():
            self._drop_oldest()

    def _most(self) -> int:
        """Return how many may be open; the rest is for the others of this process."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return (_MOST_OPEN if soft == resource.RLIM_INFINITY else soft) // _SHARE_OF_FILES

    def _give_back(self) -> None:
        self._busy -= 1
        self._freed.set()

    def _drop_oldest(self) -> None:
        connection = next(iter(self._idle))
        self._forget(connection)
        connection.close()

    def _forget(self, connection: Connection) -> None:
        del self._idle[connection]
        kept = self._by_key[connection.key]
        kept.remove(connection)
        if not kept:
            del self._by_key[connection.key]

    async def _open(self, place: Place, context: ssl.SSLContext | None) -> Wire:
        try:
            addresses = await self._names.addresses(place.host)
        except OSError as exc:
            raise ConnectError(f"the name {place.host} cannot be resolved: {_why(exc)}") from exc
        connected = await self._connect(place, addresses)
        loop = asyncio.get_running_loop()
        try:
            _, wire = await loop.create_connection(
                Wire,
                sock=connected,
                ssl=context,
                server_hostname=None if context is None else place.host,
                ssl_shutdown_timeout=None if context is None else _TLS_GOODBYE,
            )
        except OSError as exc:  # of which ssl.SSLError is one
            raise ConnectError(f"cannot connect: {_why(exc)}") from exc
        return wire

    async def _connect(self, place: Place, addresses: Sequence[Address]) -> socket.socket:
        """Try one address after the other; one that does not answer leaves time for the others."""
        share, error = self._seconds / len(addresses), OSError("there is no address")
        refused = 0
        for address in addresses:
            try:
                async with asyncio.timeout(None if address is addresses[-1] else share):
                    connected = await _connected(address, place.port)
            except OSError as exc:  # of which TimeoutError is one
                error = exc
                refused += isinstance(exc, ConnectionRefusedError)
                continue
            if address is not addresses[0]:
                self._names.prefer(place.host, address)
            return connected
        kind = NobodyListensError if refused == len(addresses) > 0 else ConnectError
        raise kind(f"cannot connect: {_why(error)}") from error


async def _connected(address: Address, port: int) -> socket.socket:
    connecting = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)  # noqa: FBT003 - as socket has it
        await asyncio.get_running_loop().sock_connect(connecting, address.at(port))
    except BaseException:
        connecting.close()
        raise
    return connecting


def _why(error: OSError) -> str:
    """Return what the system says, without the numbers that only it understands."""
    if isinstance(error, ssl.SSLError | socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)
