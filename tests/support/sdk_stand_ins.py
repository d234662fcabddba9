"""Stand-ins for OpenAI's and Anthropic's SDKs: clients whose requests all go through one method.

As much of both as the guard of their clients uses; the live tests run the real ones.
"""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any, Self

import pytest


class Options:
    """A request, as the SDKs hand it to ``request``."""

    def __init__(self, url: str, body: Any, method: str = "post") -> None:
        """Hold what is sent."""
        self.url, self.json_data, self.method = url, body, method
        self.extra_json: Any = None
        self.post_parser: Any = None


class HttpResponse:
    """An HTTP response whose body comes in pieces."""

    def __init__(self, *pieces: bytes, kind: str = "application/json") -> None:
        """Hold the body. kind: of its content."""
        self._pieces, self.headers = pieces, {"content-type": kind}
        self.is_closed, self.content = False, b""

    def iter_bytes(self) -> Iterator[bytes]:
        """Return the body; it closes itself at the end."""
        yield from self._pieces
        self.close()

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        """Return the body; it closes itself at the end."""
        for piece in self._pieces:
            yield piece
        await self.aclose()

    def read(self) -> bytes:
        """Read it to the end."""
        self.content = b"".join(self.iter_bytes())
        return self.content

    def close(self) -> None:
        """Close it."""
        self.is_closed = True

    async def aclose(self) -> None:
        """Close it."""
        self.is_closed = True


class Stream:
    """A stream of an SDK. An exception among its events is raised."""

    def __init__(self, *events: Any) -> None:
        """Hold what comes."""
        self.response = HttpResponse(kind="text/event-stream")
        self._iterator: Any = self._events(events)

    def _events(self, events: tuple[Any, ...]) -> Iterator[Any]:
        for event in events:
            if isinstance(event, BaseException):
                raise event
            yield event
        self.response.close()

    def __iter__(self) -> Iterator[Any]:
        """Iterate."""
        yield from self._iterator

    def close(self) -> None:
        """Leave it."""
        self.response.close()


class AsyncStream(Stream):
    """A stream of an asynchronous client."""

    def __init__(self, *events: Any) -> None:
        """Hold what comes."""
        super().__init__()
        self._iterator = self._events_later(events)

    async def _events_later(self, events: tuple[Any, ...]) -> AsyncIterator[Any]:
        for event in events:
            if isinstance(event, BaseException):
                raise event
            yield event
        await self.response.aclose()

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Iterate."""
        async for event in self._iterator:
            yield event

    async def aclose(self) -> None:
        """Leave it."""
        await self.response.aclose()


class SyncAPIClient:
    """A client that answers so, one after the other, and writes down what was sent."""

    def __init__(self, *answers: Any, host: str = "api.openai.com") -> None:
        """Answer so. An exception is raised. host: it talks to."""
        self.answers, self.sent = list(answers), list[Any]()
        self.base_url = SimpleNamespace(host=host)

    def request(self, cast_to: Any, options: Options, *, stream: bool = False) -> Any:
        """Send a request."""
        self.sent.append(copy.deepcopy(options.json_data))
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return options.post_parser(answer) if options.post_parser else answer

    def post(self, url: str, **body: Any) -> Any:
        """Send a body, as the SDKs' resources do."""
        return self.request(dict, Options(url, body), stream=bool(body.get("stream")))

    def with_options(self) -> SyncAPIClient:
        """Return a copy, as the SDKs make it."""
        other = self.__class__(host=self.base_url.host)
        other.answers, other.sent = self.answers, self.sent
        return other


class AsyncAPIClient:
    """The same, asynchronously."""

    def __init__(self, *answers: Any) -> None:
        """Answer so."""
        self.plain = SyncAPIClient(*answers)
        self.base_url, self.sent = self.plain.base_url, self.plain.sent

    async def __aenter__(self) -> Self:
        """Enter."""
        return self

    async def request(self, cast_to: Any, options: Options, *, stream: bool = False) -> Any:
        """Send a request."""
        return self.plain.request(cast_to, options, stream=stream)

    async def post(self, url: str, **body: Any) -> Any:
        """Send a body."""
        return await self.request(dict, Options(url, body))


def raw(body: Any) -> Any:
    """Return a raw response, of which the body is not read yet."""
    pieces = (json.dumps(body).encode(),)
    return SimpleNamespace(http_response=HttpResponse(*pieces))


def _sdk(adapter: Callable[..., Any], package: str) -> Any:
    base = f"{package}._base_client"
    own = {kind.__name__: type(kind.__name__, (kind,), {"__module__": base})
           for kind in (SyncAPIClient, AsyncAPIClient)}  # fmt: skip
    sdk = adapter(f"{package}_sdk", {package: {}, base: own})
    sdk.Client, sdk.AsyncClient = own["SyncAPIClient"], own["AsyncAPIClient"]
    return sdk


@pytest.fixture
def openai_sdk(adapter: Callable[..., Any]) -> Any:
    """The adapter for OpenAI's SDK, over stand-ins; ``Client`` and ``AsyncClient`` are its own."""
    return _sdk(adapter, "openai")


@pytest.fixture
def anthropic_sdk(adapter: Callable[..., Any]) -> Any:
    """The adapter for Anthropic's SDK, likewise."""
    return _sdk(adapter, "anthropic")
