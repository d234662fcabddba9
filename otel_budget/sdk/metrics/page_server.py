"""The connections of ``/metrics``: few, each with little time, and none for those who say nothing.

An agent has files to open and work to do. A connection that says nothing is a socket and no thread;
there are at most ``MOST`` of them, and fewer where the process may have few files. Past that the
one that has said nothing for longest has to go, so a scraper that says what it wants is answered.

A page in a browser can have its own name lead to the loopback address, and then read what
is there (DNS rebinding). So a page that listens there alone answers to names that no one else can
own: addresses (a name is what is rebound), localhost, this machine's name, and ``.internal``, by
which containers reach their host. One that listens elsewhere is open to the network in any case,
and answers to every name.
"""

from __future__ import annotations

import selectors
import socket
import sys
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from otel_budget.logs.logger import logger
from otel_budget.net.loopback import numeric_address
from otel_budget.sdk.metrics.collector import RUNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    App = Callable[..., Iterable[bytes]]

#: Connections at most; and one for so many files that the process may open.
MOST: Final = 64
_FILES_EACH: Final = 8
#: Seconds until the first byte has to be there, until the whole request has, and until the answer
#: has to be taken up.
FIRST_BYTE, WHOLE, TAKEN_UP = 5.0, 10.0, 60.0
#: Seconds without accepting where the process can open no more files.
_PAUSE: Final = 0.5
#: Connections that are begun and not accepted yet.
_BACKLOG: Final = 128
#: Never a name in the public DNS: host.docker.internal, host.containers.internal.
_PRIVATE: Final = (".localhost", ".internal")
_REFUSED: Final = (
    b"asked for another host: this page listens on the loopback interface; ask for it by an "
    b"address, or as localhost (a proxy or tunnel has to send such a name), or have it listen on "
    b"another address\n"
)


class _Visit:
    """One connection."""

    __slots__ = ("address", "connection", "last_at", "saying")

    def __init__(self, connection: socket.socket, address: Any, now: float) -> None:
        self.connection, self.address = connection, address
        self.last_at = now + FIRST_BYTE
        self.saying = False
        """True once a thread reads it."""


