"""Attributes of a resource, a point or a record: those that are asked for, and a digest of all.

The digest tells streams apart by what is not kept. It must come out the same for the same
attributes in both encodings, in any order, and after a restart: the ledger has it in its keys.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Final

from otel_budget.sources.otlp.messages import ATTRIBUTES_MOST, LONGEST_VALUE, OtlpError, Scalar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    #: Tells whether the attribute of a name is kept.
    Keep = Callable[[str], bool]

#: Values that no attribute is kept with, but that tell streams apart: nested ones, and none at all.
Nested = tuple[object, ...]
Value = Scalar | bytes | Nested | None
_DIGEST_BYTES: Final = 8
_BETWEEN: Final = "\x00"


def taken(
    pairs: Iterable[tuple[str, Value]], keep: Keep, *of: str
) -> tuple[dict[str, Scalar], str]:
    """Return the attributes to keep, and a digest of all of them. of: what else is in it.

    Raises OtlpError if they are too many.
    """
    kept: dict[str, Scalar] = {}
    texts: list[str] = []
    for key, value in pairs:
        if len(texts) >= ATTRIBUTES_MOST:
            raise OtlpError(f"more than {ATTRIBUTES_MOST} attributes in one place")
        texts.append(f"{key}\x01{_text(value)}")
        if value is not None and keep(key):
            kept[key] = _plain(value)
    texts.sort()
    return kept, digest_of(*of, *texts)


def kept(pairs: Iterable[tuple[str, Value]], keep: Keep) -> dict[str, Scalar]:
    """Return the attributes to keep, where nothing need be told apart. Raises as ``taken``."""
    found: dict[str, Scalar] = {}
    for number, (key, value) in enumerate(pairs):
        if number >= ATTRIBUTES_MOST:
            raise OtlpError(f"more than {ATTRIBUTES_MOST} attributes in one place")
        if value is not None and keep(key):
            found[key] = _plain(value)
    return found


def digest_of(*texts: str) -> str:
    """Return a short digest of some texts, which is the same everywhere."""
    joined = _BETWEEN.join(texts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(joined, digest_size=_DIGEST_BYTES).hexdigest()


def _plain(value: Value) -> Scalar:
    """Return what is kept of a value: of bytes, lists and mappings that there is one, no more.

    An amount, or a limit, is there then, and cannot be read; it is not absent.
    """
    if isinstance(value, str):
        return value[:LONGEST_VALUE]
    return value if isinstance(value, Scalar) else ""


def _text(value: Value) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return "" if value is None else repr(value)
