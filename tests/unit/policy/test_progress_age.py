"""A progress from before a count crossed a line does not stop a run, whoever judges it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from otel_budget import LimitStatus, ResourceLimits, ResourceMonitor, semconv
from otel_budget.core.observation import RunObservation
from otel_budget.core.quantities import Number
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.resources import RESOURCES
from otel_budget.core.samples import Sample
from otel_budget.core.verdict import Verdict
from otel_budget.ledger.ledger import Ledger
from otel_budget.policy.bounds import bounds_of
from otel_budget.policy.outdated import is_outgrown
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot
from otel_budget.sdk.metrics.collector import RunCollector
from otel_budget.sidecar.storage.codec import from_json, to_json
from otel_budget.sources.session_assembly import assemble
from otel_budget.testing import FakeClock
from tests.support.monitors import Make
from tests.support.sidecar_fixtures import reading
from tests.unit.sdk.test_sidecar_verdicts import guided, hear

UNLIMITED: dict[str, Any] = {row.limit_key: None for row in RESOURCES.values()}
#: Limit, and a step up to just below the warning line, and one across it.
STEPS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "tokens": ({"max_tokens": 1000}, {"tokens": 790}, {"tokens": 60}),
    "api_calls": ({"max_api_calls": 2}, {"tokens": 1}, {"api_call": True}),
    "cost": ({"max_cost_usd": 1}, {"cost_usd": 0.79}, {"cost_usd": 0.06}),
}
LINE = {"api_call_warning_threshold": 0.5}
UNKNOWN = Reason.APPROACHING_LIMIT_PROGRESS_UNKNOWN


def samples_of(*monitors: ResourceMonitor) -> list[Sample]:
    """Return what a scrape of these alone shows."""
    collector, registry = RunCollector(), CollectorRegistry()
    for monitor in monitors:
        collector.add(monitor._record)
    registry.register(collector)
    return [
        Sample(sample.name, sample.labels, sample.value)
        for family in registry.collect()
        for sample in family.samples
    ]


def scraped(*monitors: ResourceMonitor, at: float, target: str = "a") -> RunObservation:
    """Return them as a source reads them; all are of one session id."""
    (session,) = assemble(samples_of(*monitors), target, at).sessions
    return session


def judged(ledger: Ledger, rules: Rules, now: float) -> Verdict:
    """Return the sidecar's verdict on the only run."""
    (run,) = ledger.runs.values()
    return verdict_from_snapshot(ledger.snapshot(run, now), rules, now)


def look(ledger: Ledger, monitor: ResourceMonitor, clock: FakeClock, rules: Rules) -> Verdict:
    """Scrape a run and judge it."""
    clock.advance(1)
    ledger.apply(reading(scraped(monitor, at=clock.now), at=clock.now))
    return judged(ledger, rules, clock.now)


@pytest.mark.parametrize("whose", ["its own", "the sidecar's"])
@pytest.mark.parametrize("resource", STEPS)
def test_a_progress_from_before_the_line_is_unknown_until_the_run_says_another(
    resource: str, whose: str, clock: FakeClock, make: Make
) -> None:
    """Also where only the sidecar knows of the limit, and where the money comes late."""
    limit, before, step = STEPS[resource]
    limits = ResourceLimits(**{**UNLIMITED, **limit, **LINE})
    own = whose == "its own"
    monitor = make(limits if own else ResourceLimits(**UNLIMITED))
    rules = Rules() if own else Rules(bounds_of(limits), {semconv.API_CALLS: 0.5})
    ledger = Ledger()
    monitor.record_operation(**before)
    monitor.should_continue(0.75)
    assert look(ledger, monitor, clock, rules).reason == Reason.WITHIN_LIMITS
    monitor.record_operation(**step)
    verdict = look(ledger, monitor, clock, rules)
    assert (verdict.action, verdict.reason, verdict.progress) == (Action.CONTINUE, UNKNOWN, None)
    monitor.should_continue(0.75)
    assert look(ledger, monitor, clock, rules).reason == Reason.APPROACHING_LIMIT
    monitor.should_continue(0.85)
    assert look(ledger, monitor, clock, rules).reason == Reason.FINISHING
    monitor.record_operation(tokens=1000, cost_usd=1, api_call=True)
    assert look(ledger, monitor, clock, rules).reason == Reason.LIMIT_EXCEEDED


def test_a_progress_from_behind_the_line_holds_as_more_is_used(
    clock: FakeClock, make: Make
) -> None:
    """It was said of a run that is near its limit: no less so by now."""
    monitor, ledger = make(max_tokens=1000), Ledger()
    monitor.record_operation(800)
    monitor.should_continue(0.5)
    monitor.record_operation(100)
    assert look(ledger, monitor, clock, Rules()).reason == Reason.APPROACHING_LIMIT


def test_what_a_run_says_after_a_restart_of_the_sidecar_is_as_old_as_before(
    clock: FakeClock, make: Make
) -> None:
    """The counts are stored with the progress."""
    monitor, ledger = make(**UNLIMITED), Ledger()
    rules = Rules(bounds_of(ResourceLimits(max_tokens=1000)))
    monitor.record_operation(700)
    monitor.should_continue(0.5)
    monitor.record_operation(200)
    look(ledger, monitor, clock, rules)
    (run,) = ledger.runs.values()
    again = Ledger()
    again.adopt(from_json(to_json(run)), clock.now)
    assert judged(again, rules, clock.now).reason == UNKNOWN


