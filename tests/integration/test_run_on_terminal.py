"""``otel-budget run`` on a terminal: its keys, its modes, and the line on the budget."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.integration.test_run import environment, fake, is_gone
from tests.support.processes import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_COLUMNS, _ROWS = 100, 24


class Typed:
    """A program on a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], end: int) -> None:
        """Take it and this end of the terminal."""
        self.process, self._end, self.shown = process, end, ""

    def until(self, text: str, seconds: float = 60) -> str:
        """Wait until something is shown."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            self._read(0.1)
        return self.shown

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._end, keys)

    def ended(self, seconds: float = 120) -> int:
        """Wait for its end; return its exit status."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.shown
            self._read(0.1)
        self._read(0.3)
        return int(self.process.returncode)

    def is_sane(self) -> bool:
        """Tell whether the terminal shows and edits lines, and makes signals of keys."""
        wanted = termios.ECHO | termios.ICANON | termios.ISIG
        return bool(termios.tcgetattr(self._end)[3] & wanted == wanted)

    def _read(self, seconds: float) -> None:
        while select.select([self._end], [], [], seconds)[0]:
            try:
                got = os.read(self._end, 65536)
            except OSError:  # nobody has the other end any more
                return
            if not got:
                return
            self.shown += got.decode(errors="replace")
            seconds = 0.0


