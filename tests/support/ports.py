"""Ports of this machine that a test may name before anything listens there."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

#: Where Linux says which ports it gives to connections that go out.
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST = 10_000
_given: set[int] = set()


def free_port() -> int:
    """Return a port that nobody listens on, and that no outgoing connection will be given.

    A port that the kernel chose (``bind`` to 0) is one of those that it gives to outgoing
    connections as well: by the time a process binds it, one of a sidecar's may be on it.
    """
    first_ephemeral = int(EPHEMERAL.read_text().split()[0]) if EPHEMERAL.exists() else 32_768
    for port in random.sample(_own(range(LOWEST, first_ephemeral)), 100):
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise AssertionError(f"100 ports from {LOWEST} to {first_ephemeral} were all in use")


def _own(ports: range) -> range:
    """Return those that are for this worker of pytest-xdist: what it names, no other one does."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return ports[worker :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
