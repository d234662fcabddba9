"""Is it this process itself that listens on a port? Then nobody has to be told to stop it."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

_OWN_FILES = Path("/proc/self/fd")


def is_ours(port: int) -> bool:
    """Tell whether a socket of this process listens on a port. False where that cannot be known."""
    try:
        return any(_listens(entry, port) for entry in _OWN_FILES.iterdir())
    except OSError:  # not Linux, or /proc is not there
        return False


def _listens(entry: Path, port: int) -> bool:
    with suppress(OSError):  # closed meanwhile
        if str(entry.readlink()).startswith("socket:"):
            with socket.socket(fileno=os.dup(int(entry.name))) as mine:
                accepts = mine.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                return bool(accepts) and mine.getsockname()[1:2] == (port,)
    return False
