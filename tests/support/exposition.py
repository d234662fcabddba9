"""A ``/metrics`` endpoint for tests: real HTTP on loopback, its text set by the test."""

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from otel_budget import semconv

_PATIENCE = 20.0


def line(metric: semconv.Metric, value: float | str, session: str, **labels: str) -> str:
    """Return one series of a session, with the type it has in the contract."""
    pairs = {semconv.SESSION_ID: session, **labels}
    inside = ",".join(f'{name}="{text}"' for name, text in pairs.items())
    return f"{metric.name}{{{inside}}} {value}"


def page(*lines: str, typed: bool = True) -> str:
    """Return an exposition of the lines; typed: with the types of the contract."""
    names = dict.fromkeys(text.partition("{")[0] for text in lines)
    kinds = {metric.name: metric.kind for metric in semconv.SESSION_METRICS}
    out = []
    for name in names:
        if typed:
            out += [f"# HELP {name} {name}.", f"# TYPE {name} {kinds[name]}"]
        out += [text for text in lines if text.partition("{")[0] == name]
    return "".join(text + "\n" for text in out)


class Exposition:
    """What an endpoint shows, and how often it was asked."""

    def __init__(self) -> None:
        """Show nothing yet."""
        self.text: str | None = ""
        self.scheme = "http"
        self.address = ""
        self.headers: dict[str, str] = {}
        """Of the last request."""
        self._asked = 0
        self._changed = threading.Condition()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{self.scheme}://{self.address}/metrics"

    def show(self, text: str | None) -> None:
        """Show this from now on; None: hang up on whoever asks."""
        with self._changed:
            self.text, self._asked = text, 0

    def asked(self, headers: dict[str, str]) -> str | None:
        """Note a request, and return what to show."""
        with self._changed:
            self._asked += 1
            self.headers = headers
            self._changed.notify_all()
            return self.text

    @property
    def times_asked(self) -> int:
        """How often the present text was asked for."""
        return self._asked

    def wait_until_asked(self, times: int, *, patience: float = _PATIENCE) -> None:
        """Wait until the present text was asked for that often; TimeoutError after ``patience``."""
        until = time.monotonic() + patience
        with self._changed:
            while self._asked < times:
                if not self._changed.wait(until - time.monotonic()):
                    raise TimeoutError(f"{self.url} was asked {self._asked} times, not {times}")


@contextmanager
def serve(tls: ssl.SSLContext | None = None) -> Iterator[Exposition]:
    """Serve an exposition on a free port of the loopback interface; with TLS if told so."""
    exposition = Exposition()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            text = exposition.asked(dict(self.headers))
            if text is None:
                self.close_connection = True
                return
            body = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def get_request(self) -> tuple[Any, Any]:
            connection, client = super().get_request()
            if tls is None:
                return connection, client
            # The handshake comes with the first read, in the thread of the connection.
            wrapped = tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            return wrapped, client

        def handle_error(self, *args: Any) -> None:
            """Say nothing: a client that trusts nobody hangs up, and that is what is tested."""

    with Server(("127.0.0.1", 0), Handler) as server:
        exposition.scheme = "http" if tls is None else "https"
        exposition.address = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield exposition
        finally:
            server.shutdown()
            thread.join()
