"""Look up the addresses of a host without being held up by a name server that hangs.

The system's call cannot be ended from outside, so it has its own thread: one for all who ask for
the same host meanwhile, and those who no longer need the answer do not wait for it.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds from one look at whether the answer is still needed to the next.
_LOOK: Final = 0.05
Found = list[tuple[Any, ...]]
"""As ``socket.getaddrinfo`` returns it."""


def addresses(
    host: str, port: int, seconds: float, is_needed: Callable[[], bool] = lambda: True
) -> Found:
    """Return where a host is. Raises OSError, also when there is no answer within the seconds.

    is_needed: tells whether to wait on.
    """
    if _is_address(host):
        return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    lookup, until = _lookup(host, port), time.monotonic() + seconds
    while not lookup.done.wait(_LOOK):
        if time.monotonic() >= until or not is_needed():
            raise OSError(f"no name server has said within {seconds:g} s where {host} is")
    if lookup.error is not None:
        raise OSError(f"{host}: {lookup.error}") from lookup.error
    return lookup.found


class _Lookup(threading.Thread):
    def __init__(self, key: tuple[int, str, int]) -> None:
        super().__init__(name="otel-budget-lookup", daemon=True)
        self._key = key
        self.done = threading.Event()
        self.found: Found = []
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.found = socket.getaddrinfo(*self._key[1:], 0, socket.SOCK_STREAM)
        except Exception as exc:  # noqa: BLE001 - it is for those who wait
            self.error = exc
        finally:
            _UNDER_WAY.pop(self._key, None)
            self.done.set()


#: By process, host and port: a forked child has none of its parent's threads.
_UNDER_WAY: Final[dict[tuple[int, str, int], _Lookup]] = {}


def _lookup(host: str, port: int) -> _Lookup:
    """Return the lookup that is under way, or a new one. Raises OSError."""
    key = (os.getpid(), host, port)
    found = _UNDER_WAY.get(key)
    if found is None:
        new = _Lookup(key)
        found = _UNDER_WAY.setdefault(key, new)
        if found is new:
            try:
                new.start()
            except RuntimeError as exc:  # no more threads, or the interpreter is ending
                _UNDER_WAY.pop(key, None)
                raise OSError(f"{host} cannot be looked up: {exc}") from exc
    return found


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
