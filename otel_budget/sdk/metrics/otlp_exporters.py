"""What pushes: an exporter of OpenTelemetry's SDK, by default OTLP over HTTP; where it is found.

An application that pushes its metrics has said where to, in its environment or in code. In code
that is the exporter of a periodic reader: it is used as it is, one export at a time, as its address
and its credentials cannot be had from it for another one.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from otel_budget.errors import InvalidValueError, MissingExtraError
from otel_budget.logs.text import one_line
from otel_budget.net.url import UrlError, split_url

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter

ENV_PROTOCOL: Final = ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
ENV_INTERVAL: Final = "OTEL_METRIC_EXPORT_INTERVAL"
#: Seconds one request may take, at most.
TIMEOUT: Final = 10.0
#: Seconds between two pushes, unless told otherwise.
USUAL_INTERVAL: Final = 5.0
_SIGNAL: Final = "/v1/metrics"
_GRPC, _HTTP = "grpc", "http/protobuf"
_OTLP: Final = "OTLP"
"""Begins the names of the exporters that are meant."""
_ENDPOINT: Final = "an http:// or https:// URL such as http://127.0.0.1:4318"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to push, and how."""

    make: Callable[[], MetricExporter]
    """Returns the exporter. Called once in each process: one that was forked has its own."""
    where: str
    """For people."""
    found: str = ""
    """What said so, for people; empty if the caller did."""
    interval: float | None = None
    """Seconds between two pushes; None: as the environment says, or as is usual."""
    lock: AbstractContextManager[Any] | None = None
    """Held while it exports, where others use the exporter as well."""
    is_shared: bool = False
    """True if the exporter is the application's, which shuts it down."""


def to_endpoint(endpoint: str | None, interval: float | None) -> Destination:
    """Return an endpoint as destination. None: that of the environment.

    Raises InvalidValueError for what is no URL, MissingExtraError.
    """
    if endpoint is None:
        return _by_environment(interval, "")
    try:
        parts = split_url(endpoint)
    except UrlError as exc:
        raise InvalidValueError("endpoint", exc.shown, _ENDPOINT) from exc
    path = parts.path.rstrip("/")
    url = parts._replace(path=path if path.endswith(_SIGNAL) else path + _SIGNAL).geturl()
    return Destination(_http(endpoint=url), url, interval=interval)


def by_exporter(exporter: MetricExporter, interval: float | None) -> Destination:
    """Return an exporter that a caller made as destination."""
    return Destination(partial(_given, exporter), _endpoint_of(exporter), interval=interval)


def of_application(names: tuple[str, ...]) -> Destination | None:
    """Return where the metrics of the application are pushed by OTLP; None if they are not.

    names: of the exporters that the environment asks for. Raises MissingExtraError.
    """
    provider = metrics.get_meter_provider()
    for reader in _readers(provider):
        exporter = getattr(reader, "_exporter", None)
        is_otlp = type(exporter).__name__.startswith(_OTLP)
        if is_otlp and isinstance(reader, PeriodicExportingMetricReader):
            return Destination(
                partial(_given, exporter),
                _endpoint_of(exporter),
                "by the exporter of the application's MeterProvider",
                getattr(reader, "_export_interval_millis", 60_000) / 1000,
                getattr(reader, "_export_lock", None),
                is_shared=True,
            )
    return _by_environment(None, "as OTEL_METRICS_EXPORTER says") if "otlp" in names else None


def resource_of_application() -> Resource:
    """Return the resource of the SDK's provider, else what the environment says."""
    config = getattr(metrics.get_meter_provider(), "_sdk_config", None)
    resource = getattr(config, "resource", None)
    return resource if isinstance(resource, Resource) else Resource.create()


def exports_sums() -> bool:
    """Tell whether the application has a provider, which exports the sums of the process."""
    return isinstance(metrics.get_meter_provider(), MeterProvider)


def usual_interval() -> float:
    """Return the seconds between two pushes. Raises InvalidValueError."""
    text = os.environ.get(ENV_INTERVAL, "").strip()
    if not text:
        return USUAL_INTERVAL
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = 0.0
    if not 0 < milliseconds < float("inf"):
        raise InvalidValueError(ENV_INTERVAL, text, "a number of milliseconds above 0")
    return milliseconds / 1000


def loggers_of(exporter: MetricExporter) -> list[logging.Logger]:
    """Return where an exporter of the SDK says what failed."""
    module = type(exporter).__module__
    names = {module, module.replace(".metric_exporter", ".exporter")}
    return [logging.getLogger(name) for name in sorted(names)]


def _readers(provider: object) -> list[object]:
    readers = getattr(provider, "_metric_readers", None)  # the SDK has no other way to ask
    if readers is None:
        readers = getattr(getattr(provider, "_sdk_config", None), "metric_readers", ())
    return list(readers or ())


def _by_environment(interval: float | None, found: str) -> Destination:
    """Return what the environment asks for. Raises InvalidValueError, MissingExtraError."""
    protocol = next((p for name in ENV_PROTOCOL if (p := os.environ.get(name, "").strip())), _HTTP)
    if protocol == _HTTP:
        make = _http()
    elif protocol == _GRPC:
        make = _grpc()
    else:
        raise InvalidValueError(ENV_PROTOCOL[1], protocol, f"{_HTTP} or {_GRPC}")
    return Destination(make, _endpoint_of(make()), found, interval)


def _given(exporter: Any) -> MetricExporter:
    made: MetricExporter = exporter
    return made


def _grpc() -> Callable[[], MetricExporter]:
    try:
        module = importlib.import_module("opentelemetry.exporter.otlp.proto.grpc.metric_exporter")
    except ImportError as exc:
        allowed = f"{_HTTP}; {_GRPC} where opentelemetry-exporter-otlp-proto-grpc is installed"
        raise InvalidValueError(ENV_PROTOCOL[1], _GRPC, allowed) from exc
    make: Callable[[], MetricExporter] = module.OTLPMetricExporter
    return make


def _http(**options: Any) -> Callable[[], MetricExporter]:
    """Return what makes an exporter over HTTP. Raises MissingExtraError."""
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    except ImportError as exc:
        package = "opentelemetry-exporter-otlp-proto-http"
        raise MissingExtraError("pushing by OTLP", "otlp", package) from exc
    return partial(OTLPMetricExporter, **options)


def _endpoint_of(exporter: object) -> str:
    """Return where an exporter sends to, without a password, as far as it says."""
    endpoint = getattr(exporter, "_endpoint", None)
    if not isinstance(endpoint, str):
        return type(exporter).__name__
    before, at, host = endpoint.rpartition("@")
    scheme = before.partition("://")[0]
    return one_line(f"{scheme}://…@{host}" if at else endpoint)
