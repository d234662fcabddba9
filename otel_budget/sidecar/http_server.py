"""The HTTP side of the sidecar's process: tokens, certificates, limits, and uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import ssl
from functools import partial
from typing import TYPE_CHECKING, cast

import uvicorn

from otel_budget.errors import ListenError
from otel_budget.files.watch import FileWatch
from otel_budget.runtime.workers import Workers
from otel_budget.sidecar.api.auth import Gate, Tokens, local_names
from otel_budget.sidecar.api.connection_limits import MAX_HEAD, BoundedProtocol, Limits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from starlette.types import ASGIApp

    from otel_budget.config.listen import ListenConfig, TlsConfig
    from otel_budget.sidecar.api.connection_limits import OnRefused

logger = logging.getLogger(__name__)

#: Seconds an open response may still take after its stream was ended.
GRACE = 1
#: Seconds between two looks whether a certificate was exchanged.
LOOK_EVERY = 5.0
#: Files the process needs beside connections: storage, log, and those it asks for metrics.
_OTHER_FILES = 256


class Certificates:
    """What the server shows of itself, and whom it believes; exchanged while it runs."""

    def __init__(self, config: TlsConfig) -> None:
        """Load them. Raises OSError, of which ssl.SSLError is one."""
        self._config = config
        self.context = ssl.create_default_context(
            ssl.Purpose.CLIENT_AUTH, cafile=config.client_ca_file
        )
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        if config.client_ca_file is not None:
            self.context.verify_mode = ssl.CERT_REQUIRED
        self._watch = FileWatch(*_files(config))
        self._watch.read_as_of(self._watch.changed())
        self._load()

    def renew(self) -> None:
        """Load them again if a file has changed; those of before stay if that fails."""
        try:
            stamps = self._watch.changed()
            if stamps is None:
                return
            self._watch.read_as_of(stamps)  # what cannot be loaded is tried again once it changes
            self._load()
            logger.info("certificates: %s was read again", self._config.cert_file)
        except OSError as exc:
            logger.error("certificates: those loaded before stay in use: %s", exc)  # noqa: TRY400 - the files are at fault

    def _load(self) -> None:
        self.context.load_cert_chain(self._config.cert_file, self._config.key_file)
        if self._config.client_ca_file is not None:
            self.context.load_verify_locations(self._config.client_ca_file)

    async def watch(self) -> None:
        """Look again and again."""
        threads = Workers("certificates")
        while True:
            await asyncio.sleep(LOOK_EVERY)
            await threads.run(self.renew)


def _files(config: TlsConfig) -> list[Path]:
    files = [config.cert_file, config.key_file, config.client_ca_file]
    return [path for path in files if path is not None]


def certificates_of(config: ListenConfig) -> Certificates | None:
    """Return what TLS needs; None without it. Raises ListenError for files that do not do."""
    if config.tls is None:
        return None
    try:
        return Certificates(config.tls)
    except OSError as exc:
        files = ", ".join(map(str, _files(config.tls)))
        advice = f"look at the files of listen.tls: {files}"
        raise ListenError(config.address, f"TLS: {exc}", advice) from exc


def gate_of(config: ListenConfig, on_refused: OnRefused) -> Gate:
    """Return who may do what. Raises TokenFileError."""
    read, admin = config.read_token_file, config.admin_token_file
    # Whoever needs a token or a certificate cannot be somebody's browser on its own.
    only_local = config.is_loopback and not config.asks_who and not config.allow_unauthenticated
    return Gate(
        None if read is None else Tokens(read),
        None if admin is None else Tokens(admin),
        only_hosts=local_names(config.host, *config.allowed_hosts) if only_local else None,
        on_refused=on_refused,
    )


def limits_of(config: ListenConfig, on_refused: OnRefused) -> Limits:
    """Return how much clients may hold; the process may open as many files as it can be let."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = config.limits.connections + _OTHER_FILES
    room = 2 * wanted  # connections to targets are half of all files at most
    if soft != resource.RLIM_INFINITY and soft < room:
        more = room if hard == resource.RLIM_INFINITY else min(room, hard)
        with contextlib.suppress(
            OSError, ValueError
        ):  # a platform may refuse; fewer connections will do
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    most = config.limits.connections
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = max(1, soft - _OTHER_FILES)
        logger.warning(
            "listen: %d connections at most instead of %d: the process may open only %d files",
            most, config.limits.connections, soft,
        )  # fmt: skip
    return Limits(
        connections=most,
        streams_per_client=config.limits.streams_per_client,
        request_body=config.limits.request_body,
        request_timeout=config.limits.request_timeout,
        on_refused=on_refused,
    )


class Server(uvicorn.Server):
    """A server that leaves the signals to us: there is a last tick to do before it may end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def server_of(
    app: ASGIApp,
    limits: Limits,
    certificates: Certificates | None,
    trusted_proxies: Sequence[str] = (),
) -> Server:
    """Return uvicorn around an application.

    trusted_proxies: addresses and networks whose X-Forwarded-For names the client.
    """
    config = uvicorn.Config(
        app,
        http=cast("type[asyncio.Protocol]", partial(BoundedProtocol, limits)),
        h11_max_incomplete_event_size=MAX_HEAD,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # it would have a line for each request that is none
        access_log=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    config.load()
    if certificates is not None:
        config.ssl = certificates.context
    return Server(config)
