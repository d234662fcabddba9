"""The sidecar's own metrics: all of the contract, nothing else, and clean for Prometheus."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from otel_budget import semconv
from otel_budget.core.forecast import Estimate, Forecast
from otel_budget.core.observation import Observation, Problem, RunObservation
from otel_budget.core.reasons import Reason
from otel_budget.sidecar.forecast_metrics import Forecasts
from tests.support.real import require
from tests.support.sidecar_fixtures import LEASE, Sidecar, outage, reading, session, sidecar

Samples = dict[str, dict[tuple[str, ...], float]]


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Sidecar]:
    """A sidecar after some ticks in which every metric got a value."""
    late = Problem("elsewhere", Reason.SOURCE_ERROR, "timed out")
    stopped = session("run-2", 5000, limits={semconv.COST: 5})
    steps: list[Observation] = [
        reading(called(1, 100), stopped, problems=(late,), dropped={"implausible": 2}),
        reading(called(2, 180), stopped),
        reading(called(3, 200), stopped),
        reading(called(4, 50), stopped),
        reading(stopped),
    ]
    parts = sidecar(tmp_path, *steps)
    ticks(parts, 10)
    parts.metrics.note_failed_tick()
    yield parts
    parts.storage.close()


def called(calls: int, tokens: int) -> RunObservation:
    """Return what a scrape shows of a run that has made so many calls."""
    shown = session(tokens=tokens)
    return shown._replace(counters={**shown.counters, (semconv.API_CALLS, ""): calls})


def ticks(parts: Sidecar, times: int) -> None:
    """Tick once a second."""

    async def several() -> None:
        for _ in range(times):
            await parts.loop.tick()
            parts.clock.advance(1.0)

    asyncio.run(several())


def samples(text: str) -> Samples:
    """Return the values by sample name and label values, in the order of the contract's labels."""
    order = {metric.name: metric.labels for metric in semconv.SIDECAR_METRICS}
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            labels = order.get(one.name, tuple(one.labels))
            key = tuple(one.labels[name] for name in labels)
            found.setdefault(one.name, {})[key] = one.value
    return found


def test_every_metric_of_the_contract_is_there_with_its_type_labels_and_help(busy: Sidecar) -> None:
    families = {}
    for family in text_string_to_metric_families(busy.metrics_page()):
        name = family.name + ("_total" if family.type == "counter" else "")
        families[name] = family
    assert set(families) == {metric.name for metric in semconv.SIDECAR_METRICS}
    for metric in semconv.SIDECAR_METRICS:
        family = families[metric.name]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels), metric.name


def test_the_numbers_are_those_of_the_verdicts(busy: Sidecar) -> None:
    found = samples(busy.metrics_page())
    assert found["otel_budget_verdict"] == {("run-1",): 1.0, ("run-2",): 0.0}
    assert found["otel_budget_verdict_info"] == {
        ("run-1", "inconclusive", "stale_data", "running"): 1.0,
        ("run-2", "exceeded", "limit_exceeded", "running"): 1.0,
    }
    assert found["otel_budget_used"]["run-1", "tokens", "tokens"] == 250
    assert found["otel_budget_remaining"]["run-1", "tokens", "tokens"] == 750
    assert found["otel_budget_effective_limit"]["run-1", "tokens", "tokens"] == 1000
    assert found["otel_budget_effective_warning_limit"]["run-1", "tokens", "tokens"] == 800
    assert found["otel_budget_utilization_ratio"]["run-2", "tokens"] == 5.0
    assert found["otel_budget_remaining"]["run-2", "tokens", "tokens"] == 0
    assert found["otel_budget_limit_unjudged"] == {("run-2", "cost"): 1.0}, "it exports no cost"


