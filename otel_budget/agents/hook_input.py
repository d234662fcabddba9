"""A hook's input from its bytes, however much of it is the output of tools.

What names the event comes first in it, and the rest may be megabytes that nobody here reads: of an
input that is larger than ``WHOLE``, only the members that are complete by then are taken. One that
an agent writes last is looked for in the last ``TAIL`` bytes.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from otel_budget.errors import InvalidValueError

#: Bytes up to which an input is read as a whole.
WHOLE: Final = 1_048_576
#: Bytes at the end of a larger one that are kept.
TAIL: Final = 16_384
_DECODER: Final = json.JSONDecoder()
_SPACE: Final = re.compile(r"[ \t\r\n]*")


def hook_input(head: bytes, *, is_whole: bool) -> object:
    """Return the JSON of a hook's input. head: its first bytes; all of them if it is whole.

    Raises InvalidValueError for what is not JSON, or begins as no object does.
    """
    try:
        if is_whole:
            return json.loads(head)
        return _members(head.decode("utf-8", "ignore"))
    except (ValueError, RecursionError) as exc:
        raise InvalidValueError("body", f"{len(head)} bytes", "one JSON object") from exc


def last_member(tail: bytes, name: str) -> object:
    """Return the last member of this name in the end of an input; None if it is not there whole.

    Its name in quotes is in no text: there the quotes are escaped.
    """
    text = tail.decode("utf-8", "ignore")
    quoted = json.dumps(name)
    at = text.rfind(quoted)
    if at < 0:
        return None
    at = _skip(text, at + len(quoted))
    if text[at : at + 1] != ":":
        return None
    try:
        value, _ = _DECODER.raw_decode(text, _skip(text, at + 1))
    except (ValueError, RecursionError):
        return None
    return value


def _members(text: str) -> dict[str, Any]:
    """Return the members of an object that are complete in its beginning."""
    found: dict[str, Any] = {}
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        raise ValueError("no object")
    try:
        while text[at : at + 1] in ("{", ","):
            key, at = _DECODER.raw_decode(text, _skip(text, at + 1))
            at = _skip(text, at)
            if at == len(text):
                break
            if not isinstance(key, str) or text[at] != ":":
                raise ValueError("no member")
            value, at = _DECODER.raw_decode(text, _skip(text, at + 1))
            at = _skip(text, at)
            if at < len(text):  # else it may be a number that goes on
                found[key] = value
    except json.JSONDecodeError:
        pass  # it is cut off here
    return found


def _skip(text: str, at: int) -> int:
    """Return where the next thing that is no space begins."""
    match = _SPACE.match(text, at)
    return at if match is None else match.end()
