"""What a packed answer unpacks to: all of it, or an error."""

import gzip
import zlib

import pytest

from otel_budget.sources.decompression import UnpackError, unpacker

TEXT = b"otel_budget_tokens_total 5\n" * 40_000


def unpacked(body: bytes, encodings: str = "gzip", step: int = 1000) -> bytes:
    """Unpack a body that arrives in pieces."""
    unpack = unpacker(encodings)
    pieces = [body[at : at + step] for at in range(0, len(body), step)]
    found = b"".join(part for piece in pieces for part in unpack.feed(piece))
    unpack.finish()
    return found


@pytest.mark.parametrize("step", [1, 7, 1000, 10_000_000])
@pytest.mark.parametrize("members", [1, 2, 5])
def test_all_members_of_a_gzip_are_one_text(members: int, step: int) -> None:
    """Wherever the pieces are cut, in which it arrives."""
    size = -(-len(TEXT) // members)
    body = b"".join(gzip.compress(TEXT[at : at + size]) for at in range(0, len(TEXT), size))
    assert unpacked(body, step=step) == TEXT


def test_members_that_hold_nothing_change_nothing() -> None:
    """As a server writes that flushes before it has anything."""
    empty = gzip.compress(b"")
    assert unpacked(empty + gzip.compress(TEXT) + empty + empty) == TEXT


def test_what_unpacks_to_many_times_its_size_comes_in_steps() -> None:
    """So that a size can be held before all of it is in memory."""
    parts = list(unpacker("gzip").feed(gzip.compress(b"\0" * 50_000_000)))
    assert sum(map(len, parts)) == 50_000_000
    assert max(map(len, parts)) <= 262_144


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "ends in the middle"),
        (gzip.compress(TEXT)[:-9], "ends in the middle"),
        (gzip.compress(TEXT) + gzip.compress(TEXT)[:-9], "ends in the middle"),
        (gzip.compress(TEXT) + gzip.compress(TEXT)[:10], "ends in the middle"),
        (gzip.compress(TEXT) + b"garbage", "cannot be decompressed"),
        (gzip.compress(TEXT) + b"\0" * 9, "cannot be decompressed"),
        (gzip.compress(TEXT)[:-8] + b"\0" * 8, "cannot be decompressed"),
        (zlib.compress(TEXT), "cannot be decompressed"),
        (TEXT, "cannot be decompressed"),
        (gzip.compress(b"") * 10_001, "more than 10,000 members"),
    ],
)
def test_what_is_not_a_whole_gzip_is_refused(body: bytes, words: str) -> None:
    """A part is never taken for the whole."""
    with pytest.raises(UnpackError, match=words):
        unpacked(body)


def test_a_name_for_gzip_and_one_for_nothing_are_understood() -> None:
    """HTTP has two names for gzip, and one for an answer that is not packed."""
    packed = gzip.compress(TEXT)
    for encodings in ("gzip", "GZIP", "x-gzip", "gzip, identity", " gzip "):
        assert unpacked(packed, encodings) == TEXT
    for encodings in ("", "identity", "identity, identity"):
        assert unpacked(TEXT, encodings) == TEXT


@pytest.mark.parametrize("encodings", ["deflate", "br", "zstd", "gzip, gzip", "aws-chunked"])
def test_other_packings_were_not_asked_for(encodings: str) -> None:
    """They are named in the error."""
    with pytest.raises(UnpackError, match=f"compressed with '{encodings}', which was not"):
        unpacker(encodings)
