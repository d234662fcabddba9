"""By which names a page on the loopback interface may be asked for.

A page in somebody's browser can have its own name lead to the loopback address, and then read what
is there (DNS rebinding). So a page that listens there alone answers to names that nobody else can
own: addresses (a name is what is rebound), localhost, this machine's name, and ``.internal``, by
which containers reach their host. One that listens elsewhere is open to the network in any case,
and answers to every name.
"""

from __future__ import annotations

import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from otel_budget.net.loopback import numeric_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    App = Callable[..., Iterable[bytes]]

#: Never a name in the public DNS: host.docker.internal, host.containers.internal.
_PRIVATE: Final = (".localhost", ".internal")
_REFUSED: Final = (
    b"asked for another host: this page listens on the loopback interface; ask for it by an "
    b"address, or as localhost (a proxy or tunnel has to send such a name), or have it listen on "
    b"another address\n"
)


class OwnNames:
    """A WSGI application that answers to this machine's names alone."""

    def __init__(self, app: App, bound_to: str) -> None:
        """Answer by ``app``. bound_to: the name it was opened at."""
        self._app = app
        self._names = {"", "localhost", bound_to.lower(), socket.gethostname().lower()}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request, or refuse it with 421."""
        if self.knows(str(environ.get("HTTP_HOST", ""))):
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
        return name in self._names or name.endswith(_PRIVATE) or numeric_address(name) is not None
