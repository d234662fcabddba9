"""One HTTP request, for every source: bounded in time and in size, and plain about what failed.

- The time covers the request as a whole, so a target that sends a byte a second gets no longer.
- The size counts what arrives and what it unpacks to, and is held while reading.
- Redirects are not followed, and proxies and passwords of the environment are not used: a source
  asks the address it was given, with the credentials it was given for it.
- A cache on the way (a proxy, a gateway, a CDN) answers with what was so some time ago, and says in
  ``Age`` for how many seconds it had it. ``Date`` is the clock of who made the answer: timestamps
  in it are compared with that one, should it differ from ours.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import h11

from otel_budget._version import __version__
from otel_budget.files.token_file import TokenFileError, read_token
from otel_budget.files.watch import FileWatch
from otel_budget.logs.text import one_line
from otel_budget.net.loopback import is_loopback
from otel_budget.net.url import place_of
from otel_budget.sources.base import TargetError
from otel_budget.sources.decompression import UnpackError, unpacker
from otel_budget.sources.http_connections import (
    ConnectError,
    Connections,
    HungUpError,
    NobodyListensError,
)
from otel_budget.sources.partial import PARTIAL_STATUSES, said_by_head

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from otel_budget.net.url import Place
    from otel_budget.sources.base import Clock
    from otel_budget.sources.http_connections import Connection

    #: Names in lower case, and values.
    Head = list[tuple[str, str]]

_AGENT: Final = f"otel-budget/{__version__}"
#: Pieces of an answer, of 256 KB at most, after which others have their turn.
_PIECES_A_TURN: Final = 4
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
#: How servers say that they do not answer this query.
_REFUSALS: Final = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.INTERNAL_SERVER_ERROR,
    }
)
#: And that they gave up on it; with 503, as for much else.
_TIMED_OUT: Final = re.compile(rb'"errorType"\s*:\s*"timeout"')
#: Seconds, the most an ``Age`` can be: what is above that is no less old.
_OLDEST: Final = 1e9
#: Seconds by which two clocks may differ before theirs is taken: ``Date`` has whole seconds.
_TOLERANCE: Final = 2.0


class FetchError(TargetError):
    """A request gave nothing."""


class NobodyThereError(FetchError):
    """Nobody listens at the address: if a process did, it has ended."""


class RefusedError(FetchError):
    """The server cannot answer what was asked for; it may answer for less."""


class SlowError(FetchError):
    """The answer takes too long; an answer for less may not."""


@dataclass(frozen=True, slots=True)
class Access:
    """With what to ask one address."""

    bearer_token_file: Path | None = None
    """Read for every request, so that a rotated token is taken up."""
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    headers: Mapping[str, str] = field(default_factory=dict)


_NO_ACCESS: Final = Access()


@dataclass(frozen=True, slots=True)
class Fetched:
    """A good answer."""

    body: bytes
    """Unpacked."""
    content_type: str
    """As sent; empty if it was not."""
    began_at: float
    """When the answer began to arrive, in seconds on the reader's own clock."""
    missing: tuple[str, ...] = ()
    """What status and headers say is missing of it."""
    age: float = 0.0
    """Seconds for which a cache on the way had it, as that says; taken off ``began_at`` already."""
    time_there: float = 0.0
    """Unix time at ``began_at``, as far as is known by the clock of the server."""


