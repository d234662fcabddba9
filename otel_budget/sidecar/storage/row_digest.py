"""A digest in each stored row: a bit that flipped on the disk is seen, not believed.

It is the last key of the row's JSON object, which readers of before do not look at; a row without
one was written by such a version.
"""

from __future__ import annotations

import hashlib

_BEGIN = ',"digest":"'
_END = '"}'
_BYTES = 8
_LENGTH = len(_BEGIN) + 2 * _BYTES + len(_END)


def sealed(text: str, *place: str) -> str:
    """Return a JSON object with the digest of its text. place: what the row is, or is of."""
    return f"{text[:-1]}{_BEGIN}{_digest(text[:-1], place)}{_END}"


def unsealed(stored: bytes, *place: str) -> str:
    """Return the JSON object that ``sealed`` was given, or one of an older version as it is.

    Raises ValueError for a text that was altered since.
    """
    text = stored.decode()
    begin = len(text) - _LENGTH
    if begin < 0 or not (text.startswith(_BEGIN, begin) and text.endswith(_END)):
        return text
    if text[begin + len(_BEGIN) : -len(_END)] != _digest(text[:begin], place):
        raise ValueError("altered since it was written: its digest is another one")
    return f"{text[:begin]}}}"


def _digest(text: str, place: tuple[str, ...]) -> str:
    content = "\0".join((*place, text)).encode()
    return hashlib.blake2b(content, digest_size=_BYTES).hexdigest()
