"""Calls whose price or usage nobody knows: what they do to the run that made them."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from otel_budget import BudgetExceeded, LimitStatus, ResourceLimits, ResourceMonitor, Verdict
from otel_budget.core.observation import Observation
from otel_budget.core.samples import Sample
from otel_budget.ledger.ledger import Ledger
from otel_budget.policy.unknown_usage import OnUnknown
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot
from otel_budget.sdk.metrics.collector import RUNS
from otel_budget.sdk.usage_arguments import OperationUsage
from otel_budget.sources.session_assembly import assemble
from otel_budget.testing import FakeClock
from tests.support.monitors import Make

USE: dict[str, Any] = {"api_call": True, "model": "gpt-4o"}


def known(monitor: ResourceMonitor, into: int, out: int, **more: Any) -> None:
    """Record a call whose tokens are known."""
    monitor.record_operation(input_tokens=into, output_tokens=out, **{**USE, **more})


def unknown(monitor: ResourceMonitor, **more: Any) -> None:
    """Record a call whose tokens nobody knows."""
    monitor.record_operation(None, **{**USE, **more})


# --- estimate -------------------------------------------------------------------------------------
def test_a_call_of_unknown_usage_counts_the_mean_of_its_model_rounded_up(make: Make) -> None:
    """Input and output apart, so that it has a price; and it says that it is an estimate."""
    monitor = make(on_unknown_usage="estimate", max_cost_usd=1)
    known(monitor, 1000, 100)
    known(monitor, 501, 51)
    known(monitor, 9, 9, model="gpt-4.1")
    unknown(monitor)
    usage = monitor.get_usage_report()
    assert usage.input_tokens == 1000 + 501 + 9 + 751
    assert usage.output_tokens == 100 + 51 + 9 + 76
    assert (usage.estimated_calls, usage.estimated_tokens) == (1, 751 + 76)
    assert (usage.unknown_usage_calls, usage.unpriced_calls) == (0, 0)
    assert usage.api_calls == 4


def test_an_estimate_is_priced_like_any_call(make: Make) -> None:
    """Two calls of which one is estimated cost twice the one."""
    monitor = make(on_unknown_usage="estimate")
    known(monitor, 1000, 100)
    cost = monitor.get_usage_report().cost_usd
    unknown(monitor)
    assert monitor.get_usage_report().cost_usd == 2 * cost
    unknown(monitor, cost_usd=1)
    assert monitor.get_usage_report().cost_usd == 2 * cost + 1


def test_the_mean_is_not_of_estimates_nor_of_what_failed_nor_of_what_is_no_call(
    make: Make,
) -> None:
    """Nor of calls that are unknown themselves: only of calls like it."""
    monitor = make(on_unknown_usage="estimate")
    unknown(monitor)  # none to go by yet
    known(monitor, 100, 10)
    known(monitor, 1, 0, outcome="error")
    known(monitor, 5000, 5000, api_call=False)
    unknown(monitor)
    known(monitor, 200, 20)
    before = monitor.get_usage_report()
    unknown(monitor)
    after = monitor.get_usage_report()
    assert after.input_tokens - before.input_tokens == 150
    assert after.output_tokens - before.output_tokens == 15
    assert (after.estimated_calls, after.unknown_usage_calls) == (2, 1)


def test_what_is_known_of_a_call_is_not_estimated(make: Make) -> None:
    """A stream that was left said its input, and not how much of its output was made."""
    record = make(on_unknown_usage="estimate")._record
    cell = record.counters(None, "gpt-4o")
    record.add(cell, OperationUsage(1100, 1000, 100, api_call=True))
    left = OperationUsage(405, 400, 5, cache_read_tokens=300, api_call=True, usage_unknown=True)
    want = OperationUsage(500, 400, 100, cache_read_tokens=300, api_call=True, estimated=True)
    assert record.estimated("gpt-4o", left) == want
    longer = left._replace(tokens=700, output_tokens=300)
    assert record.estimated("gpt-4o", longer).output_tokens == 300


def test_a_run_whose_calls_give_one_number_estimates_one_number(make: Make) -> None:
    """It is unpriced, as they are."""
    monitor = make(on_unknown_usage="estimate")
    monitor.record_operation(300, **USE)
    unknown(monitor)
    usage = monitor.get_usage_report()
    assert (usage.tokens, usage.input_tokens, usage.unpriced_calls) == (600, 0, 2)


@pytest.mark.parametrize(
    "more", [{"model": "gpt-4.1"}, {"model": None}, {"outcome": "error"}, {"api_call": False}]
)
def test_without_another_call_like_it_a_call_stays_unknown(
    make: Make, more: dict[str, Any]
) -> None:
    """Of another model, of none, one that failed, what is no call at all."""
    monitor = make(on_unknown_usage="estimate")
    known(monitor, 100, 10)
    unknown(monitor, **more)
    usage = monitor.get_usage_report()
    assert (usage.unknown_usage_calls, usage.estimated_calls, usage.tokens) == (1, 0, 110)


def test_models_past_the_cap_are_not_taken_for_one(make: Make) -> None:
    """What they used is added up under one name, and the mean would be of many models."""
    monitor = make(on_unknown_usage="estimate")
    for number in range(102):
        known(monitor, 100, 10, model=f"model-{number}")
    unknown(monitor, model="model-101")
    unknown(monitor, model="model-5")
    usage = monitor.get_usage_report()
    assert (usage.unknown_usage_calls, usage.estimated_calls) == (1, 1)


def test_by_default_nothing_is_estimated(make: Make) -> None:
    """It is a choice."""
    monitor = make()
    known(monitor, 100, 10)
    unknown(monitor)
    assert monitor.get_usage_report().estimated_calls == 0
    monitor.update_limits(on_unknown_usage="estimate")
    unknown(monitor)
    assert monitor.get_usage_report().estimated_calls == 1


def test_an_estimate_is_one_wherever_it_is_shown(make: Make, session_id: str) -> None:
    """Check, verdict, summary, message and metric."""
    monitor = make(
        session_id=session_id, on_unknown_usage="estimate", max_tokens=250, max_cost_usd=1
    )
    known(monitor, 100, 10)
    unknown(monitor)
    check = monitor.check_limits()
    assert check.status is LimitStatus.APPROACHING
    assert check.message.startswith("tokens at about 88.0% (220 of 250)")
    assert {name for name, state in check.resources.items() if state.estimated} == {
        "tokens", "cost",
    }  # fmt: skip
    assert monitor.verdict.resources["tokens"].estimated
    summary = monitor.get_usage_summary()
    assert summary["tokens"]["estimated"] is True
    assert "estimated" not in summary["api_calls"]
    registry = CollectorRegistry()
    registry.register(RUNS)
    labels = {"session_id": session_id}
    assert registry.get_sample_value("otel_budget_estimated_calls_total", labels) == 1


def test_estimates_outlive_a_checkpoint(tmp_path: Path, clock: FakeClock, session_id: str) -> None:
    """A resumed run goes on with them, and with what is to be done about the next."""
    limits = ResourceLimits(
        on_unknown_usage="estimate", on_unpriced="stop", max_cost_usd=Decimal(1)
    )
    first = ResourceMonitor(limits, session_id, tmp_path, clock=clock.clock)
    known(first, 100, 10)
    unknown(first)
    first.close("stopped", timeout=0)
    second = ResourceMonitor.resume(session_id, tmp_path, clock=clock.clock)
    assert second.limits == limits
    usage = second.get_usage_report()
    assert (usage.estimated_calls, usage.estimated_tokens) == (1, 110)
    assert second.check_limits().resources["tokens"].estimated
    second.close(timeout=0)


# --- stop -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("limits", "use", "reason"),
    [
        ({"on_unpriced": "stop", "max_cost_usd": 1}, {"tokens": 5}, "unpriced_calls"),
        (
            {"on_unpriced": "stop", "max_cost_usd": 1},
            {"model": "a-model", "input_tokens": 5},
            "unpriced_calls",
        ),
        ({"on_unknown_usage": "stop"}, {"tokens": None}, "unknown_usage"),
        ({"on_unknown_usage": "stop"}, {"tokens": None, "model": "gpt-4o"}, "unknown_usage"),
    ],
)
def test_such_a_call_stops_the_run_at_once(
    make: Make, limits: dict[str, Any], use: dict[str, Any], reason: str
) -> None:
    """The next question is answered with stop, whatever the progress; those who wait are woken."""
    monitor = make(**limits)
    assert monitor.should_continue(0.5)
    assert monitor._guard.unchanged_until > -math.inf
    monitor.record_operation(api_call=True, **use)
    assert monitor.wait_for_stop(0) is not None
    for progress in (0.5, 0.99, None):
        assert not monitor.should_continue(progress)
    assert monitor.verdict.reason == reason
    assert monitor.verdict.status is LimitStatus.OK
    with pytest.raises(BudgetExceeded, match="1 call"):
        monitor.raise_if_stopped()


def test_a_priced_call_leaves_a_run_that_minds_prices_calm(make: Make) -> None:
    """Policy is asked for the calls that it is about, not for every one."""
    monitor = make(on_unpriced="stop", on_unknown_usage="stop", max_cost_usd=1)
    monitor.should_continue(0.5)
    calm = monitor._guard.unchanged_until
    looks: list[object] = []
    monitor._guard.watermark_crossed = lambda: looks.append(1)  # type: ignore[method-assign] # counts the looks
    known(monitor, 10, 1)
    known(monitor, 10, 1, cost_usd=Decimal("0.01"), model="a-model")
    known(monitor, 0, 0, outcome="error")
    assert monitor.should_continue(0.5)
    assert monitor._guard.unchanged_until == calm
    assert looks == []


@pytest.mark.parametrize("limits", [{"max_cost_usd": None}, {"on_unpriced": "ignore"}])
def test_an_unpriced_call_stops_only_where_that_is_wanted_and_matters(
    make: Make, limits: dict[str, Any]
) -> None:
    """Under a limit on cost."""
    monitor = make(**{"on_unpriced": "stop", "max_cost_usd": 1, **limits})
    monitor.record_operation(5, api_call=True)
    assert monitor.should_continue(0.5)


def of_sidecar(monitor: ResourceMonitor, rules: Rules) -> Verdict:
    """Let a sidecar judge what the run shows on /metrics."""
    registry = CollectorRegistry()
    registry.register(RUNS)
    text = generate_latest(registry).decode()
    samples = [
        Sample(sample.name, sample.labels, sample.value, family.type)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("session_id") == monitor.session_id
    ]
    ledger = Ledger()
    ledger.apply(Observation("scrape", 1000.0, assemble(samples, "a", 1000.0).sessions))
    (known,) = ledger.snapshots(1000.0)
    return verdict_from_snapshot(known, rules, 1000.0)


def test_the_sidecar_sees_what_is_unknown_and_judges_it_by_its_own_rules(make: Make) -> None:
    """From the metrics alone, under a limit of the run's or its own."""
    monitor = make(max_cost_usd=1, on_unknown_usage="estimate")
    known(monitor, 100, 10)
    unknown(monitor)
    monitor.record_operation(5, api_call=True)
    lax = of_sidecar(monitor, Rules())
    assert lax.should_continue
    assert (lax.resources["cost"].at_least, lax.resources["cost"].estimated) == (True, True)
    strict = of_sidecar(monitor, Rules(on_unknown=OnUnknown(unpriced="stop")))
    assert not strict.should_continue
    assert strict.reason == "unpriced_calls"
    assert "1 call without a price" in strict.message


def test_a_limit_that_comes_later_minds_what_is_unknown_already(make: Make) -> None:
    """The calls were made, and nobody knows what they cost."""
    monitor = make(on_unpriced="stop")
    monitor.record_operation(5, api_call=True)
    assert monitor.should_continue(0.5)
    monitor.update_limits(max_cost_usd=1)
    assert not monitor.should_continue(0.5)
    monitor.update_limits(on_unpriced="ignore")
    assert monitor.should_continue(0.5)
