"""The runs of a process on ``/metrics``: names, numbers that agree, and how long they stay."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterable
from itertools import count
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from otel_budget import ResourceMonitor, semconv
from otel_budget._version import __version__
from otel_budget.core.observation import Observation
from otel_budget.core.resources import BASIC, COUNTERS
from otel_budget.ledger.ledger import Ledger
from otel_budget.sdk.metrics.collector import RUNS, RunCollector
from otel_budget.sources.exposition import PageLimits, PageReader
from otel_budget.sources.session_assembly import NEEDED, assemble
from otel_budget.testing import FakeClock
from tests.support.monitors import Make
from tests.support.paths import TESTS
from tests.support.real import require

GOLDEN = TESTS / "golden" / "exposition.txt"
UPDATE = "OTEL_BUDGET_UPDATE_GOLDEN"


def registry_of(*monitors: ResourceMonitor) -> CollectorRegistry:
    """Return a registry that has these monitors' runs and no other."""
    collector, registry = RunCollector(), CollectorRegistry()
    for monitor in monitors:
        collector.add(monitor._record)
    registry.register(collector)
    return registry


def by_name(metrics: Iterable[Metric]) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return labels and values by the name of the sample."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for metric in metrics:
        for sample in metric.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def everything(make: Make, clock: FakeClock, root: Path) -> list[ResourceMonitor]:
    """Return runs in every state, that have a reason to show every metric there is."""
    busy = make(session_id="busy", project_root=root, max_tokens=5000, max_cost_usd=2.5,
                workflow="review", scope={"team": "a", "project": "b", "user": "c", "agent": "d"},
                token_warning_threshold=0.55, wrap_up_calls=2)  # fmt: skip
    busy.should_continue(0.25)
    with busy.phase('plan "first"\\'):
        busy.record_operation(
            input_tokens=1200, output_tokens=300, cache_read_tokens=1000, cache_write_tokens=100,
            reasoning_tokens=50, model="model-a", cost_usd=0.125, api_call=True,
        )  # fmt: skip
    busy.record_operation(7, api_call=True)
    busy.record_operation(tool_calls=3)
    busy.record_operation(None, api_call=True, outcome="error")
    clock.advance(60)
    busy.checkpoint()
    busy.checkpoint(object())
    busy._record.sidecar_reachable = True
    busy._record.is_judged = lambda: True
    paused = make(session_id="paused", max_duration_seconds=None, max_tokens=None,
                  max_api_calls=None)  # fmt: skip
    paused.pause()
    waits = make(session_id="waits", max_duration_seconds=None, max_tokens=None,
                 max_api_calls=None, limits_from_outside=True)  # fmt: skip
    waits._record.begin_waiting()
    clock.advance(1.5)
    before = make(session_id="done")
    before.close("completed", timeout=0)
    done = make(session_id="done")
    done.close("stopped", timeout=0)
    return [busy, paused, waits, before, done]


def test_the_exposition_is_the_golden_one(make: Make, clock: FakeClock, tmp_path: Path) -> None:
    """Names, help, types, labels and numbers; OTEL_BUDGET_UPDATE_GOLDEN=1 writes it anew."""
    text = generate_latest(registry_of(*everything(make, clock, tmp_path))).decode()
    text = text.replace(f'version="{__version__}"', 'version="VERSION"')
    if os.environ.get(UPDATE) == "1":
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.real("promtool")
def test_promtool_has_nothing_to_say_about_the_golden_exposition() -> None:
    """Not even that a name or a help text is unusual."""
    found = subprocess.run(
        [require("promtool"), "check", "metrics"],
        input=GOLDEN.read_bytes(),
        capture_output=True,
        check=False,
    )
    assert (found.returncode, found.stdout.decode(), found.stderr.decode()) == (0, "", "")


