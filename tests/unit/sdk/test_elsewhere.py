"""Metrics that go where no run is seen: said at the first run of a process, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    InMemoryMetricReader,
    MetricReader,
    PeriodicExportingMetricReader,
)

from otel_budget.sdk.lifecycle import autostart
from otel_budget.sdk.metrics import visibility
from otel_budget.sdk.metrics.visibility import PAGES


@pytest.fixture(autouse=True)
def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing shows this process, and nothing was said of it."""
    monkeypatch.setattr(autostart, "_done", {})
    monkeypatch.setattr(type(PAGES), "anywhere", False)
    monkeypatch.setattr(PAGES, "inherited", None)


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
def test_an_exporter_without_runs_is_said_once(
    names: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(visibility.ENV_EXPORTER, names)
    (said,) = begin_twice(caplog)
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
