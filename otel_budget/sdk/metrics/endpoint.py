"""``/metrics`` over HTTP: this process's runs and its OpenTelemetry metrics, from one registry."""

from __future__ import annotations

import errno
import os
import socket
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self
from wsgiref.simple_server import make_server

from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, make_wsgi_app

from otel_budget.errors import InvalidValueError, ListenError
from otel_budget.net.loopback import is_loopback
from otel_budget.runtime.environment import setting
from otel_budget.runtime.fork import in_child
from otel_budget.sdk.lifecycle.at_exit import AT_EXIT
from otel_budget.sdk.metrics.collector import RUNS
from otel_budget.sdk.metrics.file_sd import register_in
from otel_budget.sdk.metrics.last_scrape import LAST_SCRAPE
from otel_budget.sdk.metrics.page_server import OwnNames, PageHandler, PageServer
from otel_budget.sdk.metrics.rendering import Rendering
from otel_budget.sdk.metrics.visibility import PAGES, Page

if TYPE_CHECKING:
    from os import PathLike

    from prometheus_client.registry import CollectorRegistry

ENV_HOST = "OTEL_EXPORTER_PROMETHEUS_HOST"
ENV_PORT = "OTEL_EXPORTER_PROMETHEUS_PORT"
ENV_REGISTER = "OTEL_BUDGET_REGISTER"
DEFAULT_HOST, DEFAULT_PORT = "localhost", 9464
_MAX_PORT = 65535
#: Seconds an endpoint that closes lets answers under way go out.
_LAST_ANSWERS = 2.0
#: Seconds from one look of the server whether it is to close to the next: a process waits for it.
_LOOKS = 0.1


