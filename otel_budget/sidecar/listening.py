"""The socket that the sidecar listens on, and what to do if it cannot be had."""

from __future__ import annotations

import errno
import socket
from typing import Any, Final

from otel_budget.errors import ListenError

_ADVICE: Final = {
    errno.EADDRINUSE: "something listens there already, perhaps another sidecar: stop that one, or "
    "choose another address with listen.address or --listen; port 0 takes a free one",
    errno.EACCES: "this port needs privileges: choose one above 1023",
    errno.EADDRNOTAVAIL: "this host has no such address: use one of its own, or 127.0.0.1",
}
_OTHER_ADVICE: Final = "choose another address with listen.address or --listen"
#: A name may stand for an address of IPv6 too, on a host that has none.
_NOT_HERE: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one. Raises ListenError."""
    problem: OSError = OSError("the name has no address")
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as exc:
        problem, places = exc, []
    for family, kind, protocol, _, place in places:
        try:
            return _listener(family, kind, protocol, place)
        except OSError as exc:
            problem = exc
            if exc.errno not in _NOT_HERE:
                break
    advice = _ADVICE.get(problem.errno or 0, _OTHER_ADVICE)
    raise ListenError(f"{host}:{port}", problem.strerror or str(problem), advice) from problem


def _listener(family: int, kind: int, protocol: int, place: Any) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener
