"""A scrape of 1,000 live sessions, beside prometheus_client's own metrics with the same samples."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.registry import Collector

from benchmarks.report import Goal, Report
from benchmarks.rounds import Contestant, take_turns
from otel_budget import ResourceLimits, ResourceMonitor
from otel_budget.sdk.metrics.collector import RUNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from benchmarks.rounds import Timings

_SESSIONS = 1_000
_PHASES = (("plan", "a-model"), ("write", "another-model"))

_OURS, _THEIRS = "otel-budget: generate_latest", "prometheus_client: generate_latest"
_OURS_COLLECT, _THEIRS_COLLECT = "otel-budget: collect alone", "prometheus_client: collect alone"
_FORMAT = "the same samples, ready: text alone"


class _Ready(Collector):
    """Families that were collected before."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def run(*, quick: bool) -> Report:
    """Measure a scrape."""
    disable_created_metrics()  # type: ignore[no-untyped-call] # theirs; ours have none
    monitors = [_session(number) for number in range(_SESSIONS)]
    ours = CollectorRegistry()
    ours.register(RUNS)
    theirs = ordinary_metrics(ours.collect())
    ready = CollectorRegistry()
    ready.register(_Ready(list(ours.collect())))
    samples = series_of(ours)
    if samples != series_of(theirs):
        raise RuntimeError("the two registries do not hold the same series")
    contestants = [
        Contestant(_OURS, _generate(ours)),
        Contestant(_THEIRS, _generate(theirs)),
        Contestant(_OURS_COLLECT, _collect(ours)),
        Contestant(_THEIRS_COLLECT, _collect(theirs)),
        Contestant(_FORMAT, _generate(ready)),
    ]
    timings = take_turns(contestants, rounds=4 if quick else 30, turn=0.1, label="scrapes")
    for monitor in monitors:
        monitor.close(timeout=0)
    return _report(timings, contestants, len(samples), len(generate_latest(theirs)))


def _report(timings: Timings, contestants: list[Contestant], samples: int, size: int) -> Report:
    rows = tuple(
        (one.name, timings.seconds(one.name).text(1e3, 0), timings.ratio(one.name, _THEIRS).text())
        for one in contestants
    )
    return Report(
        title="A scrape of 1,000 live sessions",
        about=(
            f"{samples:,} samples, {size / 2**20:.1f} MiB of text. Beside them the same series, "
            "labels included, in prometheus_client's ordinary Counters and Gauges. The text is "
            "written by prometheus_client in both cases."
        ),
        columns=("", "ms", "of prometheus_client's generate_latest"),
        rows=rows,
        goals=(Goal("scrape, of prometheus_client", timings.ratio(_OURS, _THEIRS).median, 1.5),),
    )


def _session(number: int) -> ResourceMonitor:
    """Return a live session that has used something in each phase."""
    limits = ResourceLimits(max_cost_usd=Decimal(100))
    monitor = ResourceMonitor(
        limits, f"session-{number:04}", workflow="bench", scope={"team": "a-team"}
    )
    for phase, model in _PHASES:
        with monitor.phase(phase):
            monitor.should_continue(0.4)
            monitor.record_operation(
                api_call=True,
                input_tokens=1000 + number,
                output_tokens=200,
                cache_read_tokens=800,
                model=model,
                cost_usd=0.0125,
            )
    return monitor


def ordinary_metrics(families: Iterable[Metric]) -> CollectorRegistry:
    """Put the same series into prometheus_client's own metrics."""
    registry = CollectorRegistry()
    for family in families:
        names = tuple(family.samples[0].labels)
        if family.type == "counter":
            counter = Counter(family.name, family.documentation, names, registry=registry)
            for sample in family.samples:
                counter.labels(**sample.labels).inc(sample.value)
        else:
            gauge = Gauge(family.name, family.documentation, names, registry=registry)
            for sample in family.samples:
                gauge.labels(**sample.labels).set(sample.value)
    return registry


def series_of(registry: CollectorRegistry) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    return {
        (sample.name, frozenset(sample.labels.items()))
        for family in registry.collect()
        for sample in family.samples
    }


def _generate(registry: CollectorRegistry) -> Callable[[int], None]:
    def work(times: int) -> None:
        for _ in range(times):
            generate_latest(registry)

    return work


def _collect(registry: CollectorRegistry) -> Callable[[int], None]:
    def families() -> Iterator[Metric]:
        yield from registry.collect()

    def work(times: int) -> None:
        for _ in range(times):
            for _family in families():
                pass

    return work
