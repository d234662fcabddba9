"""The end of the pipe that the watchdog listens at; see ``watchdog``."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCRIPT: Final = Path(__file__).with_name("watchdog.py")
_PATIENCE: Final = 5.0


class Watch:
    """Tells the watchdog what to end, should this process be gone."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Take the process that watches."""
        self._process = process

    def tell(self, line: str) -> None:
        """Tell it of something."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it was ended by force: there is no other
                self._process.stdin.write(f"{line}\n")
                self._process.stdin.flush()

    def leave(self) -> None:
        """Leave it to what it was told of, as if this process were gone."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def end(self) -> None:
        """Have it do nothing, and end."""
        self.tell("bye")
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._process.communicate(timeout=_PATIENCE)


@contextlib.contextmanager
def watched() -> Iterator[Watch]:
    """Start a watchdog; it ends in order with the block.

    A block that breaks leaves a program that nobody watches: the watchdog ends that one, and the
    rest of what it was told of.
    """
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-I", "-S", str(_SCRIPT)], stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL, start_new_session=True, text=True,
    )  # fmt: skip
    watch = Watch(process)
    try:
        yield watch
    except BaseException:
        watch.leave()
        raise
    watch.end()
