"""The targets of ``fleet``: one process, a run at each path.

Run as ``python -m benchmarks.fleet_pages``; it says its port. ``/N`` shows run N, which spends with
every scrape; ``/hangs/N`` never answers, ``/slow/N`` does so after 0.9 s, ``/costly/N`` shows 4,000
series that are new each time; ``/count`` says how many pages it has shown, and its processor time.
"""

from __future__ import annotations

import asyncio
import resource
import time
from itertools import count
from typing import Final

from benchmarks.pages import Fleet

SLOW: Final = 0.9
_COSTLY: Final = 4000
_NUMBERS: Final = count(10_000_000)
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n\r\n"
)


class Pages:
    """What is shown, and how often."""

    def __init__(self) -> None:
        """Begin with every run at its first call."""
        self.shown = 0
        self._parts: dict[str, tuple[bytes, bytes]] = {}

    def of(self, number: str) -> bytes:
        """Return the page of a run, which has spent since the last one."""
        self.shown += 1
        if number not in self._parts:
            page = Fleet(1, 1.0, int(number)).page(1)
            start, _, rest = page.partition(b'"} ')  # the first sample is of its tokens
            self._parts[number] = (start + b'"} ', b"\n" + rest.partition(b"\n")[2])
        before, after = self._parts[number]
        return b"%s%d%s" % (before, 1000 + self.shown, after)

    def costly(self) -> bytes:
        """Return a page that takes long to read."""
        line = b'otel_budget_limit{session_id="costly",resource="tokens",unit="%d"} 1\n'
        return b"".join(line % next(_NUMBERS) for _ in range(_COSTLY))


class Target(asyncio.Protocol):
    """One connection."""

    pages = Pages()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer a request; ours come in one piece."""
        kind, _, number = data.split(b" ", 2)[1].decode().strip("/").rpartition("/")
        if kind == "slow":
            asyncio.get_running_loop().call_later(SLOW, self._answer, number)
        elif kind == "costly":
            self._send(self.pages.costly())
        elif number == "count":
            self._send(f"{self.pages.shown} {time.process_time()}".encode())
        elif kind != "hangs":
            self._answer(number)

    def _answer(self, number: str) -> None:
        self._send(self.pages.of(number))

    def _send(self, body: bytes) -> None:
        self._transport.write(_HEAD % len(body) + body)


async def main() -> None:
    """Serve until told to end."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Target, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
