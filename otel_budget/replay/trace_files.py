"""Files of traces, in the order of time: read as they come, never as a whole.

Lines of a file may be up to a second out of order; they are put in order. More is a mistake of who
wrote it, or two traces in one file, and is refused with its line. Several files are merged; lines
of the same time stay as they stand, those of an earlier file first.
"""

from __future__ import annotations

import gzip
import heapq
import math
import sys
import zlib
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from otel_budget.errors import InvalidValueError
from otel_budget.replay.trace_json import LINE_MOST, read_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO

    from otel_budget.replay.trace import TraceLine
    from otel_budget.sdk.pricing.prices import Prices

#: Names standard input.
STDIN: Final = "-"
#: Seconds by which a line may be older than one before it; and what floats of 1e9 may be off by.
_OUT_OF_ORDER, _ROUNDED = 1.0, 1e-6
#: Lines within a second, of which all have to be held.
_HELD_MOST: Final = 1_000_000
#: Lines from one report of how much was read to the next.
_REPORT_EVERY: Final = 2048


def read_traces(
    paths: Sequence[str], prices: Prices, on_read: Callable[[int], None] = lambda _bytes: None
) -> Iterator[TraceLine]:
    """Yield the lines of all files in the order of time.

    paths: ``-`` is standard input; what ends with ``.gz`` is unpacked. on_read: is told now and
    then how many more bytes of the files were read. Raises InvalidValueError with file and line,
    also where there is no line at all, or standard input is to be read twice.
    """
    if list(paths).count(STDIN) > 1:
        sentence = "is named twice, and can be read once"
        raise InvalidValueError("", None, "", where=_name(STDIN), sentence=sentence)
    each = [in_order(_lines(path, prices, on_read)) for path in paths]
    some = False
    for line in each[0] if len(each) == 1 else heapq.merge(*each, key=attrgetter("at")):
        some = True
        yield line
    if not some:
        sentence = "it has no lines, so there is nothing to read"
        raise InvalidValueError("", None, "", where=", ".join(map(_name, paths)), sentence=sentence)


def in_order(lines: Iterable[TraceLine]) -> Iterator[TraceLine]:
    """Yield lines that are up to a second out of order in their order.

    Raises InvalidValueError for one that is further.
    """
    held: list[tuple[float, int, TraceLine]] = []
    newest = -math.inf
    for number, line in enumerate(lines):
        if line.at > newest:
            newest = line.at
        elif newest - line.at > _OUT_OF_ORDER + _ROUNDED:
            sentence = (
                f"is {newest - line.at:.3f} s older than a line before it: lines stand in the "
                "order of time, to within a second"
            )
            raise InvalidValueError("t", line.at, "", where=line.where, sentence=sentence)
        heapq.heappush(held, (line.at, number, line))
        while held[0][0] < newest - _OUT_OF_ORDER - 2 * _ROUNDED:
            yield heapq.heappop(held)[2]
        if len(held) > _HELD_MOST:
            sentence = f"more than {_HELD_MOST:,} lines within a second"
            raise InvalidValueError("t", line.at, "", where=line.where, sentence=sentence)
    while held:
        yield heapq.heappop(held)[2]


def size_of(paths: Sequence[str]) -> int | None:
    """Return the bytes of all files together; None if that cannot be told beforehand."""
    try:
        return sum(Path(path).stat().st_size for path in paths) if STDIN not in paths else None
    except OSError:
        return None  # reading it says what is wrong


def _lines(path: str, prices: Prices, on_read: Callable[[int], None]) -> Iterator[TraceLine]:
    name, number, told = _name(path), 0, 0
    with _opened(path) as (raw, file):
        while True:
            where = f"{name}:{number + 1}"
            text = _next(file, where)
            if not text:
                break
            number += 1
            if number % _REPORT_EVERY == 0 and raw is not None:
                at = raw.tell()
                on_read(at - told)
                told = at
            if not text.isspace():
                yield read_line(_decoded(text, where), where, prices)
        if raw is not None:
            on_read(raw.tell() - told)


@contextmanager
def _opened(path: str) -> Iterator[tuple[BinaryIO | None, BinaryIO]]:
    """Open a file of lines; with what tells how far it was read, if anything does."""
    if path == STDIN:
        yield None, sys.stdin.buffer
        return
    try:
        raw = Path(path).open("rb")  # noqa: SIM115 - closed below; opening it is what may fail here
    except OSError as exc:
        raise _unreadable(path, exc) from exc
    with raw:
        told = raw if raw.seekable() else None  # a pipe does not tell how far it was read
        if not path.endswith(".gz"):
            yield told, raw
            return
        with gzip.GzipFile(fileobj=raw) as unpacked:
            yield told, cast("BinaryIO", unpacked)


def _next(file: BinaryIO, where: str) -> bytes:
    """Return the next line; nothing at the end."""
    try:
        text = file.readline(LINE_MOST + 1)
    except (OSError, EOFError, zlib.error) as exc:
        raise _unreadable(where, exc) from exc
    if len(text) > LINE_MOST:
        sentence = f"a line of more than {LINE_MOST:,} bytes"
        raise InvalidValueError("", None, "", where=where, sentence=sentence)
    return text


def _decoded(text: bytes, where: str) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as exc:
        sentence = "it is not UTF-8"
        raise InvalidValueError("", None, "", where=where, sentence=sentence) from exc


def _unreadable(where: str, error: Exception) -> InvalidValueError:
    said: Any = getattr(error, "strerror", None) or error
    return InvalidValueError("", None, "", where=where, sentence=f"cannot be read: {said}")


def _name(path: str) -> str:
    return "standard input" if path == STDIN else path
