"""What all runs of a process used, through whatever reader the application has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_budget import ResourceLimits, ResourceMonitor, semconv
from otel_budget.sdk.clock import SYSTEM_CLOCK
from otel_budget.sdk.metrics.label_cap import MAX_VALUES
from otel_budget.sdk.metrics.process_totals import ProcessUsage
from otel_budget.sdk.run_counters import FOLDED
from otel_budget.sdk.run_record import RunRecord
from otel_budget.sdk.usage_arguments import OperationUsage
from tests.support.monitors import Make


class Backend:
    """Sums of a process, and what a reader gets of them."""

    def __init__(self) -> None:
        """Make the instruments, once however often they are asked for."""
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider(metric_readers=[self.reader], shutdown_on_exit=False)
        self.usage = ProcessUsage()
        for _ in range(2):
            self.usage.instruments(self.provider.get_meter("test"))

    def add(self, monitor: ResourceMonitor) -> ResourceMonitor:
        """Count a monitor here, too."""
        self.usage.add(monitor._record)
        return monitor

    def metrics(self) -> dict[str, Any]:
        """Return metrics by name."""
        data = self.reader.get_metrics_data()
        assert data is not None
        (resource,) = data.resource_metrics
        (scope,) = resource.scope_metrics
        names = [metric.name for metric in scope.metrics]
        assert len(names) == len(set(names))
        return {metric.name: metric for metric in scope.metrics}

    def points(self, metric: semconv.Metric) -> dict[tuple[tuple[str, Any], ...], float]:
        """Return values by sorted attributes."""
        found = self.metrics()[metric.otel_name].data.data_points
        own = {semconv.SERVICE_INSTANCE_ID}
        assert all(own <= point.attributes.keys() for point in found)
        return {
            tuple(sorted((k, v) for k, v in point.attributes.items() if k not in own)): point.value
            for point in found
        }


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A process with a reader of its own."""
    made = Backend()
    yield made
    made.provider.shutdown()


def test_use_is_summed_by_workflow_scope_model_and_kind(backend: Backend, make: Make) -> None:
    """Over all runs, without their ids: low in cardinality."""
    for _ in range(2):
        monitor = backend.add(make(workflow="w", scope={"team": "t"}))
        monitor.record_operation(
            input_tokens=10, output_tokens=5, api_call=True, model="m", cost_usd=0.1
        )
        monitor.record_operation(7, api_call=True, outcome="error")
    own = (("model", "m"), ("team", "t"))
    assert backend.points(semconv.USAGE_TOKENS) == {
        (*own, ("token_type", "input"), ("workflow", "w")): 20,
        (*own, ("token_type", "output"), ("workflow", "w")): 10,
        (("model", "unspecified"), ("team", "t"), ("token_type", "unspecified"),
         ("workflow", "w")): 14,
    }  # fmt: skip
    assert backend.points(semconv.USAGE_API_CALLS) == {
        (("model", "m"), ("outcome", "ok"), ("team", "t"), ("workflow", "w")): 2,
        (("model", "unspecified"), ("outcome", "error"), ("team", "t"), ("workflow", "w")): 2,
    }
    assert backend.points(semconv.USAGE_COST) == {(*own, ("workflow", "w")): 0.2}


def test_parts_and_what_nobody_knows_are_summed_too(backend: Backend, make: Make) -> None:
    """Calls of unknown price or use are there from the first call of a model on, be it at 0."""
    monitor = backend.add(make(workflow="w"))
    monitor.record_operation(
        input_tokens=10, cache_read_tokens=7, cache_write_tokens=2, output_tokens=5,
        reasoning_tokens=3, api_call=True, model="m", cost_usd=1,
    )  # fmt: skip
    own = (("model", "m"), ("workflow", "w"))
    detail = {
        dict(key)["detail"]: value
        for key, value in backend.points(semconv.USAGE_TOKEN_DETAILS).items()
    }
    assert detail == {"cache_read": 7, "cache_write": 2, "reasoning": 3}
    assert backend.points(semconv.USAGE_UNPRICED_CALLS) == {own: 0}
    assert backend.points(semconv.USAGE_UNKNOWN_CALLS) == {own: 0}
    monitor.record_operation(1, api_call=True, model="m")
    monitor.record_operation(None, api_call=True, model="m", cost_usd=1)
    assert backend.points(semconv.USAGE_UNPRICED_CALLS) == {own: 1}
    assert backend.points(semconv.USAGE_UNKNOWN_CALLS) == {own: 1}


