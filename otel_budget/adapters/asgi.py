"""A run for each request of an ASGI application, open until its answer is sent to the end.

Starlette, FastAPI, Litestar, Quart and Django: it is plain ASGI. What a framework runs for the
request, in tasks or in threads, has the run in its context, streamed bodies included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from contextlib import AbstractAsyncContextManager

    Scope = MutableMapping[str, Any]
    App = Callable[[Scope, Any, Any], Awaitable[None]]

    class Begin(Protocol):
        """Makes the monitor of a request."""

        def __call__(self, scope: Scope) -> AbstractAsyncContextManager[Any] | None:
            """Return the monitor; None for a request that is no run."""


_REQUESTS: Final = ("http", "websocket")
#: Where the endpoint finds the monitor: ``request.state.monitor`` in Starlette and FastAPI.
_STATE: Final = "monitor"


class BudgetMiddleware:
    """Opens a run around each request, or each connection of a web socket.

    ``app.add_middleware(BudgetMiddleware, begin=lambda scope: ResourceMonitor(...))``
    """

    def __init__(self, app: App, begin: Begin) -> None:
        """Keep the application. begin: gets the ASGI scope and returns a monitor, or None."""
        self._app, self._begin = app, begin

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer one request inside its run."""
        monitor = self._begin(scope) if scope["type"] in _REQUESTS else None
        if monitor is None:
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})[_STATE] = monitor
        async with monitor:
            await self._app(scope, receive, send)
