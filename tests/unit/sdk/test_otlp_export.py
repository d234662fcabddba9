"""Runs are pushed: what goes out, when, and what becomes of it where it cannot."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    Sum,
)
from opentelemetry.sdk.resources import Resource

import otel_budget
from otel_budget import InvalidValueError, export_otlp, semconv
from otel_budget.errors import MissingExtraError
from otel_budget.sdk.lifecycle import autostart
from otel_budget.sdk.metrics import otlp_export, otlp_exporters
from otel_budget.sdk.metrics.collector import RUNS
from otel_budget.sdk.metrics.otlp_data import with_instance
from otel_budget.sdk.metrics.otlp_export import OtlpExport
from otel_budget.sdk.metrics.visibility import PAGES
from otel_budget.sdk.usage_sinks import UNATTRIBUTED
from tests.support.http_server import serving
from tests.support.monitors import Make
from tests.support.processes import until

Point = tuple[str, float, int]
"""Metric, value, start."""


class Kept(MetricExporter):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[MetricsData] = []
        self.result = MetricExportResult.SUCCESS
        self.is_shut_down = False
        self.go = threading.Event()
        self.go.set()

    def export(self, metrics_data: MetricsData, *_: Any, **__: Any) -> MetricExportResult:
        self.given.append(metrics_data)
        self.note()
        self.go.wait(60)
        if self.result is not MetricExportResult.SUCCESS:
            logging.getLogger(__name__).error("the disk of the receiver is full")
        return self.result

    def note(self) -> None:
        """For a test that looks at the moment."""

    def shutdown(self, *_: Any, **__: Any) -> None:
        self.is_shut_down = True

    def force_flush(self, *_: Any, **__: Any) -> bool:
        return True

    def of(self, session_id: str) -> list[dict[str, Point]]:
        """Return what was given of a run, export by export, by series; nothing where it was not."""
        found = []
        for data in self.given:
            row = {}
            for metric in data.resource_metrics[0].scope_metrics[0].metrics:
                points: Any = metric.data.data_points
                for point in points:
                    labels: Any = dict(point.attributes or {})
                    if labels.pop(semconv.SESSION_ID, "") == session_id:
                        key = metric.name + "".join(f" {k}={v}" for k, v in sorted(labels.items()))
                        row[key] = (metric.name, point.value, point.start_time_unix_nano)
            if row:
                found.append(row)
        return found


@pytest.fixture
def exporter() -> Kept:
    return Kept()


@pytest.fixture(autouse=True)
def nothing_is_pushed_afterwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close what a test leaves open, whatever the environment says; begin without others' runs."""
    RUNS.reset()  # thousands that other tests ended would be pushed too, for seconds
    UNATTRIBUTED._reset()  # it makes itself known again with the next call outside of every run
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    yield
    for each in list(otlp_export._OPEN.values()):
        each.close()


def test_what_a_page_shows_is_pushed_by_names_that_lead_to_the_same_series(
    make: Make, exporter: Kept
) -> None:
    """Counters are cumulative sums from when the process took up the run, without a suffix."""
    run = make(session_id="pushed", max_tokens=1000)
    with run.phase("search"):
        run.record_operation(30, api_call=True, model="m")
    with export_otlp(exporter=exporter, interval=60) as export:
        assert export.push(10)
    row = exporter.of("pushed")[-1]
    began = round(run._record.process_began_at * 1_000_000_000)
    assert list(row["otel_budget_tokens"]) == ["otel_budget_tokens", 30, began]
    assert row["otel_budget_session_state state=running"][1] == 1
    assert row["otel_budget_limit resource=tokens unit=tokens"][1] == 1000
    assert row["otel_budget_phase_tokens model=m phase=search token_type=unspecified"][1] == 30
    (found,) = exporter.given[-1].resource_metrics
    assert found.resource.attributes["service.instance.id"]
    by_name = {metric.name: metric for metric in found.scope_metrics[0].metrics}
    tokens = by_name["otel_budget_tokens"].data
    assert isinstance(tokens, Sum)
    assert tokens.is_monotonic
    assert tokens.aggregation_temporality is AggregationTemporality.CUMULATIVE
    assert not any(metric.unit for metric in by_name.values())
    declared = {metric.name.removesuffix("_total") for metric in semconv.SESSION_METRICS}
    sums = {metric.name.removesuffix("_total") for metric in semconv.PROCESS_METRICS}
    assert by_name.keys() <= declared | sums | {"otel_budget_build_info"}