def test_every_metric_of_a_session_appears_when_there_is_reason_to(
    make: Make, clock: FakeClock, tmp_path: Path
) -> None:
    """With the kind and the labels of the contract, and never a timestamp."""
    metrics = list(registry_of(*everything(make, clock, tmp_path)).collect())
    samples = {sample.name: sample for metric in metrics for sample in metric.samples}
    kinds = {metric.name: metric.type for metric in metrics}
    assert set(samples) == {m.name for m in (*semconv.SESSION_METRICS, semconv.BUILD_INFO)}
    for metric in semconv.SESSION_METRICS:
        assert kinds[metric.name.removesuffix("_total")] == metric.kind
        labels = set(samples[metric.name].labels) - {semconv.SESSION_ID}
        assert labels <= set(metric.labels)
        assert metric is semconv.SESSION_INFO or labels == set(metric.labels)
        assert samples[metric.name].timestamp is None


def test_what_is_judged_exists_at_zero_from_the_start(make: Make) -> None:
    """A series born at 500,000 adds nothing to increase()."""
    found = by_name(registry_of(make(session_id="new")).collect())
    limited = by_name(registry_of(make(session_id="limited", max_tool_calls=1)).collect())
    for name, resource in COUNTERS.items():
        if resource in BASIC:
            assert found[name] == [({"session_id": "new"}, 0.0)]
        else:  # it may be that nothing counts it: that is not 0
            assert name not in found
            assert limited[name] == [({"session_id": "limited"}, 0.0)]
    for absent in (semconv.PROGRESS, semconv.LAST_CHECKPOINT, semconv.SIDECAR_REACHABLE,
                   semconv.SIDECAR_JUDGED, semconv.PHASE_TOKENS):  # fmt: skip
        assert absent.name not in found


def test_exactly_one_state_is_one(make: Make, clock: FakeClock, tmp_path: Path) -> None:
    """For each run."""
    found = by_name(registry_of(*everything(make, clock, tmp_path)).collect())
    states: dict[str, list[str]] = {}
    for labels, value in found[semconv.SESSION_STATE.name]:
        if value == 1:
            states.setdefault(labels["session_id"], []).append(labels["state"])
    assert states == {
        "busy": ["running"],
        "paused": ["paused"],
        "waits": ["waiting"],
        "done": ["stopped"],
    }


def test_the_parts_sum_up_to_the_totals_in_every_scrape_while_threads_record(make: Make) -> None:
    """Scrapes at once, and never half an operation in any of them."""
    monitor = make(max_tokens=None)
    registry, over = registry_of(monitor), threading.Event()
    wrong: list[object] = []

    def record() -> None:
        while not over.is_set():
            with monitor.phase("p"):
                monitor.record_operation(3, api_call=True, model="m", cost_usd=1)
            monitor.record_operation(input_tokens=2, output_tokens=3, api_call=True, cost_usd=2,
                                     outcome="error")  # fmt: skip

    def scrape() -> None:
        for _ in range(100):
            found = by_name(registry.collect())
            for total, parts in (
                (semconv.SESSION_TOKENS, semconv.PHASE_TOKENS),
                (semconv.SESSION_API_CALLS, semconv.PHASE_API_CALLS),
                (semconv.SESSION_COST, semconv.PHASE_COST),
            ):
                ((_, value),) = found[total.name]
                summed = sum(part for _, part in found.get(parts.name, []))
                if value != summed:
                    wrong.append((total.name, value, summed))

    recorders = [threading.Thread(target=record) for _ in range(2)]
    scrapers = [threading.Thread(target=scrape) for _ in range(3)]
    for thread in (*recorders, *scrapers):
        thread.start()
    for thread in scrapers:
        thread.join()
    over.set()
    for thread in recorders:
        thread.join()
    assert wrong == []


def test_a_name_that_no_encoding_can_hold_fails_no_scrape(make: Make) -> None:
    """Half of a surrogate pair, as a phase, a model or a label of the run."""
    monitor = make(workflow="\udcff")
    with monitor.phase("\ud800"):
        monitor.record_operation(1, model="\udfff")
    assert b'model="?"' in generate_latest(registry_of(monitor))


