"""Metrics that go where no run is seen: pushed there, or said, at the first run of a process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    InMemoryMetricReader,
    MetricReader,
    PeriodicExportingMetricReader,
)

from otel_budget.sdk.lifecycle import autostart
from otel_budget.sdk.metrics import otlp_export, visibility
from otel_budget.sdk.metrics.visibility import PAGES


@pytest.fixture(autouse=True)
def unseen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing shows this process, and nothing was said of it."""
    monkeypatch.setattr(autostart, "_done", {})
    monkeypatch.setattr(type(PAGES), "anywhere", False)
    monkeypatch.setattr(PAGES, "inherited", None)
    monkeypatch.delenv(visibility.ENV_PUSH, raising=False)
    yield
    for export in list(otlp_export._OPEN.values()):
        export.close()


Provide = Callable[[MetricReader], None]


@pytest.fixture
def provide(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provide]:
    """Let the process have a MeterProvider with a reader."""
    providers: list[MeterProvider] = []

    def provided(reader: MetricReader) -> None:
        providers.append(MeterProvider([reader]))
        monkeypatch.setattr("opentelemetry.metrics.get_meter_provider", lambda: providers[-1])

    yield provided
    for provider in providers:
        provider.shutdown()


def begin_twice(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Let two runs begin; return what was said."""
    for _ in range(2):
        autostart.serve_if_asked()
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("names", ["otlp", "otlp,console", " OTLP , none"])
def test_runs_are_pushed_where_the_environment_pushes_by_otlp(
    names: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv(visibility.ENV_EXPORTER, names)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    said = begin_twice(caplog)[0]
    assert said == (
        "runs are pushed to http://127.0.0.1:9/v1/metrics every 5 s (as OTEL_METRICS_EXPORTER says)"
    )
    assert len(otlp_export._OPEN) == 1


def test_runs_are_pushed_by_the_exporter_that_the_application_has(
    provide: Provide, caplog: pytest.LogCaptureFixture
) -> None:
    """Its address and credentials are in code; it is used by one at a time, and not shut down."""
    caplog.set_level(logging.INFO)
    exporter = OTLPMetricExporter("http://127.0.0.1:9/v1/metrics", timeout=0.1)
    provide(PeriodicExportingMetricReader(exporter, 30_000))
    assert begin_twice(caplog)[0] == (
        "runs are pushed to http://127.0.0.1:9/v1/metrics every 30 s "
        "(by the exporter of the application's MeterProvider)"
    )
    (export,) = otlp_export._OPEN.values()
    export.close()
    assert not exporter._shutdown


@pytest.mark.parametrize("wrong", ["off", "grpc"])
def test_an_exporter_without_runs_is_said_once(
    wrong: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the runs are not to be pushed, or cannot be."""
    monkeypatch.setenv(visibility.ENV_EXPORTER, "otlp")
    if wrong == "off":
        monkeypatch.setenv(visibility.ENV_PUSH, "off")
    else:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", wrong)
    *before, said = begin_twice(caplog)
    assert len(before) == (wrong == "grpc")
    assert all("opentelemetry-exporter-otlp-proto-grpc" in line for line in before)
    assert said.startswith("OTEL_METRICS_EXPORTER is otlp")
    assert "serve_metrics()" in said


@pytest.mark.parametrize("names", ["", "none"])
def test_no_exporter_is_nothing_to_say(
    names: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A run may do without: its own limits hold."""
    monkeypatch.setenv(visibility.ENV_EXPORTER, names)
    assert begin_twice(caplog) == []


def test_a_page_that_shows_the_runs_is_enough(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(visibility.ENV_EXPORTER, "otlp")
    monkeypatch.setattr(type(PAGES), "anywhere", True)
    assert begin_twice(caplog) == []


def test_a_provider_that_pushes_is_said_by_its_exporter(
    provide: Provide, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a word in the environment, as applications set it up in code."""
    provide(PeriodicExportingMetricReader(ConsoleMetricExporter(), 1e9))
    (said,) = begin_twice(caplog)
    assert said.startswith("the MeterProvider of this process exports by ConsoleMetricExporter")


def test_a_reader_that_sends_nothing_away_is_nothing_to_say(
    provide: Provide, caplog: pytest.LogCaptureFixture
) -> None:
    provide(InMemoryMetricReader())
    assert begin_twice(caplog) == []


def test_prometheus_among_others_shows_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(visibility.ENV_EXPORTER, "otlp, prometheus")
    assert visibility.other_exporters() == ""