@pytest.mark.parametrize("progress", [0.5, None])
def test_of_several_processes_the_use_of_all_is_held_against_the_progress(
    progress: float | None, clock: FakeClock, make: Make
) -> None:
    """One said how far the run is; then the other, which says so too or never does, used more."""
    rules, ledger = Rules(bounds_of(ResourceLimits(max_tokens=1000))), Ledger()
    first = make(session_id="shared", **UNLIMITED)
    first.record_operation(400)
    first.should_continue(0.75)
    clock.advance(1)
    second = make(session_id="shared", **UNLIMITED)
    second._record.started_at = first._record.started_at
    second.should_continue(progress)
    for tokens in (300, 200):
        second.record_operation(tokens)
        clock.advance(1)
        ledger.apply(
            reading(
                scraped(first, at=clock.now, target="a"), scraped(second, at=clock.now, target="b"),
                at=clock.now,
            )
        )  # fmt: skip
        verdict = judged(ledger, rules, clock.now)
    assert verdict.resources["tokens"].used == 900
    assert verdict.reason == UNKNOWN


def test_two_monitors_of_one_run_show_the_counts_that_each_had_when_it_spoke(make: Make) -> None:
    """And all that one had which is over by now."""
    one, two, over = (make(session_id="three", **UNLIMITED) for _ in range(3))
    collector = RunCollector()
    for monitor in (one, two, over):
        collector.add(monitor._record)
    over.record_operation(5)
    over.close(timeout=0)
    for monitor, progress in ((one, 0.5), (two, 0.25)):
        monitor.record_operation(10)
        monitor.should_continue(progress)
        monitor.record_operation(100)
    registry = CollectorRegistry()
    registry.register(collector)
    values = {s.name: s.value for family in registry.collect() for s in family.samples}
    assert values[semconv.PROGRESS.name] == 0.25
    assert values[semconv.PROGRESS_TOKENS.name] == 25


def test_who_waits_is_not_interrupted_by_a_sidecar_that_knows_an_older_progress(make: Make) -> None:
    """An older version of it, say; once the run says how far it is, that is decided by."""
    monitor = guided(make, max_tokens=1000)
    fields = {"status": LimitStatus.APPROACHING, "reason": Reason.APPROACHING_LIMIT}
    monitor.record_operation(700)
    monitor.should_continue(0.75)
    monitor.record_operation(150)
    hear(monitor, progress=0.75, **fields)
    assert monitor.wait_for_stop(0) is None
    assert monitor.should_continue(0.85)
    assert not monitor.should_continue(0.75)
    hear(monitor, evaluated_at=2.0, sequence=2)
    assert monitor.wait_for_stop(0) is not None


def test_lower_limits_make_a_progress_from_before_their_line_unknown(make: Make) -> None:
    """Though no count moved: the line came to it."""
    monitor = make(max_tokens=1000)
    monitor.record_operation(300)
    monitor.should_continue(0.3)
    monitor.record_operation(60)
    monitor.update_limits(max_tokens=440)
    assert monitor.verdict.reason == UNKNOWN
    assert monitor._record.progress is None


def test_a_run_that_is_resumed_knows_its_progress_only_if_nothing_was_used_since(
    clock: FakeClock, make: Make, tmp_path: Path
) -> None:
    """What was used between the report and the checkpoint would be taken for older than it is."""
    for more, known in ((0, 0.75), (60, None)):
        name = f"resumed-{more}"
        monitor = make(session_id=name, project_root=tmp_path, **UNLIMITED)
        monitor.record_operation(790)
        monitor.should_continue(0.75)
        monitor.record_operation(more)
        monitor.checkpoint()
        monitor._run.checkpoints._folder = None
        again = ResourceMonitor.resume(name, tmp_path, clock=clock.clock)
        assert again._record.progress == again._guard.progress == known
        again.close(timeout=0)


counts = st.fixed_dictionaries(
    {
        semconv.TOKENS: st.integers(0, 120),
        semconv.API_CALLS: st.integers(0, 12),
        semconv.COST: st.decimals(0, 12, places=2),
    }
)


@given(counts, counts, st.floats(0.1, 1))
def test_a_progress_is_outgrown_exactly_if_a_status_changed_since(
    at: dict[str, Number], more: dict[str, Number], threshold: float
) -> None:
    """And never by nothing; what more was used never makes it fit again."""
    limits = ResourceLimits(
        max_tokens=100,
        max_api_calls=10,
        max_cost_usd=10,
        token_warning_threshold=threshold,
    )
    bounds = bounds_of(limits)
    used: dict[str, Number] = {name: at[name] + more[name] for name in at}  # type: ignore[operator]
    assert not is_outgrown(at, at, bounds)
    lines = [
        line for name, bound in bounds.items() if name in at
        for line in (bound.warning_at, bound.limit) if at[name] < line <= used[name]
    ]  # fmt: skip
    assert is_outgrown(at, used, bounds) is bool(lines)
