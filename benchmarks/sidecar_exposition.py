"""``/metrics`` of a sidecar with 10,000 runs, beside prometheus_client's own metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest

from benchmarks.exposition import ordinary_metrics, series_of
from benchmarks.report import Goal, Report
from benchmarks.rounds import Contestant, take_turns
from otel_budget.core.observation import Observation, RunAttributes, RunObservation
from otel_budget.ledger.ledger import Ledger
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot
from otel_budget.sidecar.metrics import SidecarMetrics
from otel_budget.sidecar.tick_result import TickResult

if TYPE_CHECKING:
    from collections.abc import Callable

_RUNS, _NOW = 10_000, 1_700_000_000.0
_OURS, _THEIRS = "otel-budget: the sidecar's /metrics", "prometheus_client: generate_latest"


def run(*, quick: bool) -> Report:
    """Measure one scrape of a sidecar."""
    metrics = SidecarMetrics("1", lambda: _NOW, lambda: 0)
    metrics.note_result(_step())
    # Besides them there are some sixty samples of the process, which only ours has.
    families = [
        f for f in metrics.registry.collect() if f.type == "gauge" and len(f.samples) >= _RUNS
    ]
    theirs = ordinary_metrics(families)
    samples = series_of(theirs)
    if not samples <= series_of(metrics.registry):
        raise RuntimeError("the two do not show the same series")
    contestants = [
        Contestant(_OURS, _ours(metrics)),
        Contestant(_THEIRS, _others(theirs)),
    ]
    timings = take_turns(contestants, rounds=3 if quick else 15, turn=0.2, label="scrapes")
    return Report(
        title="A scrape of a sidecar with 10,000 runs",
        about=(
            f"{len(samples):,} samples: the verdict of each run, with use, limit, warning line, "
            "rest, share and forecast of its resources. Beside it the same samples in "
            "prometheus_client's ordinary Counters and Gauges."
        ),
        columns=("", "ms", "of prometheus_client's generate_latest"),
        rows=tuple(
            (
                one.name,
                timings.seconds(one.name).text(1e3, 0),
                timings.ratio(one.name, _THEIRS).text(),
            )
            for one in contestants
        ),
        goals=(Goal("scrape, of prometheus_client", timings.ratio(_OURS, _THEIRS).median, 1.0),),
    )


def _step() -> TickResult:
    ledger = Ledger()
    attributes = RunAttributes(
        started_at=_NOW - 60, incarnation_at=_NOW - 60, state="running",
        limits={"tokens": 1_000_000, "api_calls": 1000},
    )  # fmt: skip
    sessions = tuple(
        RunObservation(
            f"run-{number:05}", "http://a/metrics", _NOW,
            {("tokens", ""): 1000 + number, ("api_calls", ""): 7}, attributes,
        )
        for number in range(_RUNS)
    )  # fmt: skip
    ledger.apply(Observation("scrape", _NOW, sessions))
    return TickResult(
        verdicts=tuple(
            verdict_from_snapshot(each, Rules(), _NOW) for each in ledger.snapshots(_NOW)
        )
    )


def _ours(metrics: SidecarMetrics) -> Callable[[int], None]:
    def work(times: int) -> None:
        for _ in range(times):
            metrics.exposition("text/plain")

    return work


def _others(registry: CollectorRegistry) -> Callable[[int], None]:
    def work(times: int) -> None:
        for _ in range(times):
            generate_latest(registry)

    return work