def test_two_monitors_of_one_session_are_one_series_until_both_are_over(make: Make) -> None:
    """Leaving, the first one's counts would look like a reset."""
    one, other = (make(session_id="twice") for _ in range(2))
    registry = registry_of(one, other)
    one.record_operation(10, api_call=True)
    other.record_operation(5, model="m")
    one.close("failed", timeout=0)
    found = by_name(registry.collect())
    assert found[semconv.SESSION_TOKENS.name] == [({"session_id": "twice"}, 15.0)]
    states = {labels["state"]: value for labels, value in found[semconv.SESSION_STATE.name]}
    assert states["running"] == 1
    other.close("stopped", timeout=0)
    found = by_name(registry.collect())
    states = {labels["state"]: value for labels, value in found[semconv.SESSION_STATE.name]}
    assert states["stopped"] == 1


def test_a_run_says_that_the_one_before_it_completed(make: Make) -> None:
    """No scrape may have come between them; it is no crash after which it begins again."""
    monitors = []
    for state in ("failed", "completed", "stopped", "completed", "completed"):
        monitors.append(make(session_id="loop"))
        monitors[-1].close(state, timeout=0)
    told = [
        semconv.FOLLOWS_COMPLETED.name in by_name(registry_of(*monitors[:number]).collect())
        for number in range(1, 6)
    ]
    assert told == [False, False, True, False, True]


def test_describing_the_collector_is_no_scrape() -> None:
    """Registering it must not count as one: closing runs would wait for another."""
    registry = CollectorRegistry()
    registry.register(RUNS)
    assert not RUNS._scrapers


def test_a_reader_can_tell_a_limit_that_was_lifted_from_one_that_was_lost(
    make: Make, clock: FakeClock
) -> None:
    """The run says how many series of limits, and of progress, it has."""
    monitor = make(max_tokens=5000, max_cost_usd=2.5, max_active_seconds=60)
    ledger, registry = Ledger(), registry_of(monitor)

    def limits() -> set[str]:
        clock.advance(1)
        reader = PageReader(NEEDED, PageLimits(), 5.0)
        samples = reader.read(generate_latest(registry), "text/plain")
        at = float(next(numbers))
        ledger.apply(Observation("scrape", at, assemble(samples, "a", at).sessions))
        return set(ledger.runs[monitor.session_id].attributes.limits)

    numbers = count(1_800_000_000)
    everything = {"duration", "active_duration", "tokens", "api_calls", "cost"}
    assert limits() == everything
    monitor.update_limits(max_tokens=None)
    monitor.should_continue(0.25)
    assert limits() == everything - {"tokens"}
    monitor.update_limits(max_cost_usd=None)
    monitor.should_continue()
    assert limits() == everything - {"tokens", "cost"}


def test_a_reader_can_tell_calls_kept_back_that_were_lifted_from_ones_that_were_lost(
    make: Make, clock: FakeClock
) -> None:
    """They are one of the series whose number the run says; of none there is no series."""
    monitor = make(max_tokens=5000, wrap_up_calls=2)
    ledger, registry = Ledger(), registry_of(monitor)

    def kept_back(lost: str = "") -> float | None:
        clock.advance(1)
        samples = PageReader(NEEDED, PageLimits(), 5.0).read(
            generate_latest(registry), "text/plain"
        )
        at = float(next(numbers))
        shown = assemble([s for s in samples if s.name != lost], "a", at).sessions
        ledger.apply(Observation("scrape", at, shown))
        return ledger.runs[monitor.session_id].attributes.wrap_up_calls

    numbers = count(1_800_000_000)
    assert kept_back() == 2
    assert kept_back(lost=semconv.WRAP_UP_CALLS.name) == 2
    monitor.update_limits(wrap_up_calls=0)
    assert kept_back() is None


def test_what_a_run_with_several_records_allows_and_waits_for_is_that_of_those_that_go_on(
    make: Make,
) -> None:
    """One that ended says nothing of it; of two that go on, both have to allow limits."""
    before = make(session_id="again")
    before.close("stopped", timeout=0)
    live = make(session_id="again", limits_from_outside=True)
    live._record.begin_waiting()
    names = (semconv.LIMITS_FROM_OUTSIDE.name, semconv.WAITING_SINCE.name)
    found = by_name(registry_of(before, live).collect())
    assert all(name in found for name in names)
    other = make(session_id="again")
    found = by_name(registry_of(before, live, other).collect())
    assert not any(name in found for name in names)