class MetricsEndpoint:
    """An open ``/metrics``; a context manager. Closed at interpreter exit at the latest."""

    def __init__(self, address: str, server: PageServer, entry: Path | None) -> None:
        """Keep what ``serve_metrics`` opened."""
        self.address, self.port = address, int(server.server_port)
        host = f"[{address}]" if ":" in address else address
        self.url = f"http://{host}:{self.port}/metrics"
        self._server, self._entry = server, entry
        self._process = os.getpid()

    def close(self) -> None:
        """Stop listening and take back the file_sd entry, once the ends of runs have been seen or
        waited for (see ``serve_metrics``). Closing twice is fine.

        In a forked child this only lets go of the port: it is the parent that answers there.
        """
        if os.getpid() != self._process:
            self._server.server_close()
            return
        LAST_SCRAPE.wait()
        if self._entry is not None:
            with suppress(OSError):  # it may have been tidied up already
                self._entry.unlink(missing_ok=True)
        PAGES.closed(self.url)
        self._server.shutdown()
        self._server.wait_answered(_LAST_ANSWERS)
        self._server.server_close()
        AT_EXIT.last.pop(id(self), None)

    def __enter__(self) -> Self:
        """Return the endpoint itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


#: For a forked child, to let go of.
_OPEN: weakref.WeakSet[MetricsEndpoint] = weakref.WeakSet()


def serve_metrics(
    address: str | None = None,
    port: int | None = None,
    register: str | PathLike[str] | None = None,
    scrape_wait: float | None = None,
) -> MetricsEndpoint:
    """Open ``/metrics`` in a background thread and return it.

    address, port: by default ``OTEL_EXPORTER_PROMETHEUS_HOST`` and ``_PORT``, else localhost:9464;
    port 0 takes a free one. register: a folder to write a Prometheus ``file_sd`` entry to, so that
    several processes on a host are found by Prometheus and by the sidecar alike; by default that of
    ``OTEL_BUDGET_REGISTER``, if it is set. A process that is forked from this one opens a page of
    its own there at its first run. scrape_wait: seconds that the end of the process, or of the
    endpoint, waits for one more scrape if a run's end has not been seen; by default
    ``OTEL_BUDGET_SCRAPE_WAIT``, else 5, and only for scrapes that are due by then. A sidecar that
    a run was given is told, and not waited for.

    Raises ListenError for an address that cannot be listened on, InvalidValueError for a port that
    is not one, OSError for a folder that cannot be written to.
    """
    host = address or os.environ.get(ENV_HOST) or DEFAULT_HOST
    number = _port(port)
    folder = register or setting(ENV_REGISTER) or None
    if scrape_wait is not None:
        LAST_SCRAPE.ask(scrape_wait)
    use_registry(REGISTRY)
    app = Rendering(make_wsgi_app(REGISTRY), RUNS)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server_class = type("PageServer", (PageServer,), {"address_family": family})
    try:
        server: PageServer = make_server(host, number, app, server_class, handler_class=PageHandler)
    except (OSError, OverflowError, UnicodeError) as exc:
        raise ListenError(f"{host}:{number}", str(exc), _advice(exc)) from exc
    try:
        entry = None if folder is None else register_in(Path(folder), host, server.server_port)
    except BaseException:
        server.server_close()
        raise
    if is_loopback(str(server.server_address[0])):
        server.set_app(OwnNames(app, host))
    threading.Thread(
        target=server.serve_forever, args=(_LOOKS,), name="otel-budget-metrics", daemon=True
    ).start()
    endpoint = MetricsEndpoint(host, server, entry)
    AT_EXIT.last[id(endpoint)] = endpoint.close
    _OPEN.add(endpoint)
    found_in = None if folder is None else Path(folder)
    PAGES.opened(Page(endpoint.url, host, found_in, os.getpid()))
    return endpoint


def use_registry(registry: CollectorRegistry) -> None:
    """Register this process's runs, and OpenTelemetry's metrics if they are not exported yet."""
    LAST_SCRAPE.ask(None)
    with suppress(ValueError):  # registered before
        registry.register(RUNS)
    RUNS.process.instruments()
    if not isinstance(metrics.get_meter_provider(), MeterProvider):
        reader = PrometheusMetricReader(registry=registry)
        # Not shut down at exit: the last scrape comes after runs that were left open are closed.
        provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
        metrics.set_meter_provider(provider)


def default_url() -> str:
    """Return the page that ``serve_metrics()`` opens if nothing else is said.

    Raises InvalidValueError for a port that is none.
    """
    host = os.environ.get(ENV_HOST) or DEFAULT_HOST
    return f"http://{f'[{host}]' if ':' in host else host}:{_port(None)}/metrics"


def _port(port: int | None) -> int:
    text: object = os.environ.get(ENV_PORT, DEFAULT_PORT) if port is None else port
    key = ENV_PORT if port is None else "port"
    try:
        number = int(str(text))
    except ValueError as exc:
        raise InvalidValueError(key, text, f"a port from 0 to {_MAX_PORT}") from exc
    if isinstance(port, bool) or not 0 <= number <= _MAX_PORT:
        raise InvalidValueError(key, text, f"a port from 0 to {_MAX_PORT}")
    return number


def _advice(exc: Exception) -> str:
    """Return what to do about an address that cannot be listened on."""
    if not isinstance(exc, OSError) or isinstance(exc, socket.gaierror) or (
        exc.errno == errno.EADDRNOTAVAIL
    ):  # fmt: skip
        return (
            f"this is not an address of this host (address=, {ENV_HOST}): 127.0.0.1 is reached "
            "from this host, 0.0.0.0 from others too"
        )
    if exc.errno in (errno.EACCES, errno.EPERM):
        return f"choose a port that this user may listen on, from 1024 on (port=, {ENV_PORT})"
    return (
        f"stop what listens there, or choose another port (port=, {ENV_PORT}; port=0 takes a "
        f"free one, register=FOLDER or {ENV_REGISTER} lets Prometheus and the sidecar find it)"
    )


def _let_go() -> None:
    """Leave the parent's ports to the parent: a child that held them could not answer there."""
    for endpoint in list(_OPEN):
        endpoint.close()


in_child(_let_go)