class PageServer(WSGIServer):
    """Answers each request in its own thread, once it has begun to arrive."""

    allow_reuse_address = True
    request_queue_size = _BACKLOG

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._answering = 0
        self._answered = threading.Condition()
        self._visits: dict[socket.socket, _Visit] = {}
        self._ready = selectors.DefaultSelector()
        self._accept_from = 0.0
        self._over, self._ended = threading.Event(), threading.Event()
        super().__init__(*args, **kwargs)

    def server_bind(self) -> None:
        """Bind without asking the name service who we are: nothing here needs the answer."""
        TCPServer.server_bind(self)
        host, self.server_port = self.server_address[:2]
        self.server_name = str(host)
        self.setup_environ()

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Accept, and hand on what begins to speak, until ``shutdown``."""
        try:
            self.socket.settimeout(0)
            self._ready.register(self.socket, selectors.EVENT_READ)
            while not self._over.is_set():
                ready = [key for key, _ in self._ready.select(poll_interval)]
                # Those that speak first: a new connection may have to take the place of one.
                for key in ready:
                    if key.fileobj is not self.socket:
                        self._begin(key.data)
                if any(key.fileobj is self.socket for key in ready):
                    self._accept()
                self._mind(time.monotonic())
                self.service_actions()
        finally:
            for visit in list(self._visits.values()):
                if not visit.saying:
                    self._drop(visit)
            self._ended.set()

    def shutdown(self) -> None:
        """Have ``serve_forever`` end, and wait until it has."""
        self._over.set()
        self._ended.wait()

    def server_close(self) -> None:
        """Let go of the port, and of what a forked child has of its parent's connections."""
        super().server_close()
        for visit in list(self._visits.values()):
            visit.connection.close()
        self._ready.close()

    def service_actions(self) -> None:
        """Look, a few times a second, whether the page is ever scraped."""
        RUNS.mind_unscraped(f"port {self.server_port}")

    def wait_answered(self, timeout: float) -> None:
        """Wait until no answer is under way, at most for ``timeout`` seconds."""
        with self._answered:
            self._answered.wait_for(lambda: self._answering == 0, timeout)

    def heard(self, connection: socket.socket) -> None:
        """Take note that a request is there: the answer has its own time."""
        visit = self._visits.get(connection)
        if visit is not None:
            visit.last_at = time.monotonic() + TAKEN_UP
            connection.settimeout(TAKEN_UP)

    def _accept(self) -> None:
        while len(self._visits) >= _most() and (longest := self._longest()) is not None:
            self._drop(longest)
        try:
            connection, address = self.socket.accept()
        except (BlockingIOError, ConnectionError):
            return  # it was given up meanwhile
        except OSError as exc:  # no files left: the agent's own go first
            logger.debug("/metrics accepts nothing for %g s: %s", _PAUSE, exc)
            self._accept_from = time.monotonic() + _PAUSE
            self._ready.unregister(self.socket)
            for visit in [v for v in list(self._visits.values()) if not v.saying]:
                self._drop(visit)
            return
        connection.settimeout(None)
        visit = self._visits[connection] = _Visit(connection, address, time.monotonic())
        self._ready.register(connection, selectors.EVENT_READ, visit)

    def _longest(self) -> _Visit | None:
        """Return the connection that goes where there are too many: the first of the silent ones,
        else the first whose time is over.
        """
        visits = list(self._visits.values())  # threads take theirs out meanwhile
        return min(visits, key=lambda v: (v.saying, v.last_at), default=None)

    def _begin(self, visit: _Visit) -> None:
        """Answer what begins to speak, in a thread."""
        self._ready.unregister(visit.connection)
        visit.saying, visit.last_at = True, time.monotonic() + WHOLE
        self._count(1)
        thread = threading.Thread(target=self._answer, args=(visit,), daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:  # no more threads
            logger.debug("%s, a client of /metrics, is not answered: %s", visit.address, exc)
            self._count(-1)
            self._drop(visit)

    def _answer(self, visit: _Visit) -> None:
        try:
            self.finish_request(visit.connection, visit.address)
        except Exception:
            logger.debug("%s, a client of /metrics: no answer", visit.address, exc_info=True)
        finally:
            self._visits.pop(visit.connection, None)
            self.shutdown_request(visit.connection)
            self._count(-1)

    def _mind(self, now: float) -> None:
        """Drop those whose time is over; accept again after a pause."""
        for visit in [v for v in list(self._visits.values()) if v.last_at <= now]:
            self._drop(visit)
        if self._accept_from and now >= self._accept_from:
            self._accept_from = 0.0
            self._ready.register(self.socket, selectors.EVENT_READ)

    def _drop(self, visit: _Visit) -> None:
        logger.debug("%s, a client of /metrics, fell silent or is one too many", visit.address)
        self._visits.pop(visit.connection, None)
        if visit.saying:  # its thread wakes up by this, and closes it
            with suppress(OSError):
                visit.connection.shutdown(socket.SHUT_RDWR)
            return
        with suppress(KeyError, ValueError):
            self._ready.unregister(visit.connection)
        visit.connection.close()

    def _count(self, change: int) -> None:
        with self._answered:
            self._answering += change
            self._answered.notify_all()


class PageHandler(WSGIRequestHandler):
    """One request; says nothing on stderr."""

    timeout = WHOLE

    def setup(self) -> None:
        """Take a client that does not take its answer up for one that has gone: no traceback."""
        super().setup()
        write = self.wfile.write

        def taken_up(data: bytes) -> int:
            try:
                return write(data)
            except TimeoutError as exc:
                raise BrokenPipeError(str(exc)) from exc

        self.wfile.write = taken_up  # type: ignore[assignment, method-assign] # bytes are all it gets

    def parse_request(self) -> bool:
        """Read the head; tell the server when it is there."""
        whole = super().parse_request()
        self.server.heard(self.connection)  # type: ignore[attr-defined] # it is a PageServer
        return whole

    def address_string(self) -> str:
        """Return the client's address, without asking the name service."""
        return str(self.client_address[0])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is inherited
        """Keep scrapes out of the application's stderr."""


def _most() -> int:
    """Return how many connections there may be."""
    if sys.platform == "win32":
        return MOST
    import resource  # not to be had on Windows

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if files < 0 else max(2, min(MOST, files // _FILES_EACH))


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
