"""A process that ends the program and the sidecar when the one that started them is gone.

Whatever ends that one, SIGKILL included: its end of the pipe is closed then. A program that went on
would be one that nobody keeps in its budget.

Run as a script of its own with the standard library alone, so that it takes no time. Lines on its
stdin: ``program PID group|one``, ``sidecar PID``, ``folder PATH``; ``bye`` before an end in order,
after which it does nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

#: Seconds that each has to end in order.
PATIENCE = 5.0
#: Variable of all that is started for a run: the folder of that run.
RUN_FOLDER = "OTEL_BUDGET_RUN_FOLDER"
_PROCESSES = Path("/proc")


class Watched:
    """A process that may be another one by the time: a pidfd, where there are any, knows."""

    def __init__(self, pid: int, *, group: bool) -> None:
        self.pid, self.group = pid, group
        self.handle: int | None = None
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                self.handle = os.pidfd_open(pid)

    def send(self, number: int) -> bool:
        """Send a signal; tell whether it is there. 0 only asks."""
        try:
            if self.handle is not None:
                signal.pidfd_send_signal(self.handle, number)  # type: ignore[attr-defined, unused-ignore] # Linux has it
            else:
                os.kill(self.pid, number)
            if self.group and number:
                os.killpg(self.pid, number)
        except OSError:
            return False
        return True

    def end(self) -> None:
        """End it, with what it has started: in order, and by force if it takes too long."""
        if not self.send(0):
            return
        started = [Watched(pid, group=False) for pid in descendants(self.pid)]
        left = [self, *started]
        for one in left:
            one.send(signal.SIGTERM)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            left = [one for one in left if one.send(0)]
            if not left:
                return
            time.sleep(0.05)
        for one in left:
            one.send(signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have."""
    try:
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="],  # noqa: S607 - as POSIX has it, wherever it is
            capture_output=True, text=True, check=False, timeout=PATIENCE,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    found, ahead = [], [pid]
    while ahead:
        parent = ahead.pop()
        new = [child for child, its in pairs if its == parent]
        found += new
        ahead += new
    return found


def started_for(folder: str) -> list[int]:
    """Return the processes that have a run's folder in their environment, where that can be read.

    What was started in the moment in which its launcher was killed is known to nobody else.
    """
    wanted, found = os.fsencode(f"{RUN_FOLDER}={folder}"), []
    for place in _PROCESSES.glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if wanted in place.read_bytes().split(b"\0"):
                found.append(int(place.parent.name))
    return found


def main() -> None:
    """Read until the pipe is closed; then end what it told of."""
    watched: dict[str, Watched] = {}
    folder = ""
    for line in sys.stdin:
        word, _, rest = line.rstrip("\n").partition(" ")
        if word == "bye":
            return
        if word == "folder":
            folder = rest
        else:
            pid, _, kind = rest.partition(" ")
            watched[word] = Watched(int(pid), group=kind == "group")
    sidecar = watched.pop("sidecar", None)  # after the program, whose last push is still counted
    for one in watched.values():
        one.end()
    if folder:
        for pid in started_for(folder):
            if sidecar is None or pid != sidecar.pid:
                Watched(pid, group=False).end()
    if sidecar is not None:
        sidecar.end()
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # its own end is that of the pipe
    main()