class Fetcher:
    """An HTTP client for all addresses of one source."""

    def __init__(
        self, clock: Clock, seconds: float, body_size_limit: int, wall: Clock = time.time
    ) -> None:
        """Open nothing yet.

        seconds: for one request as a whole; body_size_limit: bytes. wall: Unix time as it is known
        now, by which others date what they say; ``clock`` may be off if it was at the start.
        """
        self._clock, self._seconds, self._limit = clock, seconds, body_size_limit
        self._wall = wall
        self._connections = Connections(clock, seconds)
        self._contexts: dict[Path | None, tuple[FileWatch, ssl.SSLContext]] = {}
        self._starts = asyncio.Lock()
        """Held for one round of the loop while a request begins."""

    async def fetch(
        self,
        url: str,
        access: Access,
        *,
        accept: str,
        form: Mapping[str, str] | None = None,
    ) -> Fetched:
        """Ask an address: GET, or POST with a form. Raises FetchError for whatever went wrong."""
        async with self._starts:
            # One a round of the loop: with thousands of targets each is answered before its time
            # is over, for it begins only when there is processor time for it.
            await asyncio.sleep(0)
            await self._connections.room()
        try:
            place, body = place_of(url), b"" if form is None else urlencode(form).encode()
            request = _request(place, access, accept, None if form is None else body)
            context = self._context(place, access.ca_file)
            async with asyncio.timeout(self._seconds):
                return await self._ask(place, context, request, body)
        except TimeoutError as exc:
            raise SlowError(f"no complete answer within {self._seconds:g} s") from exc
        except h11.LocalProtocolError as exc:
            # Its message may quote a header, and with it a credential.
            raise FetchError("the request could not be sent: check its headers") from exc
        except h11.RemoteProtocolError as exc:
            said = "its answer is not HTTP/1.1, or is cut short"
            raise FetchError(one_line(f"{said}: {exc}"), said) from exc
        except UnpackError as exc:
            raise FetchError(f"its answer {exc}") from exc
        except NobodyListensError as exc:
            raise NobodyThereError(one_line(str(exc))) from exc
        except (ConnectError, HungUpError, OSError, ValueError) as exc:
            raise FetchError(one_line(str(exc))) from exc

    async def close(self) -> None:
        """Close all connections."""
        self._connections.close()
        await asyncio.sleep(0)  # they are closed in the next round of the loop

    async def _ask(
        self, place: Place, context: ssl.SSLContext | None, request: h11.Request, body: bytes
    ) -> Fetched:
        while True:
            connection = await self._connections.take(place, context)
            try:
                answer = await connection.ask(request, body)
                fetched = await self._fetched(connection, answer)
            except BaseException as exc:
                self._connections.drop(connection)
                # One that was kept may have been closed meanwhile: nothing was lost but a try.
                if isinstance(exc, HungUpError) and connection.was_used and not connection.received:
                    continue
                raise
            self._connections.keep(connection)
            return fetched

    async def _fetched(self, connection: Connection, answer: h11.Response) -> Fetched:
        began_at, wall = self._clock(), self._wall()
        head = [(name.decode("latin-1"), text.decode("latin-1")) for name, text in answer.headers]
        status = answer.status_code
        if status != HTTPStatus.OK and status not in PARTIAL_STATUSES:
            raise await self._refusal(connection, answer, head)
        body = await self._body(connection, head)
        age = age_of(_values(head, "age"))
        date = ", ".join(_values(head, "date"))
        return Fetched(
            body, ", ".join(_values(head, "content-type")), began_at - age,
            said_by_head(status, head), age, time_there(date, age, wall) - age,
        )  # fmt: skip

    async def _refusal(
        self, connection: Connection, answer: h11.Response, head: Head
    ) -> FetchError:
        said = f"HTTP {answer.status_code} {_phrase(answer.status_code)}".rstrip()
        if answer.status_code in _REDIRECTS and _values(head, "location"):
            return FetchError(f"{said}: redirects are not followed; give the address it leads to")
        try:
            body = await self._body(connection, head)
        except (FetchError, UnpackError, h11.RemoteProtocolError, OSError):
            return FetchError(said)
        words = one_line(body.decode("utf-8", "replace"))
        kind = ", ".join(_values(head, "content-type")) or "no type"
        refusal = RefusedError if answer.status_code in _REFUSALS else FetchError
        if _TIMED_OUT.search(body):
            refusal = SlowError
        return refusal(
            one_line(f"{said}: {words}" if words else said),
            one_line(f"{said} ({kind}, {len(body):,} bytes)"),
        )

    async def _body(self, connection: Connection, head: Head) -> bytes:
        unpack = unpacker(",".join(_values(head, "content-encoding")))
        pieces: list[bytes] = []
        size = 0
        while isinstance(event := await connection.next_event(), h11.Data):
            for piece in unpack.feed(bytes(event.data)):
                size += len(piece)
                if max(size, connection.received) > self._limit:
                    said = f"its answer is larger than {self._limit:,} bytes (body_size_limit)"
                    raise RefusedError(said)
                pieces.append(piece)
                if len(pieces) % _PIECES_A_TURN == 0:
                    await asyncio.sleep(0)
        unpack.finish()
        if connection.has_more:
            raise FetchError("its answer continues past the end it declared")
        return b"".join(pieces)

    def _context(self, place: Place, ca_file: Path | None) -> ssl.SSLContext | None:
        """Return what a server is trusted by; None without TLS. Raises OSError."""
        if ca_file is None and not place.is_tls:
            return None
        watch, context = self._contexts.get(ca_file) or (_watch(ca_file), None)
        stamps = watch.changed()
        if not place.is_tls:
            return None
        if context is None or stamps is not None:
            context = ssl.create_default_context(cafile=ca_file)
            watch.read_as_of(stamps)
            self._contexts[ca_file] = (watch, context)
        return context