def test_what_is_unlimited_or_not_spent_is_absent(busy: Sidecar) -> None:
    found = samples(busy.metrics_page())
    assert ("run-1", "api_calls") not in found["otel_budget_utilization_ratio"]
    assert ("run-1", "api_calls", "calls") not in found["otel_budget_remaining"]
    assert ("run-1", "api_calls", "calls") not in found["otel_budget_effective_limit"]
    assert ("run-1", "api_calls", "calls") not in found["otel_budget_effective_warning_limit"]
    assert ("run-1", "tokens") in found["otel_budget_exhaustion_seconds"]
    assert found["otel_budget_exhaustion_seconds"]["run-2", "tokens"] == 0, "its limit is reached"
    assert "Inf " not in busy.metrics_page().replace('le="+Inf"', "")
    assert "NaN" not in busy.metrics_page()


@pytest.mark.parametrize(
    ("calls", "seconds", "want"),
    [
        (
            Estimate(23.4, 19.2, 27.1),
            Estimate(512.0, 418.3, 604.9),
            [512.0, 418.3, 604.9, 23.4, 19.2, 27.1],
        ),
        (Estimate(7.0, 7.0, 7.0), None, [None, None, None, 7.0, None, None]),
        (None, Estimate(60.0, 60.0, 60.0), [60.0, None, None, None, None, None]),
        (None, None, [None] * 6),
    ],
)
def test_a_forecast_is_shown_with_its_range_where_it_has_one(
    calls: Estimate | None, seconds: Estimate | None, want: list[float | None]
) -> None:
    """What cannot be told is absent; nor is what is exact shown three times."""
    forecasts = Forecasts()
    forecasts.add(("run-1", "tokens"), Forecast(calls, seconds))
    assert [
        family.samples[0].value if family.samples else None for family in forecasts.families
    ] == want


def test_a_run_that_is_over_runs_out_of_nothing(tmp_path: Path) -> None:
    """Its rate is history; what it used, and of what, is still shown."""
    parts = sidecar(
        tmp_path,
        reading(session(tokens=100)),
        reading(session(tokens=200)),
        reading(session(tokens=300, state="stopped")),
    )
    ticks(parts, 2)
    assert ("run-1", "tokens") in samples(parts.metrics_page())["otel_budget_exhaustion_seconds"]
    ticks(parts, 3)
    found = samples(parts.metrics_page())
    assert "otel_budget_exhaustion_seconds" not in found
    assert found["otel_budget_used"]["run-1", "tokens", "tokens"] == 300
    assert [labels[3] for labels in found["otel_budget_verdict_info"]] == ["stopped"]
    parts.storage.close()


def test_what_happened_is_counted_once(busy: Sidecar) -> None:
    found = samples(busy.metrics_page())
    assert above_zero(found["otel_budget_sidecar_inconclusive_total"]) == {("stale_data",): 1.0}
    assert above_zero(found["otel_budget_sidecar_dropped_samples_total"]) == {("implausible",): 2.0}
    assert above_zero(found["otel_budget_sidecar_resets_total"]) == {("counter",): 1.0}
    assert above_zero(found["otel_budget_verdict_changes_total"]) == {
        ("continue", "within_limits"): 1.0,
        ("stop", "limit_exceeded"): 1.0,
        ("continue", "stale_data"): 1.0,
    }
    assert found["otel_budget_sidecar_tick_duration_seconds_count"] == {(): 10.0}
    assert found["otel_budget_sidecar_tick_failures_total"] == {(): 1.0}


