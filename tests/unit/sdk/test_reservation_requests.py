"""What the answers of a sidecar, and of what stands before it, tell of reservations."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from otel_budget.sdk.sidecar_client.address import SidecarAddress
from otel_budget.sdk.sidecar_client.reservations import Reservations, UnsupportedError


@contextmanager
def _answering(status: int) -> Iterator[Reservations]:
    """Yield what asks a server that answers each request with a status and a page."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield Reservations(SidecarAddress.parse(f"http://127.0.0.1:{server.server_port}"))
        finally:
            server.shutdown()


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_proxy_whose_sidecar_is_away_does_not_say_that_there_are_no_reservations(
    status: int,
) -> None:
    with _answering(status) as ask, pytest.raises(http.client.HTTPException):
        ask.reserve("r", {"tokens": 1}, 30.0)


@pytest.mark.parametrize("status", [404, 405, 501])
def test_what_knows_no_such_path_has_no_reservations(status: int) -> None:
    with _answering(status) as ask, pytest.raises(UnsupportedError):
        ask.reserve("r", {"tokens": 1}, 30.0)
