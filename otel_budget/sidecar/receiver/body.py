"""The bodies of pushed requests while they arrive: each bounded, and all together."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from otel_budget.sidecar.receiver.answers import BUSY, CLOSE, RefusedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.types import Receive

#: Bodies of the largest size that may be held at once, in bytes.
_AT_ONCE: Final = 8
#: Requests that are being taken at once, however small.
MOST_WHOLE: Final = 1000
RETRY: Final = {"Retry-After": "1", **CLOSE}


class GoneError(Exception):
    """The client went away before its request was whole."""


class Bodies:
    """Holds bodies until they were taken."""

    def __init__(self, most: int) -> None:
        """most: bytes of one."""
        self.most = most
        self._held = self._whole = 0

    @asynccontextmanager
    async def read(self, receive: Receive, length: str) -> AsyncIterator[bytearray]:
        """Read a body, and hold it for as long as the block lasts. length: Content-Length.

        Raises RefusedError for one that is too large, or if too many are held; GoneError.
        """
        if length.isdecimal() and int(length[:20]) > self.most:
            raise self._too_large()
        body, more = bytearray(), True
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise GoneError
                piece, more = message.get("body", b""), message.get("more_body", False)
                self._hold(body, piece)
            with self._place():
                yield body
        finally:
            self._held -= len(body)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Take a place among those that are whole; one that still arrives takes none away."""
        if self._whole >= MOST_WHOLE:
            words = f"{MOST_WHOLE:,} requests are being taken already"
            raise RefusedError(HTTPStatus.TOO_MANY_REQUESTS, words, RETRY, outcome=BUSY)
        self._whole += 1
        try:
            yield
        finally:
            self._whole -= 1

    def _hold(self, body: bytearray, piece: bytes) -> None:
        if len(body) + len(piece) > self.most:
            raise self._too_large()
        if self._held + len(piece) > _AT_ONCE * self.most:
            words = "too much is being taken already"
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, words, RETRY, outcome=BUSY)
        body += piece
        self._held += len(piece)

    def _too_large(self) -> RefusedError:
        words = f"the body is larger than {self.most:,} bytes (source.otlp.request_body)"
        return RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, words, CLOSE)