def above_zero(counts: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    """Return the counts of what happened."""
    return {labels: count for labels, count in counts.items() if count}


def test_what_did_not_happen_yet_is_there_at_0(tmp_path: Path) -> None:
    """Prometheus sees no increase in a series that begins at 1: the first time would be lost."""
    parts = sidecar(tmp_path)
    found = samples(parts.metrics_page())
    parts.storage.close()
    data = {
        "stale_data", "source_error", "partial_data", "implausible_data", "internal_error",
    }  # fmt: skip
    assert found["otel_budget_sidecar_inconclusive_total"] == {(reason,): 0.0 for reason in data}
    dropped = found["otel_budget_sidecar_dropped_samples_total"]
    assert dropped == {(reason,): 0.0 for reason in semconv.DROP_REASONS}
    resets = found["otel_budget_sidecar_resets_total"]
    assert resets == {(reason,): 0.0 for reason in semconv.RESET_REASONS}
    changes = found["otel_budget_verdict_changes_total"]
    assert {reason for _, reason in changes} == set(Reason) - {"sidecar_lost", "budget_busy"}
    assert not any(changes.values())
    refused = found["otel_budget_sidecar_refused_requests_total"]
    assert refused == {(reason,): 0.0 for reason in semconv.REFUSAL_REASONS}


def test_the_process_speaks_of_itself(busy: Sidecar) -> None:
    with busy.broadcaster.subscribe():
        found = samples(busy.metrics_page())
    assert found["otel_budget_sidecar_subscribers"] == {(): 1.0}
    assert found["otel_budget_sidecar_sessions"] == {(): 2.0}
    assert found["otel_budget_build_info"] == {("1.2.3",): 1.0}
    assert found["otel_budget_sidecar_source_up"] == {("scrape",): 1.0}
    assert found["otel_budget_sidecar_data_age_seconds"] == {("scrape",): 1.0}
    assert found["otel_budget_sidecar_config_last_reload_successful"] == {(): 1.0}
    busy.metrics.note_reload(ok=False)
    assert "last_reload_successful 0.0" in busy.metrics_page()


def test_a_source_that_is_down_is_down_and_its_data_grow_old(tmp_path: Path) -> None:
    parts = sidecar(tmp_path, reading(session()), outage())
    ticks(parts, 5)
    found = samples(parts.metrics_page())
    parts.storage.close()
    assert found["otel_budget_sidecar_source_up"] == {("scrape",): 0.0}
    assert found["otel_budget_sidecar_data_age_seconds"] == {("scrape",): 5.0}


def test_before_the_first_tick_nothing_is_claimed(tmp_path: Path) -> None:
    parts = sidecar(tmp_path)
    found = samples(parts.metrics_page())
    parts.storage.close()
    assert "otel_budget_sidecar_source_up" not in found
    assert "otel_budget_sidecar_data_age_seconds" not in found
    assert found["otel_budget_sidecar_sessions"] == {(): 0.0}


@pytest.mark.real("promtool")
def test_promtool_finds_nothing_to_say(busy: Sidecar) -> None:
    done = subprocess.run(
        [require("promtool"), "check", "metrics"],
        input=busy.metrics_page(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_openmetrics_is_given_to_who_asks_for_it(busy: Sidecar) -> None:
    body, content_type = busy.metrics.exposition("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_a_verdict_past_its_lease_has_no_series_and_is_counted(busy: Sidecar) -> None:
    """What was so then may not be shown as what is so now; alerts on it would hold on to it."""
    busy.clock.advance(LEASE)
    found = samples(busy.metrics_page())
    assert found["otel_budget_sidecar_expired_verdicts"] == {(): 2.0}
    for metric in (semconv.VERDICT, semconv.VERDICT_INFO, semconv.USED, semconv.REMAINING):
        assert metric.name not in found


def test_a_run_that_may_make_its_last_calls_is_told_from_one_that_may_not(tmp_path: Path) -> None:
    """An operator sees how many; of a run past its limit, and of one that goes on, none."""
    runs = []
    for name, calls in (("wraps-up", 9), ("over", 10), ("goes-on", 1)):
        shown = session(name, 100, limits={semconv.API_CALLS: 10})
        kept = shown.attributes._replace(wrap_up_calls=1.0)
        counters = {**shown.counters, (semconv.API_CALLS, ""): calls}
        runs.append(shown._replace(attributes=kept, counters=counters))
    parts = sidecar(tmp_path, reading(*runs))
    ticks(parts, 1)
    found = samples(parts.metrics_page())
    assert found[semconv.VERDICT_LAST_CALLS.name] == {("wraps-up",): 1.0}
    told = {labels[0]: labels[2] for labels in found[semconv.VERDICT_INFO.name]}
    assert told == {"wraps-up": "wrap_up", "over": "limit_exceeded", "goes-on": "within_limits"}
    parts.storage.close()
