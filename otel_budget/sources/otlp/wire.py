"""How many messages a protobuf body holds, before it is parsed.

An empty message takes two bytes of a body and many times as much in memory: a body within its bound
could take more than there is. So a large one is walked through first, down to where messages may
stand, and refused once there are too many. Nothing in it is judged: that the parser does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from otel_budget.sources.otlp.messages import OtlpError

#: Number of a field to the message that is in it.
Fields: TypeAlias = Mapping[int, "Fields"]

#: Bytes of a body that is not walked through: however it is made up, it takes little.
SMALL: Final = 1_000_000
MESSAGES_MOST: Final = 2_000_000
_LENGTH_DELIMITED: Final = 2
_FIXED: Final = {1: 8, 5: 4}
_SHIFTS: Final = range(0, 70, 7)

_ANY: dict[int, Fields] = {}
_PAIR: Final[Fields] = {2: _ANY}
_ANY.update({5: {1: _ANY}, 6: {1: _PAIR}})
_RESOURCE: Final[Fields] = {1: _PAIR, 3: {}}
_SCOPE: Final[Fields] = {3: _PAIR}
_EXEMPLAR: Final[Fields] = {7: _PAIR}
_NUMBER: Final[Fields] = {7: _PAIR, 5: _EXEMPLAR}
_HISTOGRAM: Final[Fields] = {9: _PAIR, 8: _EXEMPLAR}
_EXPONENTIAL: Final[Fields] = {1: _PAIR, 8: {}, 9: {}, 11: _EXEMPLAR}
_SUMMARY: Final[Fields] = {7: _PAIR, 6: {}}
_METRIC: Final[Fields] = {
    5: {1: _NUMBER},
    7: {1: _NUMBER},
    9: {1: _HISTOGRAM},
    10: {1: _EXPONENTIAL},
    11: {1: _SUMMARY},
    12: _PAIR,
}
METRICS: Final[Fields] = {1: {1: _RESOURCE, 2: {1: _SCOPE, 2: _METRIC}}}
LOGS: Final[Fields] = {1: {1: _RESOURCE, 2: {1: _SCOPE, 2: {5: _ANY, 6: _PAIR}}}}


def check(body: bytes, fields: Fields) -> None:
    """Refuse a body with more than ``MESSAGES_MOST``, or cut off. Raises OtlpError."""
    if len(body) <= SMALL:
        return
    try:
        _walk(body, fields, MESSAGES_MOST)
    except IndexError as exc:
        raise OtlpError("the body is cut off") from exc


def _walk(body: bytes, fields: Fields, most: int) -> None:
    waiting: list[tuple[int, int, Fields]] = [(0, len(body), fields)]
    while waiting:
        at, end, known = waiting.pop()
        while at < end:
            tag, at = _number(body, at)
            kind = tag & 7
            if kind == _LENGTH_DELIMITED:
                size, at = _number(body, at)
                inner = known.get(tag >> 3)
                if inner is not None:
                    most -= 1
                    if most < 0:
                        raise OtlpError("too many messages in one body")
                    if inner and size:
                        waiting.append((at, min(at + size, end), inner))
                at += size
            elif kind in _FIXED:
                at += _FIXED[kind]
            else:
                _, at = _number(body, at)


def _number(body: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at a place, and where the next one does."""
    byte = body[at]
    if byte < 128:  # noqa: PLR2004 - the bit that says that more follow
        return byte, at + 1
    number = 0
    for shift in _SHIFTS:
        byte = body[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:  # noqa: PLR2004 - the same
            return number, at
    raise OtlpError("a number in the body is too long")
