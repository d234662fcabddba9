"""One HTTP request, for every source: bounded in time and in size, and plain about what failed.

- The time covers the request as a whole, so a target that sends a byte a second gets no longer.
- The size counts what arrives and what it unpacks to, and is held while reading.
- Redirects are not followed, and proxies and passwords of the environment are not used: a source
  asks the address it was given, with the credentials it was given for it.
"""

from __future__ import annotations

import asyncio
import ssl
import time
import zlib
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx2

from otel_budget.errors import OtelBudgetError
from otel_budget.sources.freshness import age_of, time_there
from otel_budget.sources.notices import one_line
from otel_budget.sources.partial import PARTIAL_STATUSES, said_by_head
from otel_budget.token_file import TokenFileError, file_stamp, read_token

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from otel_budget.sources.base import Clock
    from otel_budget.token_file import FileStamp

#: Longer than the usual interval between two reads, so that connections are used again.
_KEEP_ALIVE: Final = 30.0
_GZIP: Final = zlib.MAX_WBITS | 16
_HERE: Final = ("127.0.0.1", "::1", "localhost")


class FetchError(OtelBudgetError):
    """Say why a request gave nothing; for people, without credentials.

    unquoted: the same without what was answered, which may be for nobody's log: the address of a
    target may be one that others gave.
    """

    def __init__(self, problem: str, unquoted: str | None = None) -> None:
        """Keep both."""
        super().__init__(problem)
        self.unquoted = problem if unquoted is None else unquoted


@dataclass(frozen=True, slots=True)
class Access:
    """With what to ask one address."""

    bearer_token_file: Path | None = None
    """Read for every request, so that a rotated token is taken up."""
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    headers: Mapping[str, str] = field(default_factory=dict)


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
    """Unix time at ``began_at``, as far as can be told by the clock of who gave it."""


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
        self._clients: dict[Path | None, tuple[FileStamp | None, httpx2.AsyncClient]] = {}

    async def fetch(
        self,
        url: str,
        access: Access,
        *,
        accept: str,
        form: Mapping[str, str] | None = None,
    ) -> Fetched:
        """Ask an address: GET, or POST with a form. Raises FetchError for whatever went wrong."""
        try:
            headers = _headers(url, access, accept)
            client = await self._client(access.ca_file)
            async with asyncio.timeout(self._seconds):
                return await self._ask(client, url, headers, form)
        except TimeoutError as exc:
            raise FetchError(f"no complete answer within {self._seconds:g} s") from exc
        except httpx2.LocalProtocolError as exc:
            # Its message may quote a header, and with it a credential.
            raise FetchError("the request could not be sent: check its headers") from exc
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as exc:
            raise FetchError(one_line(f"{type(exc).__name__}: {exc}").removesuffix(":")) from exc
        except (OSError, ValueError) as exc:
            raise FetchError(str(exc)) from exc

    async def close(self) -> None:
        """Close all connections."""
        clients = [client for _, client in self._clients.values()]
        self._clients.clear()
        for client in clients:
            await client.aclose()

    async def _ask(
        self,
        client: httpx2.AsyncClient,
        url: str,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None,
    ) -> Fetched:
        method = "GET" if form is None else "POST"
        async with client.stream(method, url, headers=headers, data=form) as response:
            began_at, wall = self._clock(), self._wall()
            status, headers = response.status_code, response.headers
            if status != HTTPStatus.OK and status not in PARTIAL_STATUSES:
                raise await self._refusal(response)
            body = await self._body(response)
            missing = said_by_head(status, headers.multi_items())
            age = age_of(headers.get_list("age"))
            return Fetched(
                body, headers.get("content-type", ""), began_at - age, missing, age,
                time_there(headers.get("date", ""), age, wall) - age,
            )  # fmt: skip

    async def _refusal(self, response: httpx2.Response) -> FetchError:
        said = f"HTTP {response.status_code} {response.reason_phrase}".rstrip()
        if response.is_redirect:
            return FetchError(f"{said}: redirects are not followed; give the address it leads to")
        body = await self._body(response)
        words = one_line(body.decode("utf-8", "replace"))
        kind = response.headers.get("content-type", "no type")
        return FetchError(
            one_line(f"{said}: {words}" if words else said),
            one_line(f"{said} ({kind}, {len(body):,} bytes)"),
        )

    async def _body(self, response: httpx2.Response) -> bytes:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip"):
            raise FetchError(f"its answer is packed with {encoding!r}, which was not asked for")
        # Not left to the client: here the size is held before a piece is unpacked, not after.
        unpack = zlib.decompressobj(_GZIP) if encoding == "gzip" else None
        pieces: list[bytes] = []
        size = 0
        async for piece in response.aiter_raw():
            if unpack is not None:
                piece = _unpack(unpack, piece, self._limit - size + 1)  # noqa: PLW2901 - the same piece, unpacked
            size += len(piece)
            if size > self._limit or response.num_bytes_downloaded > self._limit:
                raise FetchError(f"its answer is larger than {self._limit:,} bytes")
            pieces.append(piece)
        if unpack is not None and pieces and not unpack.eof:
            raise FetchError("its packed answer ends in the middle")
        if unpack is not None and unpack.unused_data:
            raise FetchError("its packed answer goes on after its end")
        return b"".join(pieces)

    async def _client(self, ca_file: Path | None) -> httpx2.AsyncClient:
        stamp = None if ca_file is None else file_stamp(ca_file)
        known = self._clients.get(ca_file)
        if known is not None and known[0] == stamp:
            return known[1]
        context = ssl.create_default_context(cafile=ca_file)
        client = httpx2.AsyncClient(
            verify=context,
            timeout=None,  # asyncio.timeout covers the request as a whole
            limits=httpx2.Limits(keepalive_expiry=_KEEP_ALIVE),
            follow_redirects=False,
            trust_env=False,
        )
        self._clients[ca_file] = (stamp, client)
        if known is not None:
            await known[1].aclose()
        return client


def _headers(url: str, access: Access, accept: str) -> dict[str, str]:
    # On this machine packing costs an agent more time than it saves on the way.
    packing = "identity" if urlsplit(url).hostname in _HERE else "gzip"
    headers = {
        "Accept": accept,
        "Accept-Encoding": packing,
        "Cache-Control": "no-cache",  # a cache on the way would say what was so some time ago
        **access.headers,
    }
    if access.bearer_token_file is not None:
        headers["Authorization"] = f"Bearer {_token(access.bearer_token_file)}"
    return headers


def _token(path: Path) -> str:
    try:
        return read_token(path)
    except TokenFileError as exc:
        raise FetchError(str(exc)) from exc


def _unpack(unpack: zlib._Decompress, piece: bytes, room: int) -> bytes:
    try:
        return unpack.decompress(piece, room)
    except zlib.error as exc:
        raise FetchError(f"its packed answer cannot be unpacked: {exc}") from exc
