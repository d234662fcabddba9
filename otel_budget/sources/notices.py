"""What a source or the sidecar has to say in its log: once, and never as a flood."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping, Sequence

#: More lines of one kind at once become one line.
MOST_LINES: Final = 20
_NAMED: Final = 3
_LONGEST: Final = 200


def log_lines(logger: logging.Logger, level: int, lines: Mapping[str, str], many: str) -> None:
    """Log a line for each subject, or one for all of them if they are many.

    lines: what a line is about, to the line. many: what happened to all of them, such as ``runs
    ended``, to follow their number.
    """
    if len(lines) <= MOST_LINES:
        for line in lines.values():
            logger.log(level, "%s", line)
        return
    logger.log(level, "%s %s: %s", f"{len(lines):,}", many, some(list(lines), "; "))


def some(texts: Sequence[str], between: str, most: int = _NAMED) -> str:
    """Return the first few texts, and how many more there are."""
    more = len(texts) - most
    shown = between.join(texts[:most])
    return f"{shown}{between}and {more:,} more" if more > 0 else shown


def one_line(text: str) -> str:
    """Return what somebody else wrote as something a log can hold: one short, printable line."""
    words = " ".join(text.split())
    printable = "".join(c if c.isprintable() else "?" for c in words[: _LONGEST + 1])
    return printable if len(printable) <= _LONGEST else printable[: _LONGEST - 1] + "…"


class Notices:
    """Say of each subject what is wrong with it: once, and again after it was something else."""

    def __init__(self, logger: logging.Logger, many: str) -> None:
        """Have said nothing yet. many: as in ``log_lines``."""
        self._logger, self._many = logger, many
        self._said: dict[str, str] = {}

    def note(self, wrong: Mapping[str, str], level: int) -> None:
        """Take all that is wrong now, by subject; log what is new of it."""
        old = {key: line for key, line in wrong.items() if self._said.get(key) == line}
        new = {k: line for k, line in wrong.items() if k not in old}
        self._said = {**old, **new}
        log_lines(self._logger, level, new, self._many)
