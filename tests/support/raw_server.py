"""A server that misbehaves on the wire: it reads a request, and then does what the test says."""

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

#: Gets the socket after the request was read, and an event that is set when the test is over.
Answer = Callable[[socket.socket, threading.Event], None]


def respond(
    body: bytes,
    content_type: str = "text/plain",
    status: str = "200 OK",
    *headers: str,
    length: int | None = None,
) -> Answer:
    """Answer with this, and hang up. length: of the body, as the head is to say it."""
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}",
             f"Content-Length: {size}", "Connection: close", *headers]  # fmt: skip
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"

    def answer(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(head + body)

    return answer


@contextmanager
def serve_raw(answer: Answer) -> Iterator[str]:
    """Serve on a free port of the loopback interface; yield its ``host:port``."""
    over = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(10)
            with suppress(OSError):  # the other side may hang up whenever it has had enough
                _read_request(self.request)
                answer(self.request, over)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            over.set()
            server.shutdown()
            thread.join()


def _read_request(connection: socket.socket) -> None:
    """Read head and body, so that hanging up later doesn't reset the connection."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = connection.recv(65536)
        if not piece:
            return
        got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    for text in head.lower().split(b"\r\n"):
        name, _, value = text.partition(b":")
        if name == b"content-length":
            left = int(value) - len(body)
            while left > 0:
                left -= len(connection.recv(65536))