def _watch(ca_file: Path | None) -> FileWatch:
    return FileWatch(*(() if ca_file is None else (ca_file,)))


def _request(place: Place, access: Access, accept: str, form: bytes | None) -> h11.Request:
    if form is None and access == _NO_ACCESS:
        return _plain_request(place, accept)
    return _made(place, access, accept, form)


@lru_cache(maxsize=65_536)
def _plain_request(place: Place, accept: str) -> h11.Request:
    """Return what is asked of most targets, each time."""
    return _made(place, _NO_ACCESS, accept, None)


def _made(place: Place, access: Access, accept: str, form: bytes | None) -> h11.Request:
    headers = {
        "Host": place.host_header,
        "User-Agent": _AGENT,
        "Accept": accept,
        # On this machine packing costs an agent more time than it saves on the way.
        "Accept-Encoding": "identity" if is_loopback(place.host) else "gzip",
        "Cache-Control": "no-cache",  # a cache on the way would say what was so some time ago
    }
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        headers["Content-Length"] = str(len(form))
    if access.headers:
        given = {name.lower() for name in access.headers}
        headers = {name: text for name, text in headers.items() if name.lower() not in given}
        headers |= access.headers
    if access.bearer_token_file is not None:
        headers["Authorization"] = f"Bearer {_token(access.bearer_token_file)}"
    method = "GET" if form is None else "POST"
    return h11.Request(method=method, target=place.target, headers=list(headers.items()))


def _phrase(status: int) -> str:
    """Return what a status means; what a server says it does is its own words."""
    return HTTPStatus(status).phrase if status in list(HTTPStatus) else ""


def _values(head: Head, name: str) -> list[str]:
    return [text for key, text in head if key == name]


def _token(path: Path) -> str:
    try:
        return read_token(path)
    except TokenFileError as exc:
        raise FetchError(str(exc)) from exc


def age_of(ages: Sequence[str]) -> float:
    """Return the seconds for which a cache had an answer. ages: values of its ``Age`` headers.

    Of several the largest; what is no number says nothing.
    """
    words = (word.strip() for text in ages for word in text.split(","))
    return max((min(float(word), _OLDEST) for word in words if word.isdecimal()), default=0.0)


def time_there(date: str, age: float, wall: float) -> float:
    """Return the Unix time for who made an answer, when it came. date: its ``Date`` header.

    age: as of ``age_of``. wall: our own time, which it is but for a clock that is clearly off.
    """
    try:
        theirs = parsedate_to_datetime(date).timestamp() + age
    except (ValueError, TypeError, OverflowError):
        return wall
    return theirs if abs(theirs - wall) > _TOLERANCE else wall
