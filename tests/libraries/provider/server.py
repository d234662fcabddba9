"""The HTTP side of the provider: takes requests, follows the script, writes the log."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import TYPE_CHECKING, Any, Self

from tests.libraries.provider import anthropic_messages, openai_chat, openai_responses
from tests.libraries.provider.script import Answer, Call, Entry, Spent, usual

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from tests.libraries.provider.script import Event

    Whole = Callable[[Call], dict[str, Any]]
    Stream = Callable[[Call], Iterator[Event]]

#: End of the path to: name of the API, a whole answer, a stream.
_APIS: dict[str, tuple[str, Whole, Stream | None]] = {
    "/chat/completions": ("chat", openai_chat.chat, openai_chat.chat_events),
    "/responses": ("responses", openai_responses.response, openai_responses.response_events),
    "/embeddings": ("embeddings", openai_chat.embeddings, None),
    "/messages": ("messages", anthropic_messages.message, anthropic_messages.message_events),
}
_KINDS = {400: "invalid_request_error", 429: "rate_limit_error", 529: "overloaded_error"}
_NOTHING = Spent(0, 0)


class Provider:
    """A provider on a free port of the loopback interface; a context manager."""

    def __init__(self) -> None:
        """Bind the port; serving begins with the context."""
        self._lock = threading.Lock()
        self._script: list[Answer] = []
        self._decide: Callable[[Mapping[str, Any]], Answer] | None = None
        self._log: list[Entry] = []
        self._unique = count(1)
        self.stored: dict[str, dict[str, Any]] = {}
        """Responses that can be fetched again, by id."""
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.provider = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )

    @property
    def url(self) -> str:
        """Return the address, as Anthropic's SDK wants it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def openai_url(self) -> str:
        """Return the address, as OpenAI's SDK wants it."""
        return f"{self.url}/v1"

    def __enter__(self) -> Self:
        """Serve."""
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _exc: BaseException | None,
        _at: TracebackType | None,
    ) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def follow(self, script: Iterable[Answer]) -> None:
        """Forget the log; answer by this script from now on, and plainly after its end."""
        with self._lock:
            self._script, self._log, self._decide = list(script), [], None

    def decide(self, how: Callable[[Mapping[str, Any]], Answer]) -> None:
        """Forget the log; answer each request by its body from now on. how: called one by one."""
        with self._lock:
            self._script, self._log, self._decide = [], [], how

    def log(self) -> list[Entry]:
        """Return what came since the script began, in order."""
        with self._lock:
            return list(self._log)

    def take(self, api: str, body: dict[str, Any]) -> tuple[Call, Entry]:
        """Take note of a request and choose its answer."""
        with self._lock:
            if self._decide is not None:
                answer = self._decide(body)
            else:
                answer = self._script.pop(0) if self._script else Answer()
            number = len(self._log) + 1
            spent = answer.spent or usual(number, api)
            call = Call(next(self._unique), body, answer, spent)
            entry = Entry(
                number, api, call.model, bool(body.get("stream")), answer.status,
                spent if answer.status == 200 else _NOTHING,
            )  # fmt: skip
            self._log.append(entry)
        return call, entry


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    provider: Provider

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: clients that hang up belong to the scenarios."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Write nothing."""

    def do_GET(self) -> None:
        """Give a stored response."""
        stored = self.server.provider.stored.get(self.path.split("?")[0].rsplit("/", 1)[-1])
        if stored is None:
            self._send(404, {"error": {"message": f"not found: {self.path}"}})
        else:
            self._send(200, stored)

    def do_POST(self) -> None:
        """Answer a request to a model."""
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        path = self.path.split("?")[0]
        if path.endswith("/count_tokens"):
            call = Call(0, body, Answer(), usual(0, "messages"))
            return self._send(200, anthropic_messages.count(call))
        for end, (api, whole, stream) in _APIS.items():
            if path.endswith(end):
                call, entry = self.server.provider.take(api, body)
                with contextlib.suppress(OSError):  # the client hung up
                    self._answer(call, entry, whole, stream)
                return None
        return self._send(404, {"error": {"message": f"not found: {path}"}})

    def _answer(self, call: Call, entry: Entry, whole: Whole, stream: Stream | None) -> None:
        time.sleep(call.answer.delay)
        if entry.status != 200:
            return self._send_error(entry)
        if entry.api == "responses":
            self.server.provider.stored[f"resp_fake_{call.unique}"] = whole(call)
        if entry.stream and stream is not None:
            return self._send_events(call, entry, stream)
        entry.usage_sent = call.answer.tells_usage
        return self._send(200, whole(call))

    def _send_error(self, entry: Entry) -> None:
        error = {
            "type": _KINDS.get(entry.status, "server_error"), "message": f"scripted {entry.status}",
            "param": None, "code": None,
        }  # fmt: skip
        outer = {"type": "error"} if entry.api == "messages" else {}
        # Soon, so that the SDKs' retries cost the tests no time.
        soon = {"retry-after": "0.01", "retry-after-ms": "10"}
        self._send(entry.status, outer | {"error": error}, soon)

    def _send(
        self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _send_events(self, call: Call, entry: Entry, stream: Stream) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        texts = 0
        for event in stream(call):
            if event.is_text:
                if texts == call.answer.cut_after:
                    return self._reset()
                texts += 1
                time.sleep(call.answer.pause)
            name = f"event: {event.name}\n" if event.name else ""
            self._send_chunk(f"{name}data: {event.data}\n\n".encode())
            entry.usage_sent = entry.usage_sent or event.has_usage
        return self._send_chunk(b"")

    def _send_chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _reset(self) -> None:
        """Break the connection so that the client sees a reset."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
