"""Changes to a JSON file that leave every other character of it as it was.

A file that people write has an order, an indentation and line breaks of their own. What is put in
comes in front of what is there, so that no other line changes. What is not plain JSON, but has
comments, say, is refused and never rewritten.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_budget.errors import OtelBudgetError

if TYPE_CHECKING:
    from collections.abc import Callable

    Path = tuple[str, ...]

_DECODER: Final = json.JSONDecoder()
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_INDENT: Final = re.compile(r"\n([ \t]+)\S")
_USUAL: Final = "  "


class JsonTextError(OtelBudgetError, ValueError):
    """Say why a text cannot be changed."""


class _Part(NamedTuple):
    """A member of an object, or an item of an array."""

    key: str
    """Empty for an item."""
    start: int
    """Of the key, or of the item."""
    value: int
    """Where the value begins."""
    end: int


class _Container(NamedTuple):
    """An object or an array in a text."""

    start: int
    """Behind its bracket."""
    parts: list[_Part]
    end: int
    """Of its closing bracket."""


def parsed(text: str) -> dict[str, Any]:
    """Return the object that a text is. Raises JsonTextError for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise JsonTextError(f"is not plain JSON ({exc}), and is left alone") from exc
    if not isinstance(found, dict):
        raise JsonTextError("holds no JSON object, and is left alone")
    return found


def with_member(text: str, path: Path, value: object) -> str:
    """Return a text in which the member at a path has a value; objects on the way are made.

    Raises JsonTextError where something else is in the way.
    """
    parsed(text)
    at = _skip(text, 0)
    for depth, key in enumerate(path):
        if text[at] != "{":
            raise JsonTextError(f"has no object at {'.'.join(path[:depth])}, and is left alone")
        here = _container(text, at)
        part = _found(here, key, path)
        if part is None:
            for name in reversed(path[depth + 1 :]):
                value = {name: value}
            return _inserted(text, here, f"{json.dumps(key)}: ", value)
        if depth == len(path) - 1:
            written = _written(value, _indent_of(text, part.start), text)
            return text[: part.value] + written + text[part.end :]
        at = part.value
    raise JsonTextError("a member has a name")


def with_item(text: str, path: Path, item: object, *, at_end: bool = False) -> str:
    """Return a text with an item at the beginning of the array at a path, which is made if need be.

    at_end: behind the others, where these are known by their numbers. Raises JsonTextError where
    something else is in the way.
    """
    at = _place(text, path)
    if at is None:
        return with_member(text, path, [item])
    if text[at] != "[":
        raise JsonTextError(f"has no array at {'.'.join(path)}, and is left alone")
    here = _container(text, at)
    return _appended(text, here, item) if at_end else _inserted(text, here, "", item)


def without_member(text: str, path: Path) -> str:
    """Return a text without the member at a path, and without the objects that are empty then."""
    at = _place(text, path[:-1])
    if at is None or text[at] != "{":
        return text
    here = _container(text, at)
    part = _found(here, path[-1], path)
    return text if part is None else _pruned(_taken_out(text, here, part), path[:-1])


def without_items(text: str, path: Path, whether: Callable[[Any], bool]) -> str:
    """Return a text without those items of an array, and without what is empty then."""
    while True:
        at = _place(text, path)
        if at is None or text[at] != "[":
            return text
        here = _container(text, at)
        ours = [part for part in here.parts if whether(json.loads(text[part.value : part.end]))]
        if not ours:
            return text
        text = _taken_out(text, here, ours[0])
        if len(here.parts) == 1:
            return without_member(text, path)


def _pruned(text: str, path: Path) -> str:
    at = _place(text, path)
    is_empty = path and at is not None and not _container(text, at).parts
    return without_member(text, path) if is_empty else text


def _place(text: str, path: Path) -> int | None:
    """Return where the value at a path begins; None if there is none."""
    parsed(text)
    at = _skip(text, 0)
    for key in path:
        part = _found(_container(text, at), key, path) if text[at] == "{" else None
        if part is None:
            return None
        at = part.value
    return at


def _found(here: _Container, key: str, path: Path) -> _Part | None:
    same = [part for part in here.parts if part.key == key]
    if len(same) > 1:
        raise JsonTextError(f"has {'.'.join(path)} twice, and is left alone")
    return same[0] if same else None


def _container(text: str, at: int) -> _Container:
    """Return the parts of the object or array that begins here; the text is JSON."""
    is_object, start, parts = text[at] == "{", at + 1, []
    at = _skip(text, start)
    while text[at] not in "}]":
        key, begin = "", at
        if is_object:
            key, at = _DECODER.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)
        value = at
        _, at = _DECODER.raw_decode(text, at)
        parts.append(_Part(key, begin, value, at))
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return _Container(start, parts, at)


def _inserted(text: str, here: _Container, name: str, value: object) -> str:
    """Return a text with a part in front of those that a container has."""
    if here.parts:
        gap = text[here.start : here.parts[0].start]
        indent = _indent_of(text, here.parts[0].start) if "\n" in gap else None
        added = f"{gap}{name}{_written(value, indent, text)},"
        rest = text[here.start :] if gap else f" {text[here.start :]}"
        return text[: here.start] + added + rest
    outer = _indent_of(text, here.start)
    if "\n" not in text.strip() and len(text.strip()) > len("{}"):
        return f"{text[: here.start]}{name}{_written(value, None, text)}{text[here.end :]}"
    newline = _newline(text)
    indent = outer + _unit(text)
    added = f"{newline}{indent}{name}{_written(value, indent, text)}{newline}{outer}"
    return text[: here.start] + added + text[here.end :]


def _appended(text: str, here: _Container, item: object) -> str:
    """Return a text with an item behind those that an array has."""
    if not here.parts:
        return _inserted(text, here, "", item)
    gap, end = text[here.start : here.parts[0].start], here.parts[-1].end
    indent = _indent_of(text, here.parts[0].start) if "\n" in gap else None
    added = f",{gap or ' '}{_written(item, indent, text)}"
    return text[:end] + added + text[end:]


def _taken_out(text: str, here: _Container, part: _Part) -> str:
    """Return a text without a part, its comma, and the space in front of it."""
    at = here.parts.index(part)
    if len(here.parts) == 1:
        return text[: here.start] + text[here.end :]
    if at == 0:
        return text[: part.start] + text[here.parts[1].start :]
    return text[: here.parts[at - 1].end] + text[part.end :]


def _written(value: object, indent: str | None, text: str) -> str:
    """Return a value as JSON. indent: of the line it begins on; None: all on one line."""
    if indent is None:
        return json.dumps(value, ensure_ascii=False)
    lines = json.dumps(value, ensure_ascii=False, indent=_unit(text))
    return lines.replace("\n", _newline(text) + indent)


def _indent_of(text: str, at: int) -> str:
    """Return the space at the beginning of the line of a place."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _unit(text: str) -> str:
    match = _INDENT.search(text)
    return _USUAL if match is None else match.group(1)


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()
