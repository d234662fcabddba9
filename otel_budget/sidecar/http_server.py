"""The HTTP side of the sidecar's process: the socket, tokens, certificates, limits, uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import uvicorn

from otel_budget.errors import ListenError
from otel_budget.files.watch import FileWatch
from otel_budget.logs.line_limit import LineLimit, Rate
from otel_budget.logs.text import one_line
from otel_budget.runtime.workers import Workers
from otel_budget.sidecar.api.auth import Gate, Tokens, local_names
from otel_budget.sidecar.api.connection_limits import MAX_HEAD, BoundedProtocol, ClientLimits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from starlette.types import ASGIApp

    from otel_budget.config.listen import ListenConfig, TlsConfig
    from otel_budget.sidecar.api.connection_limits import OnRefused
    from otel_budget.sidecar.metrics import SidecarMetrics
    from otel_budget.sources.base import Clock

logger = logging.getLogger(__name__)

#: Seconds an open response may still take after its stream was ended.
GRACE = 1
#: Seconds between two looks whether a certificate was exchanged.
LOOK_EVERY = 5.0
#: Files the process needs beside connections: storage, log, and those it asks for metrics.
_OTHER_FILES = 256
_ADVICE: Final = {
    errno.EADDRINUSE: "something already listens there, perhaps another sidecar: stop it, or "
    "choose another address with {}; port 0 takes a free one",
    errno.EACCES: "this port needs privileges: choose one above 1023",
    errno.EADDRNOTAVAIL: "this host has no such address: use one of its own, or 127.0.0.1",
}
_OTHER_ADVICE: Final = "choose another address with {}"
#: A name may stand for an address of IPv6 too, on a host that has none.
_NOT_HERE: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
#: Lines for each reason and client: a client that tries a thousand times a second neither fills the
#: disk nor hides another one that is refused for the same reason.
QUIET: Final = Rate(1, 60.0)
_WORDS: Final = {
    "token": "the token was wrong, or there was none",
    "host": "it asked for another host, as a web page in a browser may do",
    "malformed": "what it sent is not an HTTP request",
    "connections": "there were too many connections: see listen.limits",
    "streams": "it has too many streams open: see listen.limits",
    "nudges": "too many runs ask to be read now",
    "request": "its request did not arrive in time",
    "reader": "it did not read what it was sent",
}


def listen(host: str, port: int, where: str = "listen.address or --listen") -> socket.socket:
    """Return a listening socket; port 0 takes a free one. Raises ListenError.

    where: the address is said, for who has to choose another one.
    """
    problem: OSError = OSError("the name has no address")
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as exc:
        problem, places = exc, []
    for family, kind, protocol, _, place in places:
        try:
            return _listener(family, kind, protocol, place)
        except OSError as exc:
            problem = exc
            if exc.errno not in _NOT_HERE:
                break
    advice = _ADVICE.get(problem.errno or 0, _OTHER_ADVICE).format(where)
    raise ListenError(f"{host}:{port}", problem.strerror or str(problem), advice) from problem


def _listener(family: int, kind: int, protocol: int, place: Any) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


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
    # A client with a token or a certificate is no browser that a page misuses.
    only_local = config.is_loopback and not config.asks_who and not config.allow_unauthenticated
    return Gate(
        None if read is None else Tokens(read),
        None if admin is None else Tokens(admin),
        only_hosts=local_names(config.host, *config.allowed_hosts) if only_local else None,
        on_refused=on_refused,
    )


def client_limits_of(config: ListenConfig, on_refused: OnRefused) -> ClientLimits:
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
            "listen: only %d connections instead of %d: the process may open only %d files",
            most, config.limits.connections, soft,
        )  # fmt: skip
    return ClientLimits(
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
    limits: ClientLimits,
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


class Refusals:
    """Takes note of refused requests."""

    def __init__(self, metrics: SidecarMetrics, clock: Clock) -> None:
        """Have seen none."""
        self._metrics, self._budget = metrics, LineLimit(clock, about=QUIET)

    def __call__(self, reason: str, client: str) -> None:
        """Count one. client: its address."""
        self._metrics.note_refusal(reason)
        more = self._budget.spend(reason, f"{reason} {client}")
        if more is None:
            return
        since = f" ({more:,} more refused for that since the last such line)" if more else ""
        shown = one_line(client) or "a client"
        logger.warning("refused %s: %s%s", shown, _WORDS.get(reason, reason), since)
