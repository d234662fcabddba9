"""A sidecar that says what a test tells it to: real HTTP on loopback, one answer per request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Seconds that a test waits for something to be asked.
_PATIENCE = 20.0

Answer = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """One request, and the ways to answer it."""

    protocol_version = "HTTP/1.1"
    server: Scripted

    def do_GET(self) -> None:
        """Answer as the script says, and hang up."""
        self.close_connection = True
        with suppress(OSError):  # the client may have gone
            self.server.script(self)

    def log_message(self, *args: Any) -> None:
        """Stay silent."""

    def say(self, status: int, body: str, kind: str = "") -> None:
        """Send a whole answer; an error in the sidecar's own format unless the kind says else."""
        kind = kind or ("application/json" if status < 400 else "application/problem+json")
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, *pieces: str, stay: bool) -> None:
        """Send pieces of a stream; stay: keep it open until the test is over, else hang up."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece.encode())
            self.wfile.flush()
        if stay:
            self.server.over.wait(_PATIENCE)


class Scripted(ThreadingHTTPServer):
    """Asks the script for each answer; remembers what was asked."""

    daemon_threads = True

    def __init__(self, script: Answer) -> None:
        """Listen on a free port."""
        super().__init__(("127.0.0.1", 0), Request)
        self.script, self.over = script, threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let clients hang up as they like."""


@contextmanager
def scripted(script: Answer) -> Iterator[Scripted]:
    """Serve until the block ends."""
    with Scripted(script) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()
