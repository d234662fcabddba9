"""A process's entry in a folder of Prometheus's ``file_sd``, by which its page is found."""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Final

from otel_budget.errors import InvalidValueError

#: Where an address that means "here" or "everywhere" is reached.
_REACHED = {"localhost": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a table
#: Seconds for which the entry of a process that was killed stays: longer than people are told in.
KEEP_DEAD: Final = 300.0
_DEAD: Final = "dead-"


def register_in(folder: Path, host: str, port: int) -> Path:
    """Write this process's file_sd entry, whole or not at all, and tidy up those of dead ones."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as exc:
        raise InvalidValueError("register", str(folder), "a folder, which need not exist") from exc
    ours = f"otel-budget-{socket.gethostname()}-{_pid_namespace()}"
    _tidy_up(folder, ours)
    reached = _REACHED.get(host, host)
    target = f"[{reached}]:{port}" if ":" in reached else f"{reached}:{port}"
    entry = folder / f"{ours}{os.getpid()}-{port}.json"
    temporary = folder / f".{uuid.uuid4().hex}.tmp"
    try:
        # "x": a new file of ours, never one that is already there.
        with temporary.open("x", encoding="utf-8") as file:
            json.dump([{"targets": [target], "labels": {}}], file)
        temporary.rename(entry)
    except BaseException:
        with suppress(OSError):  # the folder may be gone; the error that matters is raised
            temporary.unlink(missing_ok=True)
        raise
    return entry


def _pid_namespace() -> str:
    """Return what tells containers apart that share a host name, up to a dash; or nothing.

    Their process ids mean nothing to each other.
    """
    with suppress(OSError):
        return f"pidns{Path('/proc/self/ns/pid').stat().st_ino}-"
    return ""


def _tidy_up(folder: Path, prefix: str) -> None:
    """Remove entries of processes of this host that were killed before they could do it.

    Each stays for a while, under another name: its target gives nothing, and by that a sidecar, and
    a Prometheus, know that the process did not end in order.
    """
    try:
        entries = list(folder.glob("otel-budget-*.json"))
    except OSError:
        return  # a folder may be written to and not listed; the entries that stay are no harm
    for entry in entries:
        if not entry.name.startswith(prefix):
            continue
        name = entry.name.removeprefix(prefix)
        with suppress(OSError):  # another user's, who alone may remove it
            if name.startswith(_DEAD):
                if time.time() - entry.stat().st_mtime > KEEP_DEAD:
                    entry.unlink(missing_ok=True)
            elif _is_dead(name.partition("-")[0]):
                dead = entry.with_name(f"{prefix}{_DEAD}{name}")
                entry.rename(dead)
                os.utime(dead)


def _is_dead(pid: str) -> bool:
    """Tell whether what stands for a process id is that of no process."""
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):  # gone, or no process id at all
        return True
    except PermissionError:
        pass  # alive, another user's
    return False
