"""Many who listen to the stream of one run; a socket each, and no more work than to read it."""

from __future__ import annotations

import select
import socket
import threading
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_MOST = 65_536


class Listeners(AbstractContextManager["Listeners"]):
    """Open streams."""

    def __init__(self, address: str, request: bytes, number: int) -> None:
        """Open them, and wait until each has had its first verdict."""
        host, _, port = address.partition(":")
        self._poll = select.epoll()
        self._open: dict[int, socket.socket] = {}
        for _ in range(number):
            stream = socket.create_connection((host, int(port)))
            stream.sendall(request)
            stream.settimeout(0)
            self._open[stream.fileno()] = stream
            self._poll.register(stream, select.EPOLLIN)
        self._until_all_hear(b"event: verdict")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close them."""
        self._poll.close()
        for stream in self._open.values():
            stream.close()

    def hear(self, word: bytes, after: Callable[[], object]) -> tuple[float, float]:
        """Return how many seconds after the call began the first and the last heard a word."""
        calling = threading.Thread(target=after)
        began = time.perf_counter()
        calling.start()
        first, last = self._until_all_hear(word)
        calling.join()
        return first - began, last - began

    def _until_all_hear(self, word: bytes) -> tuple[float, float]:
        heard = dict.fromkeys(self._open, b"")
        first: float | None = None
        while heard:
            for number, _ in self._poll.poll():
                text = heard.get(number, b"") + self._open[number].recv(_MOST)
                if number not in heard:
                    continue  # a renewal, after the word
                if word in text:
                    del heard[number]
                    first = time.perf_counter() if first is None else first
                else:
                    heard[number] = text
        return first or time.perf_counter(), time.perf_counter()
