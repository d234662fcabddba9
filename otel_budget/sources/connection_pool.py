"""The connections that are kept and used again, and how new ones are made.

Each request costs the same however many connections there are: what is kept is found by its place,
and what is kept for too long lies at one end. (A common client pool looks at every connection for
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

from otel_budget.errors import OtelBudgetError
from otel_budget.sources.http_connection import Connection, Wire
from otel_budget.sources.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_budget.sources.base import Clock
    from otel_budget.sources.resolver import Address
    from otel_budget.sources.url import Place

logger = logging.getLogger(__name__)

#: Seconds; longer than the usual interval between two reads, so that connections are used again.
_KEEP_ALIVE: Final = 30.0
#: Seconds for the goodbye of TLS, for which no request waits.
_TLS_GOODBYE: Final = 1.0
#: One of so many files that the process may open can be a connection to a target.
_SHARE_OF_FILES: Final = 2
_MOST_OPEN: Final = 1_000_000


class ConnectError(OtelBudgetError):
    """Say why there is no connection."""


class Connections:
    """The connections of one source."""

    def __init__(self, clock: Clock, seconds: float, names: Resolver | None = None) -> None:
        """Open nothing yet. seconds: the most that anybody waits for one."""
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
            raise ConnectError(f"the name {place.host} gives no address: {_why(exc)}") from exc
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
        for address in addresses:
            try:
                async with asyncio.timeout(None if address is addresses[-1] else share):
                    connected = await _connected(address, place.port)
            except OSError as exc:  # of which TimeoutError is one
                error = exc
                continue
            if address is not addresses[0]:
                self._names.prefer(place.host, address)
            return connected
        raise ConnectError(f"cannot connect: {_why(error)}") from error


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
