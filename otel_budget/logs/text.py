"""Text that others wrote, made fit for a log or a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST: Final = 200
_NAMED: Final = 3


def printable(text: str) -> str:
    """Return text with a ``?`` for each character that cannot be printed, line ends included."""
    return "".join(c if c.isprintable() else "?" for c in text)


def one_line(text: str, longest: int = _LONGEST) -> str:
    """Return text as one short printable line. longest: in characters."""
    words = printable(" ".join(text.split())[: longest + 1])
    return words if len(words) <= longest else words[: longest - 1] + "…"


def some(texts: Sequence[str], between: str, most: int = _NAMED) -> str:
    """Return the first few texts, and how many more there are."""
    more = len(texts) - most
    shown = between.join(texts[:most])
    return f"{shown}{between}and {more:,} more" if more > 0 else shown