def test_a_run_that_ended_is_pushed_at_once_and_once(make: Make, exporter: Kept) -> None:
    """Not before it has succeeded is it taken to be seen."""
    with export_otlp(exporter=exporter, interval=60) as export:
        assert export.push(10)
        exporter.result = MetricExportResult.FAILURE
        run = make(session_id="short")
        run.record_operation(5)
        run.close("completed")
        until(lambda: exporter.of("short"))
        assert not dict(RUNS.groups())["short"].scraped
        exporter.result = MetricExportResult.SUCCESS
        assert export.push(10)
        assert dict(RUNS.groups())["short"].scraped
        told = len(exporter.of("short"))
        assert export.push(10)
        assert len(exporter.of("short")) == told
        assert exporter.of("short")[-1]["otel_budget_session_state state=completed"][1] == 1
        again = make(session_id="short")
        again.record_operation(7)
        assert export.push(10)
        assert exporter.of("short")[-1]["otel_budget_tokens"][1] == 7


def test_pushes_come_at_intervals_and_news_at_half_of_one(
    make: Make, exporter: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that measures how often samples come must not find the next one late."""
    run = make(session_id="steady")
    run.record_operation(1)
    began: list[float] = []
    export = export_otlp(exporter=exporter, interval=0.2)

    def note() -> None:
        if export._pushed_at not in began:  # not where only what ended was pushed
            began.append(export._pushed_at)

    monkeypatch.setattr(exporter, "note", note)
    for number in range(8):
        until(lambda: len(began) > number)  # noqa: B023 - looked at before the next one
        if number > 2:
            RUNS.has_news()
    export.close()
    assert export._thread is not None
    export._thread.join()  # nothing else but this changes it
    assert min(after - before for before, after in pairwise(began[:8])) >= 0.1
    export._pushed_at, export._rest_until = 100.0, 0.0
    assert export._due_at(news=False) == pytest.approx(100.2)
    assert export._due_at(news=True) == pytest.approx(100.1)
    export._rest_until = 101.0
    assert export._due_at(news=True) == 101.0


def test_news_are_pushed_before_the_interval_is_over(
    make: Make, exporter: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What begins between two pushes wakes what waits for the next one."""
    monkeypatch.setattr(otlp_export, "_NEWS_AFTER", 0.001)
    with export_otlp(exporter=exporter, interval=600):
        until(lambda: exporter.given)
        make(session_id="new").record_operation(1)
        until(lambda: exporter.of("new"))


@pytest.mark.parametrize(
    ("took", "worked", "rest"),
    [(0.002, True, 0.018), (0.5, True, 4.5), (0.6, True, 5.0), (5.0, True, 5.0),
     (0.002, False, 5.0)],
)  # fmt: skip
def test_pushing_takes_a_tenth_of_the_time_unless_no_interval_would_be_kept(
    took: float, rest: float, *, worked: bool
) -> None:
    """A reader is told of each run about once in an interval, and what fails is not hurried."""
    assert otlp_export.rest_after(took, 5.0, worked=worked) == pytest.approx(rest)


def test_what_hangs_costs_the_run_nothing_and_the_end_its_time(make: Make, exporter: Kept) -> None:
    """The thread alone waits; what it misses is pushed later."""
    exporter.go.clear()
    export = export_otlp(exporter=exporter, interval=60)
    until(lambda: exporter.given)
    run = make(session_id="hung")
    run.record_operation(5)
    run.close()
    assert not export.push(0.1), "it hangs still"
    assert not exporter.of("hung")
    exporter.go.set()
    until(lambda: exporter.of("hung"))
    export.close()
    assert exporter.is_shut_down
    export.close()


def test_a_failure_is_said_once_and_so_is_its_end(
    exporter: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    """With what the exporter says of it, which does not log it by itself."""
    caplog.set_level(logging.INFO)
    exporter.result = MetricExportResult.FAILURE
    with export_otlp(exporter=exporter, interval=60) as export:
        for _ in range(3):
            assert not export.push(10)
        assert "which fails: the disk of the receiver is full" in PAGES.why_unseen()
        exporter.result = MetricExportResult.SUCCESS
        for _ in range(2):
            assert export.push(10)
        assert "s ago" in PAGES.why_unseen()
    said = [record.getMessage() for record in caplog.records]
    assert sum("the disk of the receiver is full" in line for line in said) == 1
    assert sum("runs are pushed to Kept again" in line for line in said) == 1


def test_the_end_of_the_process_pushes_once_more(make: Make, exporter: Kept) -> None:
    """What is closed by then is in it."""
    export = export_otlp(exporter=exporter, interval=60)
    assert export.push(10)
    run = make(session_id="last")
    run.record_operation(5)
    export.close()
    assert exporter.of("last")[-1]["otel_budget_tokens"][1] == 5
    assert not PAGES.pushes


def test_many_runs_go_in_several_requests(
    make: Make, exporter: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of 10,000 would be larger than what a receiver takes."""
    monkeypatch.setattr(otlp_export, "_AT_ONCE", 2)
    for number in range(5):
        make(session_id=f"many-{number}").record_operation(1)
    with export_otlp(exporter=exporter, interval=60) as export:
        exporter.given.clear()
        assert export.push(10)
        assert all(exporter.of(f"many-{number}") for number in range(5))
        runs = [
            {
                (point.attributes or {}).get(semconv.SESSION_ID)
                for metric in data.resource_metrics[0].scope_metrics[0].metrics
                if metric.name == "otel_budget_tokens"
                for point in metric.data.data_points
            }
            for data in exporter.given
        ]
        assert max(map(len, runs)) == 2


def test_a_forked_child_pushes_its_own_runs_by_itself(make: Make, exporter: Kept) -> None:
    """From its first one on; none of its parent's."""
    make(session_id="parents").record_operation(1)
    with export_otlp(exporter=exporter, interval=60) as export:
        assert export.push(10)
        child = os.fork()
        if not child:
            code = 1
            try:
                exporter.given.clear()
                autostart._done.clear()
                make(session_id="childs").record_operation(3)
                autostart.serve_if_asked()
                pushed = export.push(10)
                there = exporter.of("childs") and not exporter.of("parents")
                code = 0 if pushed and there else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert export.push(10)


def test_an_endpoint_is_a_url_with_or_without_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenTelemetry's variables have it: with it for one signal, without it for all."""
    got: list[str] = []

    def take(path: str, body: bytes) -> tuple[int, bytes]:
        assert body
        got.append(path)
        return 200, b""

    with serving(take, "application/x-protobuf") as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"{url}/all")
        for endpoint in (url, f"{url}/", f"{url}/api/v1/otlp", f"{url}/v1/metrics", None):
            with export_otlp(endpoint, interval=60) as export:
                assert export.push(10)
            assert got
            assert set(got) == {
                "/all/v1/metrics" if endpoint is None
                else "/api/v1/otlp/v1/metrics" if endpoint.endswith("otlp") else "/v1/metrics"
            }  # fmt: skip
            got.clear()


@pytest.mark.parametrize(
    ("arguments", "env", "named"),
    [
        ({"endpoint": "localhost:4318"}, {}, "endpoint"),
        ({"endpoint": "http://me:secret@host"}, {}, "endpoint"),
        ({"interval": 0}, {}, "interval"), ({"interval": True}, {}, "interval"),
        ({"interval": float("inf")}, {}, "interval"),
        ({}, {"OTEL_METRIC_EXPORT_INTERVAL": "soon"}, "OTEL_METRIC_EXPORT_INTERVAL"),
        ({}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ({}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ({"endpoint": "http://a", "exporter": Kept()}, {}, "endpoint"),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_said(
    arguments: dict[str, Any], env: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the argument, or the variable."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidValueError, match=named) as refused:
        export_otlp(**arguments)
    assert "secret" not in str(refused.value)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter of one's own needs none."""
    module = "opentelemetry.exporter.otlp.proto.http.metric_exporter"
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingExtraError, match=r"\[otlp\]"):
        export_otlp("http://127.0.0.1:4318")


def test_a_resource_names_its_process() -> None:
    """Else two processes of a service would be one in Prometheus."""
    assert with_instance(Resource({}), "a").attributes["service.instance.id"] == "a"
    own = Resource({"service.instance.id": "b"})
    assert with_instance(own, "a") is own


def test_what_is_public_is_the_function() -> None:
    """It is imported when it is asked for."""
    assert otel_budget.export_otlp is export_otlp
    assert OtlpExport.__module__ == otlp_export.__name__
    assert otlp_exporters.usual_interval() == 5
