"""Caps of single labels multiply: a run, a page and a process have bounds in all, too."""

from __future__ import annotations

import gc
import logging
from decimal import Decimal

import pytest

from otel_budget import ResourceMonitor, semconv
from otel_budget.core.limits import ResourceLimits
from otel_budget.sdk import run_counters
from otel_budget.sdk.clock import SYSTEM_CLOCK
from otel_budget.sdk.metrics import label_cap
from otel_budget.sdk.metrics.process_totals import ProcessUsage
from otel_budget.sdk.run_counters import FOLDED
from otel_budget.sdk.run_record import RunRecord
from otel_budget.sdk.usage_arguments import OperationUsage
from tests.support.monitors import Make


def used_by_pairs(monitor: ResourceMonitor, phases: int, models: int) -> None:
    """Make a call of each model in each phase."""
    for phase in range(phases):
        with monitor.phase(f"p{phase}"):
            for model in range(models):
                monitor.record_operation(
                    model=f"m{model}", input_tokens=1, output_tokens=2, api_call=True, cost_usd=1
                )


def test_pairs_of_phase_and_model_have_a_bound_in_a_run_and_their_sums_are_right(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Past it the phase is told apart, and not the model; that is said once, and counted."""
    FOLDED.clear()
    monitor = make(max_tokens=None, max_api_calls=None)
    with caplog.at_level(logging.WARNING, "otel_budget"):
        used_by_pairs(monitor, 110, 110)
    counters_by_phase = monitor._record.counters_by_phase
    assert len(counters_by_phase) <= label_cap.MAX_PAIRS + label_cap.MAX_VALUES + 2
    counts, used = monitor._record.counted(), monitor.get_usage_report()
    assert counts.api_calls == used.api_calls == 110 * 110
    assert (counts.tokens, counts.cost_usd) == (3 * 110 * 110, Decimal(110 * 110))
    last = {phase: counters.read().api_calls for (phase, model), counters
            in counters_by_phase.items() if model == semconv.OTHER}  # fmt: skip
    assert last["p50"] == 110
    said = [r.getMessage() for r in caplog.records if "further ones are counted" in r.getMessage()]
    assert len(said) == 2  # of models, and of phases
    assert FOLDED[semconv.MODEL] > 0


def test_pairs_have_a_bound_in_all_runs_of_a_process_and_room_comes_back(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the runs that had them are not shown any more."""
    gc.collect()
    before = run_counters._PAIRS.number
    monkeypatch.setattr(run_counters, "MAX_PAIRS_IN_ALL", before + 30)
    records = [RunRecord(f"many-{n}", ResourceLimits(), SYSTEM_CLOCK, labels={}) for n in range(10)]
    for record in records:
        for model in range(10):
            with record.lock:
                record.add(record.counters("p", f"m{model}"), OperationUsage(1, api_call=True))
    assert run_counters._PAIRS.number <= before + 30 + len(records)
    assert all(record.counted().api_calls == 10 for record in records)
    del record
    records.clear()
    gc.collect()
    assert run_counters._PAIRS.number <= before  # less, if a run of another test went meanwhile


def test_owners_and_models_have_a_bound_in_the_sums_of_a_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Teams times projects times models; nothing is lost from the sums."""
    monkeypatch.setattr("otel_budget.sdk.metrics.process_totals.MAX_OWNERS", 20)
    process = ProcessUsage()
    for team in range(10):
        for project in range(10):
            owner = {"team": f"t{team}", "project": f"p{project}"}
            record = RunRecord("s", ResourceLimits(), SYSTEM_CLOCK, labels=owner)
            process.add(record)
            with record.lock:
                record.add(record.counters(None, "m"), OperationUsage(5, api_call=True))
            process.retire(record)
    rows = process.sums(semconv.USAGE_TOKENS)
    assert len(rows) <= 21
    assert sum(value for _, value in rows) == 500
