"""The receiver while the sidecar runs: its socket and server, exchanged when its address changes.

What was pushed outlives that: a new configuration of who may push, or where to, touches nothing of
it. Another way to read it (presets, the idle time, bounds) begins a new intake; what the one before
it told is in the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from otel_budget.errors import ListenError
from otel_budget.files.token_file import TokenFileError
from otel_budget.sidecar.api.auth import local_names
from otel_budget.sidecar.api.host import ReceiverInfo
from otel_budget.sidecar.http_server import listen, server_of
from otel_budget.sidecar.receiver.app import ReceiverApp
from otel_budget.sidecar.receiver.push_tokens import PushTokens

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from otel_budget.config.otlp import OtlpConfig
    from otel_budget.sidecar.api.connection_limits import ClientLimits
    from otel_budget.sidecar.http_server import Server
    from otel_budget.sidecar.receiver.app import Notes
    from otel_budget.sources.otlp.source import OtlpSource

logger = logging.getLogger(__name__)

#: Seconds that requests under way may still take when a server is ended.
_LAST = 2.0


class Receiver:
    """Serves one address at a time, or none."""

    def __init__(
        self,
        judge: Callable[[], Awaitable[bool]],
        limits: ClientLimits,
        notes: Notes,
        refused: Callable[[str, Sequence[str]], Mapping[str, int]],
    ) -> None:
        """judge, notes, refused: as in ReceiverApp. limits: those of the API's server."""
        self._refused = refused
        self._judge, self._limits, self._notes = judge, limits, notes
        self._config: OtlpConfig | None = None
        self._listener: socket.socket | None = None
        self._server: Server | None = None
        self._app: ReceiverApp | None = None
        self._serving: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self.info: ReceiverInfo | None = None

    def open(self, config: OtlpConfig, source: OtlpSource) -> None:
        """Listen, and serve from now on; what was served before is ended.

        Raises ListenError or TokenFileError: then all is as it was.
        """
        tokens = PushTokens(config.token_file)
        listener = self._listener_for(config)
        local = config.is_loopback and not tokens.need_token and not config.allow_unauthenticated
        app = ReceiverApp(
            source,
            self._judge,
            tokens,
            most=config.request_body,
            notes=self._notes,
            refused=self._refused,
            only_hosts=local_names(config.host, *config.allowed_hosts) if local else None,
            on_refused=self._limits.on_refused,
        )
        source.knows_names = tokens.have_names
        limits = replace(self._limits, request_body=config.request_body)
        server = server_of(app, limits, None)
        self._end_server(keep=listener)
        self._app = app
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        self.info = ReceiverInfo(f"http://{shown}:{port}", tokens.need_token)
        self._config, self._listener, self._server = config, listener, server
        # Its own file number: a server closes the socket that it is given.
        self._serving = asyncio.create_task(_serve(server, listener.dup()))
        asked = "a token is needed" if tokens.need_token else "no token is needed"
        logger.info("receiving OTLP on %s; %s", self.info.endpoint, asked)

    def change(self, config: OtlpConfig | None, source: OtlpSource | None) -> None:
        """Serve as another configuration has it; None: no more."""
        if config is None or source is None:
            self._end_server(keep=None)
            self._config = self.info = None
            return
        try:
            self.open(config, source)
        except (ListenError, TokenFileError) as error:
            logger.error("the receiver stays where it was: %s", error)  # noqa: TRY400 - the configuration is at fault
            if self._app is not None:
                self._app.source = source  # the other one is not judged any more

    def stop(self) -> None:
        """Take no more connections; what is under way is answered."""
        self._end_server(keep=None)

    async def close(self) -> None:
        """End in order: what is under way is answered."""
        self.stop()
        if self._ending:
            await asyncio.wait(self._ending, timeout=_LAST)

    def _listener_for(self, config: OtlpConfig) -> socket.socket:
        running = None if self._config is None else self._config.address
        if self._listener is not None and config.address == running:
            return self._listener
        return listen(config.host, config.port, "source.otlp.address")

    def _end_server(self, keep: socket.socket | None) -> None:
        if self._listener is not None and self._listener is not keep:
            self._listener.close()
            self._listener = None
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            self._ending.add(self._serving)
            self._serving.add_done_callback(self._ending.discard)
            self._server = self._serving = None


async def _serve(server: Server, listener: socket.socket) -> None:
    """Serve until told to end. A server that is told so before it began closes nothing."""
    with contextlib.closing(listener):
        await server.serve(sockets=[listener])
