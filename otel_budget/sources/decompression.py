"""Unpack an answer piece by piece: all of it or an error, and never more than was asked for.

A gzip may have several members (RFC 1952, 2.2), which are one text: to read the first alone would
take a part for the whole.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from otel_budget.errors import OtelBudgetError

if TYPE_CHECKING:
    from collections.abc import Iterator

_GZIP: Final = zlib.MAX_WBITS | 16
#: Bytes that are unpacked at once: little enough for others to have their turn in between.
_STEP: Final = 262_144
#: Each member takes time, however little is in it.
_MOST_MEMBERS: Final = 10_000


class UnpackError(OtelBudgetError):
    """Say why an answer cannot be unpacked as a whole."""


class Plain:
    """An answer that is not packed."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield it as it is."""
        yield piece

    def finish(self) -> None:
        """Do nothing: the protocol has checked its length."""


class Gzip:
    """An answer that is packed with gzip."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._members = 1

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield what a piece unpacks to, in bounded steps. Raises UnpackError."""
        more = False
        while piece or more:
            if self._member.eof:
                self._members += 1
                if self._members > _MOST_MEMBERS:
                    raise UnpackError(f"is compressed in more than {_MOST_MEMBERS:,} members")
                self._member = zlib.decompressobj(_GZIP)
            try:
                unpacked = self._member.decompress(piece, _STEP)
            except zlib.error as exc:
                # Garbage behind a member is the beginning of one that is none.
                raise UnpackError(f"cannot be decompressed: {exc}") from exc
            over = self._member.eof
            piece = self._member.unused_data if over else self._member.unconsumed_tail
            more = not over and len(unpacked) == _STEP  # it may have taken in all, and given less
            yield unpacked

    def finish(self) -> None:
        """Check that the last member is whole. Raises UnpackError."""
        if not self._member.eof:
            raise UnpackError("ends in the middle")


def unpacker(encodings: str) -> Plain | Gzip:
    """Return what unpacks an answer. encodings: its ``Content-Encoding``. Raises UnpackError."""
    words = [word.strip().lower() for word in encodings.split(",")]
    packed = [word for word in words if word not in ("", "identity")]
    if not packed:
        return Plain()
    if packed in (["gzip"], ["x-gzip"]):
        return Gzip()
    raise UnpackError(f"is compressed with {', '.join(packed)!r}, which was not asked for")