def test_names_units_and_kinds_are_those_of_the_contract(backend: Backend, make: Make) -> None:
    """Counters, that only rise."""
    FOLDED[semconv.MODEL] += 1
    backend.add(make(wrap_up_calls=1)).record_operation(
        input_tokens=2, cache_read_tokens=1, api_call=True, cost_usd=1, tool_calls=1
    )
    found = backend.metrics()
    assert set(found) == {metric.otel_name for metric in semconv.PROCESS_METRICS}
    for metric in semconv.PROCESS_METRICS:
        got = found[metric.otel_name]
        assert (got.unit, got.description) == (metric.otel_unit, metric.help)
        assert got.data.is_monotonic


def test_a_run_that_is_over_stays_in_the_sums(backend: Backend, make: Make) -> None:
    """Once: retired twice, it is not counted twice; and others are added to it."""
    for tokens in (3, 4):
        monitor = backend.add(make())
        monitor.record_operation(tokens, cost_usd=0.1)
        for _ in range(2):
            backend.usage.retire(monitor._record)
    backend.add(make()).record_operation(5, cost_usd=0.1)
    assert sum(backend.points(semconv.USAGE_TOKENS).values()) == 12
    assert sum(backend.points(semconv.USAGE_COST).values()) == 0.3
    assert len(backend.usage._live) == 1


def test_labels_past_their_cap_fold_and_lose_nothing(backend: Backend, make: Make) -> None:
    """And stay folded: a series never moves to another name."""
    monitors = [backend.add(make(workflow=f"w{n}")) for n in range(MAX_VALUES + 10)]
    for monitor in monitors:
        monitor.record_operation(1)
    before = backend.points(semconv.USAGE_TOKENS)
    assert len(before) == MAX_VALUES + 1
    folded = tuple(sorted({"workflow": "other", "model": "unspecified",
                           "token_type": "unspecified"}.items()))  # fmt: skip
    assert before[folded] == 10
    for monitor in monitors:
        backend.usage.retire(monitor._record)
    assert backend.points(semconv.USAGE_TOKENS) == before


def test_calls_outside_of_every_run_never_fold_into_other() -> None:
    """However many workflows a process has had: nobody would see that they are no run's."""
    process = ProcessUsage()
    workflows = [f"w{number}" for number in range(MAX_VALUES + 10)]
    for workflow in (*workflows, semconv.UNATTRIBUTED):
        labels = {semconv.WORKFLOW: workflow}
        record = RunRecord("s", ResourceLimits(), SYSTEM_CLOCK, labels=labels)
        process.add(record)
        with record.lock:
            record.add(record.counters(None, None), OperationUsage(7, api_call=True))
        process.retire(record)
    by_workflow = {row["workflow"]: n for row, n in process.sums(semconv.USAGE_TOKENS)}
    assert by_workflow[semconv.UNATTRIBUTED] == 7
    assert by_workflow[semconv.OTHER] == 7 * 10


def test_labels_of_ones_own_are_in_no_sums(backend: Backend, make: Make) -> None:
    """They may have any number of values, and the sums of a process stay as they are."""
    for number in range(3):
        monitor = backend.add(make(scope={"team": "t", "tenant": f"t{number}"}))
        monitor.record_operation(10, model="m")
    assert backend.points(semconv.USAGE_TOKENS) == {
        (("model", "m"), ("team", "t"), ("token_type", "unspecified")): 30,
    }
