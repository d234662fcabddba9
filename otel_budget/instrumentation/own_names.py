"""By which names this machine is asked for a page: as a browser may be made to ask for another's.

A page in somebody's browser can have its own name lead to the loopback address, and then read what
is there (DNS rebinding). So what arrives there has to ask for a loopback address, for localhost, or
for this machine by its name. Beyond loopback any name may be the machine's, as in a cluster.
"""

from __future__ import annotations

import socket
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    App = Callable[..., Iterable[bytes]]

_REFUSED: Final = (
    b"asked for another host: ask for it by its loopback address, or localhost (a proxy in front "
    b"of it has to send that name)\n"
)


class OwnNames:
    """A WSGI application that answers for this machine alone."""

    def __init__(self, app: App, bound_to: str) -> None:
        """Answer by ``app``. bound_to: the name or address it was opened at."""
        self._app = app
        self._names = {"", "localhost", bound_to.lower(), socket.gethostname().lower()}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request, or refuse it with 421."""
        local = str(environ.get("otel_budget.local_address", ""))
        if not _is_loopback(local) or self.knows(str(environ.get("HTTP_HOST", ""))):
            return self._app(environ, start_response)
        status = HTTPStatus.MISDIRECTED_REQUEST
        length = str(len(_REFUSED))
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", length)]
        start_response(f"{status.value} {status.phrase}", headers)
        return [_REFUSED]

    def knows(self, host: str) -> bool:
        """Tell whether a Host header is one of ours."""
        name, _, port = host.rpartition(":")
        name = (name if port.isdigit() and name else host).strip("[]").rstrip(".").lower()
        return name in self._names or _is_loopback(name) or name.endswith(".localhost")


def _is_loopback(address: str) -> bool:
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)
