"""What is said on stderr while a program runs, and the terminal as it was before.

The program writes to the same terminal. So the line on its budget has the last row to itself: the
program's output scrolls above it. A program on the whole terminal gets no such line.
"""

from __future__ import annotations

import contextlib
import os
import sys
import termios
import time
from typing import TYPE_CHECKING, Any, Final

from otel_budget.launcher import summary
from otel_budget.logs.text import printable

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from otel_budget.core.verdict import Verdict

_EVERY: Final = 0.25
_SAVE, _BACK, _CLEAR_LINE = "\x1b7", "\x1b8", "\x1b[2K"
#: What a program that was ended may have left on: the other screen, a hidden cursor, the mouse,
#: brackets around what is pasted, keys in another spelling.
_LEFT_ON: Final = (
    "\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[<u"
)
_LEAST_ROWS: Final = 3


class Screen:
    """Stderr, and the terminal behind it."""

    def __init__(self, *, live: bool) -> None:
        """Touch nothing yet. live: whether a line on the budget may be shown."""
        self.colour = is_terminal(2) and "NO_COLOR" not in os.environ
        self._live = live and is_terminal(2) and os.environ.get("TERM", "dumb") != "dumb"
        self._rows = 0
        self._shown_at = 0.0
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        """Remember how the terminal is."""
        with contextlib.suppress(termios.error, ValueError, OSError):
            self._before = termios.tcgetattr(0)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _exc: object, _trace: TracebackType | None
    ) -> None:
        """Give the last row back."""
        if self._rows:
            self._write(f"{_SAVE}\x1b[r\x1b[{self._rows};1H{_CLEAR_LINE}{_BACK}")
            self._rows = 0

    def restore(self) -> None:
        """Set the terminal as it was: the program was ended before it could."""
        if self._before is None:
            return
        with contextlib.suppress(termios.error, OSError):
            termios.tcsetattr(0, termios.TCSADRAIN, self._before)
        if is_terminal(2):
            self._write(_LEFT_ON)

    def print(self, text: str) -> None:
        """Print some lines as they are."""
        self._write(f"{text}\n")

    def say(self, text: str) -> None:
        """Say one line."""
        self._write(f"otel-budget: {printable(text)}\n")

    def alarm(self, text: str) -> None:
        """Say what must be seen, line by line."""
        shown = "\n".join(map(printable, text.splitlines()))
        self._write(
            f"\x1b[31motel-budget: {shown}\x1b[0m\n" if self.colour else f"otel-budget: {shown}\n"
        )

    def show(self, verdict: Verdict | None) -> None:
        """Show how the run is, in the last row."""
        now = time.monotonic()
        if not self._live or now - self._shown_at < _EVERY:
            return
        self._shown_at = now
        with contextlib.suppress(OSError):
            columns, rows = os.get_terminal_size(2)
            if rows < _LEAST_ROWS:
                return
            begin = ""
            if rows != self._rows:
                # A new row at the end, and all but that one scroll.
                begin = f"\n{_SAVE}\x1b[1;{rows - 1}r{_BACK}\x1b[1A"
                self._rows = rows
            text = printable(summary.line(verdict))[: columns - 1]
            self._write(f"{begin}{_SAVE}\x1b[{rows};1H{_CLEAR_LINE}\x1b[7m{text}\x1b[0m{_BACK}")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()


def has_terminal() -> bool:
    """Tell whether this process is in the foreground of a terminal, whatever its stdin is."""
    try:
        with open("/dev/tty", "rb", buffering=0) as terminal:  # noqa: PTH123 - no file to be read
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def is_terminal(descriptor: int) -> bool:
    """Tell whether 0, 1 or 2 is a terminal."""
    try:
        return os.isatty(descriptor)
    except OSError:
        return False
