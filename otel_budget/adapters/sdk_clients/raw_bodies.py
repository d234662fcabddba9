"""Answers that the application reads itself, as bytes or lines: seen as they go by."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from otel_budget.adapters.sdk_clients.answers import said_by
from otel_budget.adapters.sdk_clients.streams import Streamed, see_response
from otel_budget.genai.values import field, mapping

if TYPE_CHECKING:
    from otel_budget.adapters.open_call import OpenCall

#: Bytes of an answer, and of one event of a stream, that are looked at.
MAX_ANSWER: Final = 32 << 20
MAX_EVENT: Final = 4 << 20
_EVENTS: Final = "text/event-stream"
_DONE: Final = b"[DONE]"


class RawEvents(Streamed):
    """Server-sent events: those that say something of the use are decoded."""

    def __init__(self, call: OpenCall) -> None:
        """Have seen nothing yet."""
        super().__init__(call)
        self._line = b""

    def see(self, piece: bytes) -> None:
        """Take in bytes as they come."""
        *lines, self._line = (self._line + piece).split(b"\n")
        if len(self._line) > MAX_EVENT:  # what is longer says nothing that is counted
            self._line = b""
        for line in lines:
            if line.startswith(b"data:"):
                self._see_data(line[5:].strip())

    def _see_data(self, data: bytes) -> None:
        if data == _DONE:
            self._is_whole = True
        elif self._answer is None or b'"usage"' in data or b'"error"' in data:
            with suppress(ValueError, RecursionError):
                super().see(mapping(json.loads(data)))


class RawAnswer(Streamed):
    """A whole answer in JSON."""

    def __init__(self, call: OpenCall) -> None:
        """Have seen nothing yet."""
        super().__init__(call)
        self._bytes = bytearray()

    def see(self, piece: bytes) -> None:
        """Take in bytes as they come."""
        if len(self._bytes) <= MAX_ANSWER:
            self._bytes += piece

    def _said(self) -> dict[str, Any]:
        answer: Any = None
        if len(self._bytes) <= MAX_ANSWER:
            with suppress(ValueError, RecursionError):
                answer = mapping(json.loads(self._bytes))
        self._is_whole = bool(answer)
        self._failed = field(answer, "status") == "failed"
        return said_by(answer) if answer else {}


def follow_body(response: Any, call: OpenCall) -> None:
    """Count an HTTP response when it was read. It stays the object it is."""
    is_stream = str(response.headers.get("content-type", "")).startswith(_EVENTS)
    streamed: Streamed = (RawEvents if is_stream else RawAnswer)(call)
    if response.is_closed:  # read by the SDK
        streamed.see(response.content)
        streamed.end()
        return
    see_response(response, streamed, sees_bytes=True)
