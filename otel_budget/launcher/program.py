"""The program that is run: started with its own signals, ended with all that it started.

Not ``subprocess``: signals are blocked here (``signals.py``), and the program must not begin with
them blocked; and one that leads a process group of its own must lead it from its first moment.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.errors import OtelBudgetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: As a shell exits.
NOT_FOUND, NOT_EXECUTABLE = 127, 126
#: Ignored by this interpreter, and nobody else's business.
_OURS_TO_IGNORE: Final = (signal.SIGPIPE, signal.SIGXFSZ)
_PROCESSES: Final = Path("/proc")
_STEP: Final = 0.02
_MISSING: Final = (errno.ENOENT, errno.ENOTDIR)


class CannotStartError(OtelBudgetError):
    """Say why a program did not start. status: what a shell would exit with."""

    def __init__(self, program: str, problem: str, status: int) -> None:
        self.status = status
        super().__init__(f"{program}: {problem}")


class Program:
    """A program that was started."""

    def __init__(self, pid: int, *, leads_group: bool, alone: bool = False) -> None:
        """Keep what was started. alone: signals are for it and not for what it has started."""
        self.pid, self.leads_group, self._alone = pid, leads_group, alone
        self._started: set[_Known] = set()
        """What it had started when it was sent signals."""
        self.returncode: int | None = None
        """Below 0 for the signal that ended it; None while it runs."""

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        environ: Mapping[str, str],
        *,
        leads_group: bool,
        alone: bool = False,
    ) -> Program:
        """Start a program, looked for as a shell does. Raises CannotStartError.

        leads_group: in a process group of its own; else in this one, as a program needs that reads
        from the terminal. alone: as in the constructor.
        """
        spawn = partial(os.posix_spawnp, setsigmask=(), setsigdef=_OURS_TO_IGNORE)
        if leads_group:
            spawn = partial(spawn, setpgroup=0)
        try:
            pid = spawn(command[0], list(command), dict(environ))
        except OSError as exc:
            missing = exc.errno in _MISSING
            problem = "not found" if missing else f"cannot be run: {exc.strerror}"
            status = NOT_FOUND if missing else NOT_EXECUTABLE
            raise CannotStartError(command[0], problem, status) from exc
        except ValueError as exc:  # a zero byte
            raise CannotStartError(command[0], str(exc), NOT_EXECUTABLE) from exc
        return cls(pid, leads_group=leads_group, alone=alone)

    def poll(self) -> int | None:
        """Return how it ended, None while it runs."""
        if self.returncode is None:
            with contextlib.suppress(InterruptedError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send(self, number: int) -> None:
        """Send it a signal, and its group, as the terminal would. Nothing if it has ended."""
        if self.returncode is not None:
            return
        started = descendants(self.pid)
        self._started |= {_known(pid) for pid in started}
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.leads_group:
                os.killpg(self.pid, number)
                return
            os.kill(self.pid, number)
        for pid in () if self._alone else started:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getpgid(pid) == os.getpgrp():
                    os.kill(pid, number)

    def kill(self) -> None:
        """End it by force, with all that it has started: those may have left its group."""
        started = descendants(self.pid)
        self.send(signal.SIGKILL)
        while started:
            more = {child for pid in started for child in descendants(pid)} - started
            for pid in started:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            started = more

    def sweep(self, patience: float = 1.0) -> None:
        """End what it has started and what goes on after its end, in order first."""
        deadline = time.monotonic() + patience
        number = signal.SIGTERM
        while left := [one for one in self._started if one.began and _known(one.pid) == one]:
            for known in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(known.pid, number)
            if number == signal.SIGKILL:
                return
            while time.monotonic() < deadline and any(_known(k.pid) == k for k in left):
                time.sleep(_STEP)
            number = signal.SIGKILL


class _Known(NamedTuple):
    """A process that is told apart from a later one of the same number."""

    pid: int
    began: str
    """Empty if it is not there, or that is not known here."""


def _known(pid: int) -> _Known:
    with contextlib.suppress(OSError, IndexError):
        rest = (_PROCESSES / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2]
        fields = rest.split()
        return _Known(pid, "" if fields[0] == "Z" else fields[19])
    return _Known(pid, "")


def check_found(program: str) -> None:
    """Look for a program before all else is started. Raises CannotStartError if there is none."""
    if "/" not in program and shutil.which(program) is None:
        raise CannotStartError(program, "not found", NOT_FOUND)


def descendants(pid: int) -> set[int]:
    """Return the processes that a process has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found: set[int] = set()
    ahead = [pid]
    while ahead:
        new = [child for child in children.get(ahead.pop(), ()) if child not in found]
        found.update(new)
        ahead += new
    return found


def _parents() -> Iterator[tuple[int, int]]:
    """Yield every process with its parent."""
    if not (_PROCESSES / "self/stat").exists():
        yield from _parents_by_ps()
        return
    for folder in _PROCESSES.iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):  # it has ended meanwhile
                # Behind the name, which is in brackets and may have some in it: state, parent.
                rest = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
                yield int(folder.name), int(rest[1])


def _parents_by_ps() -> Iterator[tuple[int, int]]:
    with contextlib.suppress(OSError, ValueError):
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="],  # noqa: S607 - as POSIX has it, wherever it is
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        for line in listed.stdout.splitlines():
            child, parent = line.split()
            yield int(child), int(parent)
