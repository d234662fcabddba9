"""One request and its answer, over a connection of its own: HTTP/1.1 with nothing but sockets.

``http.client`` would do, but loads the parsers of ``email`` with it: half of what a hook may take,
and an agent waits for its hooks at every step. What runs longer than a command keeps to it.

Redirects are not followed, and no proxy of the environment is used.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from otel_budget.sdk.sidecar_client.address import SidecarAddress

_PORTS: Final = {True: 443, False: 80}
#: Bytes of the head of an answer, and of the line before a chunk.
_LONGEST_HEAD: Final = 65_536
_LONGEST_LINE: Final = 1_024
_BLOCK: Final = 65_536
_HAVE_NO_BODY: Final = (204, 304)
_FINAL: Final = 200
_FIRST_CHARACTER: Final = "!"


class ExchangeError(Exception):
    """What came is no HTTP answer, or not all of one; or the request cannot be written."""


class Answer(NamedTuple):
    """An answer, of whatever status."""

    status: int
    reason: str
    headers: Mapping[str, str]
    """By name in lower case; the last of several of one name."""
    body: bytes


class Limits(NamedTuple):
    """How long to wait, and for how much."""

    silence: float
    """Seconds for the connection, and in which something more must come."""
    body: int
    """Bytes; what is longer is an error."""
    whole: float = float("inf")
    """Seconds for all of it."""


def exchange(
    address: SidecarAddress,
    context: ssl.SSLContext | None,
    head: str,
    headers: Mapping[str, str],
    *,
    body: bytes,
    limits: Limits,
) -> Answer:
    """Return what is answered.

    context: the address's own. head: method and path, as in ``GET /v1/verdicts/run-1``. Raises
    OSError, ExchangeError.
    """
    request = _request(address, head, headers, body)
    until = time.monotonic() + limits.whole
    port = address.port or _PORTS[address.secure]
    first = min(limits.silence, limits.whole)
    # In bytes an ASCII name goes to the system as it is; text would load the tables of IDNA.
    host: str | bytes = address.host.encode() if address.host.isascii() else address.host
    connection = socket.create_connection((host, port), first)  # type: ignore[arg-type] # bytes too
    try:
        if context is not None:
            connection = context.wrap_socket(connection, server_hostname=address.host)
        # It may have said why, and hung up on a request that it does not want to read.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
        return _Reader(connection, until, limits).answer()
    finally:
        connection.close()


def _request(address: SidecarAddress, head: str, headers: Mapping[str, str], body: bytes) -> bytes:
    method, _, path = head.partition(" ")
    target = address.path + path
    lines = [f"{method} {target} HTTP/1.1", f"Host: {_host(address)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += ["Accept-Encoding: identity", "Connection: close"]
    if method != "GET":
        lines.append(f"Content-Length: {len(body)}")
    bad = any(c < _FIRST_CHARACTER or c > "~" for c in target)
    if bad or any("\r" in line or "\n" in line for line in lines):
        raise ExchangeError(f"{target!r} cannot be asked for")
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


def _host(address: SidecarAddress) -> str:
    bare = address.host.partition("%")[0]  # a zone means something on this machine only
    try:
        named = bare if bare.isascii() else bare.encode("idna").decode("ascii")
    except UnicodeError as exc:
        raise ExchangeError(f"{bare!r} is no name of a host") from exc
    named = f"[{named}]" if ":" in named else named
    port = address.port
    return named if port in (None, _PORTS[address.secure]) else f"{named}:{port}"


class _Reader:
    """Reads one answer."""

    def __init__(self, connection: socket.socket, until: float, limits: Limits) -> None:
        self._connection, self._until, self._limits = connection, until, limits
        self._ahead = b""

    def answer(self) -> Answer:
        """Return it. Raises OSError, ExchangeError."""
        while True:
            status, reason, headers = self._head()
            if status >= _FINAL:
                break
        return Answer(status, reason, headers, self._body(status, headers))

    def _head(self) -> tuple[int, str, dict[str, str]]:
        first, *lines = self._through(b"\r\n\r\n", _LONGEST_HEAD).decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        code, _, reason = rest.partition(" ")
        if not version.startswith("HTTP/1.") or not (code.isdecimal() and len(code) == 3):  # noqa: PLR2004 - digits of a status
            raise ExchangeError(f"the answer is not HTTP: {first[:80]!r}")
        headers = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if colon:
                headers[name.lower()] = value.strip()
        return int(code), reason, headers

    def _body(self, status: int, headers: Mapping[str, str]) -> bytes:
        if status in _HAVE_NO_BODY:
            return b""
        coding = headers.get("transfer-encoding", "").lower()
        if coding == "chunked":
            return self._chunks()
        length = headers.get("content-length", "")
        if coding or not (length.isdecimal() or not length):
            raise ExchangeError("the answer does not say in a known way how long it is")
        if length:
            return self._exactly(self._allowed(int(length)))
        body = bytearray(self._ahead)
        while more := self._more():
            body += more
            self._allowed(len(body))
        self._allowed(len(body))
        return bytes(body)

    def _chunks(self) -> bytes:
        body = bytearray()
        while True:
            size = self._through(b"\r\n", _LONGEST_LINE).partition(b";")[0].strip()
            try:
                length = int(size, 16)
            except ValueError as exc:
                raise ExchangeError(f"{size[:20]!r} is not the length of a chunk") from exc
            if length <= 0:
                return bytes(body)
            self._allowed(len(body) + length)
            body += self._exactly(length + 2)[:-2]

    def _allowed(self, length: int) -> int:
        if length > self._limits.body:
            raise ExchangeError(f"the answer is longer than {self._limits.body:,} bytes")
        return length

    def _through(self, end: bytes, longest: int) -> bytes:
        """Return what comes up to an end, which is dropped."""
        while end not in self._ahead:
            if len(self._ahead) > longest:
                raise ExchangeError("the answer has a longer head than HTTP's have")
            more = self._more()
            if not more:
                said = "was cut short" if self._ahead else "never came: the connection was closed"
                raise ExchangeError(f"the answer {said}")
            self._ahead += more
        found, _, self._ahead = self._ahead.partition(end)
        return found

    def _exactly(self, length: int) -> bytes:
        parts, missing = [self._ahead], length - len(self._ahead)
        while missing > 0:
            more = self._more()
            if not more:
                raise ExchangeError("the answer was cut short")
            parts.append(more)
            missing -= len(more)
        whole = b"".join(parts)
        self._ahead = whole[length:]
        return whole[:length]

    def _more(self) -> bytes:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._connection.settimeout(min(left, self._limits.silence))
        return self._connection.recv(_BLOCK)