@contextmanager
def on_terminal(
    folder: Path, flags: str, *command: str, shell: str | None = None
) -> Iterator[Typed]:
    """Run a program on a new terminal, in whose foreground ``otel-budget run`` is.

    shell: a script that starts it instead.
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (_ROWS, _COLUMNS))

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    starts = () if shell is None else (sys.executable, "-c", shell)
    process = subprocess.Popen(
        [*starts, sys.executable, "-m", "otel_budget", "run", *flags.split(), "--", *command],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder,
        preexec_fn=take_terminal,  # noqa: PLW1509 - there is no other way to give it a terminal
        env=environment() | {"TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Typed(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


COUNTS_INTERRUPTS = """
import signal, sys, time
heard = []
signal.signal(signal.SIGINT, lambda *_: heard.append(1))
print("ready", flush=True)
while not heard: time.sleep(0.01)
time.sleep(0.5)
signal.signal(signal.SIGINT, signal.SIG_IGN)  # else Python's end would let the next one through
print("interrupts", len(heard), flush=True)
sys.exit(9)
"""


def python(script: str) -> tuple[str, ...]:
    """Return the command of a script."""
    return (sys.executable, "-c", script)


def test_ctrl_c_reaches_the_program_once(tmp_path: Path) -> None:
    with on_terminal(tmp_path, "--max-tokens 100", *python(COUNTS_INTERRUPTS)) as typed:
        typed.until("ready")
        typed.type(b"\x03")
        typed.until("interrupts 1")
        assert typed.ended() == 9


def test_one_who_goes_on_pressing_ctrl_c_changes_nothing(tmp_path: Path) -> None:
    kept = f"--max-tokens 100 --storage {tmp_path / 'kept.db'}"
    with on_terminal(tmp_path, kept, *python(COUNTS_INTERRUPTS)) as typed:
        typed.until("ready")
        typed.type(b"\x03")
        typed.until("interrupts 1")
        while typed.process.poll() is None:
            typed.type(b"\x03")
            time.sleep(0.01)
        assert typed.ended() == 9


def test_an_interrupt_that_a_process_sends_reaches_the_program_once(tmp_path: Path) -> None:
    with on_terminal(tmp_path, "--max-tokens 100", *python(COUNTS_INTERRUPTS)) as typed:
        typed.until("ready")
        typed.process.send_signal(signal.SIGINT)
        typed.until("interrupts 1")
        assert typed.ended() == 9


def test_the_program_reads_from_the_terminal(tmp_path: Path) -> None:
    with on_terminal(tmp_path, "--max-tokens 100", *python("print('got', input())")) as typed:
        time.sleep(1)
        typed.type(b"hello\n")
        typed.until("got hello")
        assert typed.ended() == 0


def test_the_last_row_says_how_the_budget_is_and_is_given_back(tmp_path: Path) -> None:
    with on_terminal(tmp_path, "--max-tokens 100000", *fake("--calls", "30")) as typed:
        typed.until("budget: tokens ")
        assert typed.ended() == 0
        assert "30,000 of 100,000" in typed.shown
        assert f"\x1b[1;{_ROWS - 1}r" in typed.shown, "what is printed scrolls above it"
        assert typed.shown.rindex("\x1b[r") > typed.shown.rindex("budget: tokens ")


TAKES_THE_SCREEN = """
import signal, sys, time, tty
tty.setraw(0)
sys.stdout.write("\\x1b[?1049h\\x1b[?25lraw\\r\\n"); sys.stdout.flush()
signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.argv[1:] = ["--calls", "1000"]
exec(open({!r}).read())
"""


def test_a_terminal_that_a_program_leaves_raw_when_it_is_ended_is_set_as_it_was(
    tmp_path: Path,
) -> None:
    script = TAKES_THE_SCREEN.format(fake()[1])
    flags = "--max-tokens 2000 --grace 0"
    with on_terminal(tmp_path, flags, *python(script)) as typed:
        typed.until("raw")
        assert typed.ended() == 3
        assert typed.is_sane()
        assert typed.shown.rindex("\x1b[?1049l") > typed.shown.rindex("\x1b[?1049h")
        assert re.search(r"stopped by its budget", typed.shown)


def test_on_a_terminal_what_a_wrapper_has_started_is_ended_with_it(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    inner = " ".join(fake("--calls", "100000"))
    command = ("sh", "-c", f"{inner} & echo $! > {pid}; wait")
    with on_terminal(tmp_path, "--max-tokens 3000 --grace 0", *command) as typed:
        assert typed.ended() == 3
    assert is_gone(int(pid.read_text()))


def test_on_a_terminal_nothing_is_left_of_a_killed_run(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    command = ("sh", "-c", f"sleep 600 & echo $! > {pid}; echo ready; wait")
    with on_terminal(tmp_path, "--max-tokens 3000", *command) as typed:
        typed.until("ready")
        typed.process.kill()
        until(lambda: is_gone(int(pid.read_text())))


def test_with_other_stdin_the_program_is_still_on_its_terminal(tmp_path: Path) -> None:
    script = "open('/dev/tty', 'w').write('mine\\n'); import sys; sys.exit(len(sys.stdin.read()))"
    command = ("sh", "-c", f'echo abc | {sys.executable} -m otel_budget run --max-tokens 9 -- "$@"')
    with on_terminal(tmp_path, "--max-tokens 9", *command, "sh", *python(script)) as typed:
        typed.until("mine")
        assert typed.ended() == 4


#: What a shell does with a job: in the foreground, stopped by its key, and on again.
SHELL = """
import os, signal, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, setpgroup=0,
                     setsigdef=[signal.SIGTTOU])
os.tcsetpgrp(0, job)
_, status = os.waitpid(job, os.WUNTRACED)
print("job", "stopped" if os.WIFSTOPPED(status) else "ended", flush=True)
os.killpg(job, signal.SIGCONT)
_, status = os.waitpid(job, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_job_that_is_stopped_by_its_key_goes_on_when_it_is_continued(tmp_path: Path) -> None:
    script = """
import os, time
print("ready", flush=True)
while not os.path.exists("go"): time.sleep(0.01)
print("over", flush=True)
"""
    with on_terminal(tmp_path, "--max-tokens 100", *python(script), shell=SHELL) as typed:
        typed.until("ready")
        typed.type(b"\x1a")
        typed.until("job stopped")
        (tmp_path / "go").touch()
        typed.until("over")
        assert typed.ended() == 0
