"""One connection to the sidecar that another thread can end, with time for each thing it waits for.

A thread in a system call cannot be told anything; its socket can be shut down. So every socket is
known from before it connects, and what is waited for has a moment by which it must be there: by the
bytes alone a server that sends one now and then would be waited for without end.
"""

from __future__ import annotations

import http.client
import io
import os
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from otel_budget.sdk.sidecar_client.host_lookup import addresses

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping

    from otel_budget.sdk.sidecar_client.address import SidecarAddress

#: Seconds to connect, and to wait for an answer.
TIMEOUT: Final = 5.0
#: Seconds in which what lies in the socket is read although the time is over: this process itself
#: may not have run for a while.
_LAST: Final = 0.02


class HungUpError(Exception):
    """The connection was ended from this side."""


class Deadline:
    """A moment by which something must be there; it can be moved."""

    def __init__(self, seconds: float) -> None:
        """Set it to so many seconds from now."""
        self.move(seconds)

    def move(self, seconds: float) -> None:
        """Set it to so many seconds from now."""
        self._at = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds until then, never quite 0."""
        return max(_LAST, self._at - time.monotonic())


class Connection:
    """At most one open connection at a time."""

    def __init__(self, address: SidecarAddress, timeout: float = TIMEOUT) -> None:
        """Open nothing yet. timeout: seconds to connect, and to wait for the head of an answer."""
        self._address, self._timeout = address, timeout
        self._lock = threading.RLock()
        self._socket: socket.socket | None = None
        self._over = False

    @contextmanager
    def open(self) -> Iterator[Call]:
        """Connect; close the connection at the end. Raises OSError, HungUpError, TokenFileError."""
        try:
            context = self._address.context()
            yield Call(self._address, self._connect(context), context, self._timeout)
        finally:
            with self._lock:
                found, self._socket = self._socket, None
            if found is not None:
                found.close()

    def cut(self) -> None:
        """End the present connection, if there is one: who waits on it is woken."""
        with self._lock:
            if self._socket is not None:
                with suppress(OSError):  # closed, or not connected
                    # Not SSLSocket's own: who reads needs what that throws away.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def hang_up(self) -> None:
        """End the present connection and open no other."""
        with self._lock:
            self._over = True
            self.cut()

    def forget(self) -> None:
        """Let go of the socket without a word to the other side: it belongs to the parent."""
        found, self._socket = self._socket, None
        if found is not None:
            with suppress(OSError):
                os.close(found.detach())

    def _connect(self, context: ssl.SSLContext | None) -> socket.socket:
        address = self._address
        port = address.port or (443 if address.secure else 80)
        error: OSError | None = None
        found_at = addresses(address.host, port, self._timeout, lambda: not self._over)
        for family, kind, protocol, _, where in found_at:
            found = self._keep(socket.socket(family, kind, protocol))
            try:
                found.settimeout(self._timeout)
                found.connect(where)
                found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if context is None:
                    return found
                found = self._keep(
                    context.wrap_socket(
                        found, server_hostname=address.host, do_handshake_on_connect=False
                    )
                )
                found.do_handshake()  # type: ignore[attr-defined] # it is an SSLSocket by now
            except OSError as exc:
                error = exc
                found.close()
            else:
                return found
        raise error or OSError(f"{address.host} has no address")

    def _keep(self, found: socket.socket) -> socket.socket:
        with self._lock:
            if self._over:
                found.close()
                raise HungUpError
            self._socket = found
        return found


class _Timed(io.RawIOBase):
    """Reads a socket until a deadline."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock, self._deadline = sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        self._sock.settimeout(self._deadline.left())
        return self._sock.recv_into(buffer)  # type: ignore[arg-type] # a buffer, as io has it


class _Readable:
    """What http.client wants of a socket."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._raw = _Timed(sock, deadline)

    def makefile(self, *_: object, **__: object) -> io.BufferedReader:
        return io.BufferedReader(self._raw)


class Call:
    """Requests over one connection, one after the other."""

    def __init__(
        self,
        address: SidecarAddress,
        sock: socket.socket,
        context: ssl.SSLContext | None,
        timeout: float,
    ) -> None:
        """Take an open socket. context: what it speaks TLS with, if it does. timeout: seconds."""
        self._address, self._socket, self._context = address, sock, context
        self._timeout = timeout
        self.is_over = False
        """The other side ends it with the last answer."""

    def ask(
        self,
        method: str,
        path: str,
        accept: str,
        *,
        body: str | bytes | None = None,
        content_type: str = "application/json",
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[http.client.HTTPResponse, Deadline]:
        """Send a request; return the answer, of which the head was read, and what bounds the rest.

        body: of that content type. timeout: seconds, instead of the connection's. headers: further
        ones. Raises OSError, http.client.HTTPException, TokenFileError.
        """
        sent = {**self._address.headers(accept), **(headers or {})}
        if body is not None:
            sent["Content-Type"] = content_type
        self._socket.settimeout(self._timeout)
        self._sender().request(method, self._address.path + path, body, sent)
        deadline = Deadline(self._timeout if timeout is None else timeout)
        answer = http.client.HTTPResponse(_Readable(self._socket, deadline), method=method)  # type: ignore[arg-type] # all it uses of a socket
        answer.begin()
        self.is_over = answer.will_close
        deadline.move(self._timeout)
        return answer, deadline

    def _sender(self) -> http.client.HTTPConnection:
        """Return what writes a request; it would have to read the answer, too, to write another."""
        host, port, context = self._address.host, self._address.port, self._context
        if context is None:
            sender = http.client.HTTPConnection(host, port)
        else:
            sender = http.client.HTTPSConnection(host, port, context=context)
        sender.sock = self._socket
        return sender
