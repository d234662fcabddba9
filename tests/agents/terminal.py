"""A real terminal (tmux) for the interactive programs: type, press keys, read the screen."""

from __future__ import annotations

import subprocess
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.support.real import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.agents.home import Home

_COLUMNS, _ROWS = 150, 50
_LOOK = 0.1


class Terminal:
    """A terminal with a shell in it."""

    def __init__(self, tmux: str, socket: str) -> None:
        """Keep how to reach it."""
        self._tmux = (tmux, "-S", socket, "-f", "/dev/null")

    def tell(self, *command: str, env: dict[str, str] | None = None, cwd: str = "/") -> str:
        """Give tmux a command and return what it says."""
        done = subprocess.run(
            (*self._tmux, *command), env=env, cwd=cwd, capture_output=True, text=True,
            timeout=10, check=False,
        )  # fmt: skip
        return done.stdout

    def type(self, text: str) -> None:
        """Type a text, without Enter."""
        self.tell("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names: Enter, Escape, C-c."""
        for key in keys:
            self.tell("send-keys", key)

    def enter(self, text: str) -> None:
        """Type a text, and press Enter once it is on the screen: not at once, as if pasted."""
        self.type(text)
        self.until(text)
        time.sleep(0.7)
        self.press("Enter")

    def screen(self) -> str:
        """Return what stands on the screen, and what has gone off its top."""
        return self.tell("capture-pane", "-p", "-J", "-S", "-500")

    def until(self, text: str | Callable[[str], bool], timeout: float = 20) -> str:
        """Wait until a text stands on the screen, or what is asked of it holds; return the screen.

        Line breaks of the program's own are not in the way of a text.
        """
        end = time.monotonic() + timeout
        while True:
            screen = self.screen()
            if text(screen) if callable(text) else _in_one(text) in _in_one(screen):
                return screen
            assert time.monotonic() < end, f"{text!r} is not on the screen:\n{screen}"
            time.sleep(_LOOK)

    def has_ended(self, within: float) -> bool:
        """Return whether a program that `start` has started ends within so many seconds."""
        end = time.monotonic() + within
        while "ENDED=" not in self.screen().split("#STARTED")[-1]:
            if time.monotonic() > end:
                return False
            time.sleep(_LOOK)
        return True

    def ended(self, timeout: float = 20) -> int:
        """Wait for the end of a program that `start` has started; return its exit status."""
        screen = self.until(lambda seen: "ENDED=" in seen.split("#STARTED")[-1], timeout)
        return int(screen.rsplit("ENDED=", 1)[1].split()[0])

    def start(self, *command: str) -> None:
        """Start a program in the shell."""
        quoted = " ".join("'" + part.replace("'", "'\\''") + "'" for part in command)
        self.enter(f"clear; {quoted}; echo ENDED=$? #STARTED")

    def is_sane(self) -> bool:
        """Return whether lines are edited and shown by the terminal, as a shell wants it."""
        self.enter('clear; stty -a; echo MODES""SEEN')
        modes = self.until("MODESSEEN").split()
        return {"icanon", "isig", "echo", "opost"} <= {mode.rstrip(";") for mode in modes}


def _in_one(text: str) -> str:
    return "".join(text.split())


@contextmanager
def terminal(home: Home) -> Iterator[Terminal]:
    """Open a terminal with a plain shell in a home."""
    tmux = require("tmux")
    # A socket's path may not be long.
    with tempfile.TemporaryDirectory(prefix="tty") as folder:
        opened = Terminal(tmux, f"{folder}/s")
        size = ("-x", str(_COLUMNS), "-y", str(_ROWS))
        shell = ("bash", "--noprofile", "--norc", "-i")
        opened.tell(
            "new-session", "-d", *size, *shell, env=home.env | {"PS1": "$ "}, cwd=str(home.work)
        )
        try:
            opened.until("$")
            yield opened
        finally:
            opened.tell("kill-server")
