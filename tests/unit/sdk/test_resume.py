"""A run taken up again: usage, start, limits, state and progress go on, and nothing twice."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from otel_budget import ResourceLimits, ResourceMonitor, semconv
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.usage import ResourceUsage
from otel_budget.core.verdict import LimitStatus, ResourceState, Verdict
from otel_budget.errors import InvalidValueError
from otel_budget.sdk.clock import Clock, process_mark
from otel_budget.sdk.metrics.collector import RUNS, RunCollector
from otel_budget.sdk.run_record import RunRecord
from otel_budget.sdk.verdict_filter import Predecessor
from otel_budget.testing import FakeClock
from tests.support.monitors import Make
from tests.support.sidecar_fixtures import verdict as published


def resumed(clock: FakeClock, session_id: str, root: Path, **options: Any) -> ResourceMonitor:
    """Resume under the test's clock."""
    return ResourceMonitor.resume(session_id, root, clock=clock.clock, **options)


def killed(make: Make, session_id: str, root: Path, **limits: Any) -> ResourceUsage:
    """Run and be killed: leave a checkpoint and nothing else. Return what was used."""
    monitor = make(session_id=session_id, project_root=root, workflow="w",
                   scope={"team": "t"}, **limits)  # fmt: skip
    monitor.should_continue(0.5)
    monitor.record_operation(
        input_tokens=60, output_tokens=40, cache_read_tokens=10, reasoning_tokens=5, api_call=True,
        cost_usd=0.1,
    )  # fmt: skip
    monitor.record_operation(None, api_call=True, outcome="error")
    assert monitor.checkpoint({"step": 4}) is not None
    monitor._run.checkpoints._folder = None  # what is killed writes no last one
    return monitor.get_usage_report()


def exposed(*monitors: ResourceMonitor) -> dict[tuple[str, str], float]:
    """Return samples by name and resource, of these monitors alone."""
    collector, registry = RunCollector(), CollectorRegistry()
    for monitor in monitors:
        collector.add(monitor._record)
    registry.register(collector)
    return {
        (sample.name, sample.labels.get("resource", "")): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def test_everything_goes_on_where_the_checkpoint_left_it(
    clock: FakeClock, make: Make, tmp_path: Path
) -> None:
    """Usage, start time, limits, labels, state and progress; downtime is in the duration."""
    clock.advance(10)
    before = killed(make, "on", tmp_path, max_tokens=500, max_cost_usd=2)
    clock.advance(50)
    monitor = resumed(clock, "on", tmp_path)
    now = monitor.get_usage_report()
    assert now.started_at == before.started_at
    assert (now.duration_seconds, now.active_seconds) == (50.0, 0.0)
    assert now.tokens == 100
    assert now.cost_usd == Decimal("0.1")
    assert {name: value for name, value in now.to_dict().items() if name != "duration_seconds"} == {
        name: value for name, value in before.to_dict().items() if name != "duration_seconds"
    }
    assert monitor.limits == ResourceLimits(max_tokens=500, max_cost_usd=Decimal(2))
    assert monitor.state == {"step": 4}
    assert monitor._record.labels == {"workflow": "w", "team": "t"}
    assert monitor._record.progress is None  # a call was recorded after it was reported
    assert monitor.get_tokens_remaining() == 400
    monitor.close(timeout=0)


def test_the_limits_count_over_all_incarnations(
    clock: FakeClock, make: Make, tmp_path: Path
) -> None:
    """What was used before is used; a run resumed at its limit may not go on."""
    killed(make, "limits", tmp_path, max_tokens=150)
    monitor = resumed(clock, "limits", tmp_path)
    assert monitor.should_continue(0.5)
    monitor.record_operation(49)
    assert monitor.should_continue(0.9)
    monitor.record_operation(1)
    assert not monitor.should_continue(0.9)
    monitor.close(timeout=0)
    again = resumed(clock, "limits", tmp_path)
    assert not again.should_continue(1.0)
    other = resumed(clock, "limits", tmp_path, limits=ResourceLimits(max_tokens=1000))
    assert other.should_continue(0.5)
    for one in (again, other):
        one.close(timeout=0)


def test_the_duration_survives_a_wall_clock_that_was_put_back(
    clock: FakeClock, make: Make, tmp_path: Path
) -> None:
    """It never goes down, and goes on from there by the monotonic clock."""
    monitor = make(session_id="back", project_root=tmp_path, max_duration_seconds=100)
    clock.advance(60)
    monitor.checkpoint()
    clock.jump(-5000)
    monitor = resumed(clock, "back", tmp_path)
    assert monitor.get_usage_report().duration_seconds == 60
    clock.advance(39)
    assert monitor.should_continue()
    clock.advance(1)
    assert not monitor.should_continue()
    monitor.close(timeout=0)


def test_active_time_leaves_out_pauses_and_downtime_over_incarnations(
    clock: FakeClock, make: Make, tmp_path: Path
) -> None:
    """What was active before, and what is now."""
    monitor = make(session_id="active", project_root=tmp_path)
    clock.advance(4)
    monitor.pause()
    clock.advance(3)
    monitor.checkpoint()
    clock.advance(100)
    monitor = resumed(clock, "active", tmp_path)
    clock.advance(2)
    usage = monitor.get_usage_report()
    assert (usage.active_seconds, usage.duration_seconds) == (6, 109)
    monitor.close(timeout=0)


def test_checkpoints_go_on_counting_and_keep_the_state(
    clock: FakeClock, make: Make, tmp_path: Path
) -> None:
    """The resumed run's own carry on with the state that was resumed from."""
    killed(make, "count", tmp_path)
    monitor = resumed(clock, "count", tmp_path)
    path = monitor.checkpoint()
    assert path is not None
    assert path.name == "000002.json"
    monitor.close("stopped", timeout=0)
    again = resumed(clock, "count", tmp_path)
    assert again.get_usage_report().checkpoints == 3
    assert again.state == {"step": 4}
    again.close(timeout=0)


def test_what_was_carried_over_is_shown_apart_and_the_counters_begin_at_zero(
    clock: FakeClock, make: Make, tmp_path: Path
) -> None:
    """So that whoever adds incarnations up counts nothing twice."""
    killed(make, "carried", tmp_path)
    monitor = resumed(clock, "carried", tmp_path)
    monitor.record_operation(7, api_call=True, cost_usd=1)
    clock.advance(5)
    shown = exposed(monitor)
    carried = semconv.CARRIED_OVER.name
    assert shown[semconv.SESSION_TOKENS.name, ""] == 7
    assert shown[semconv.SESSION_API_CALLS.name, ""] == 1
    assert shown[semconv.SESSION_COST.name, ""] == 1
    assert [shown[carried, name] for name in ("tokens", "api_calls", "cost")] == [100, 2, 0.1]
    assert shown[semconv.SESSION_START.name, ""] == 1_700_000_000
    assert shown[semconv.CHECKPOINTS.name, ""] == 0
    assert shown[semconv.DURATION_SECONDS.name, ""] == 5
    monitor.close(timeout=0)


def test_resuming_in_the_same_process_replaces_a_run_that_is_over(
    clock: FakeClock, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its counts are in what was carried over, so they are not added to it."""
    first = make(session_id="same", project_root=tmp_path)
    first.record_operation(30)
    first.close("stopped", timeout=0)
    monitor = resumed(clock, "same", tmp_path)
    monitor.record_operation(1)
    group = RUNS._groups["same"]
    assert group.records == [monitor._record]
    assert "two monitors" not in caplog.text
    monitor.close(timeout=0)


def test_resuming_beside_a_run_that_goes_on_adds_up_and_warns_once(
    clock: FakeClock, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What the second carried over is the first one's own count: it is not added again."""
    first = make(session_id="beside", project_root=tmp_path)
    first.record_operation(30)
    first.checkpoint()
    monitors = [resumed(clock, "beside", tmp_path) for _ in range(2)]
    for monitor in monitors:
        monitor.record_operation(1)
    shown = exposed(first, *monitors)
    assert shown[semconv.SESSION_TOKENS.name, ""] == 32
    assert shown[semconv.CARRIED_OVER.name, "tokens"] == 0
    assert [monitor.get_usage_report().tokens for monitor in (first, *monitors)] == [30, 31, 31]
    assert (
        caplog.text.count("two monitors of it are open") == 1 + 1
    )  # the process's, and the test's own
    for monitor in monitors:
        monitor.close(timeout=0)


def test_a_resume_needs_a_folder(session_id: str) -> None:
    """And says so."""
    with pytest.raises(InvalidValueError, match="project_root: None"):
        ResourceMonitor.resume(session_id, None)  # type: ignore[arg-type]


def test_a_new_run_over_earlier_checkpoints_says_that_it_begins_at_zero(
    make: Make, session_id: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody may have meant to resume."""
    killed(make, session_id, tmp_path)
    again = make(session_id=session_id, project_root=tmp_path)
    again.record_operation(tokens=1)
    assert "this is a new run and starts at 0" in caplog.text
    assert again.get_usage_report().tokens == 1


def test_a_resumed_process_comes_after_its_predecessor_whatever_the_clock_says(
    tmp_path: Path, session_id: str
) -> None:
    """On a host whose clock lies behind; the sidecar orders processes by their start."""
    clock = FakeClock()
    first = ResourceMonitor(None, session_id, tmp_path, clock=clock.clock)
    first.record_operation(tokens=1)
    assert first.checkpoint() is not None
    clock.jump(-3600)
    second = ResourceMonitor.resume(session_id, tmp_path, clock=clock.clock)
    assert second._record.process_began_at > first._record.process_began_at
    first.close(timeout=0)
    second.close(timeout=0)


def heard(verdict: Verdict, **changes: Any) -> Verdict:
    """Return a sidecar's verdict that stops a run for a limit of its own."""
    state = verdict.resources["tokens"]._replace(status=LimitStatus.EXCEEDED, limit_from="session")
    stop = {
        "action": Action.STOP, "status": LimitStatus.EXCEEDED, "reason": Reason.LIMIT_EXCEEDED,
        "resources": {"tokens": state}, "data_at": 100.0, "run_state": "running",
    }  # fmt: skip
    return replace(verdict, **{**stop, **changes})


SIDECARS = {"tokens": published().resources["tokens"]._replace(status=LimitStatus.EXCEEDED)}
#: Verdicts on the process before that do not bind the resumed one, and such that do.
NOT_MEANT: list[dict[str, Any]] = [
    {},
    {"status": LimitStatus.INCONCLUSIVE, "reason": Reason.STALE_DATA},
    {"action": Action.CONTINUE, "reason": Reason.WITHIN_LIMITS},
]
BINDING: list[dict[str, Any]] = [
    {"resources": SIDECARS},
    {"reason": Reason.OPERATOR_STOP},
    {"reason": Reason.UNPRICED_CALLS},
    {"reason": "of_a_later_version"},
]


@pytest.mark.parametrize("changes", [*NOT_MEANT, *BINDING])
def test_what_a_sidecar_says_before_it_sees_the_resumed_process_is_on_the_one_before(
    changes: dict[str, Any],
) -> None:
    """But for what holds for every run; once it saw the process, everything is on it."""
    predecessor = Predecessor()
    for _ in range(2):
        assert predecessor.is_meant(heard(published(), **changes)) == (changes in NOT_MEANT)
    ended = heard(published(), data_at=101.0, run_state="stopped")
    assert predecessor.is_meant(ended), "the page of the process before is still there"
    assert not predecessor.is_meant(heard(published(), **{**changes, "data_at": 102.0}))
    assert not predecessor.is_meant(heard(published(), data_at=102.0, run_state="stopped"))


def test_a_run_that_was_never_sampled_before_is_seen_with_its_first_sample() -> None:
    """A restarted sidecar may know of no sample at first, or of one before."""
    predecessor = Predecessor()
    assert predecessor.is_meant(heard(published(), data_at=None))
    assert not predecessor.is_meant(heard(published(), data_at=99.0))


def test_a_run_with_a_higher_limit_goes_on_before_the_sidecar_knows_of_it(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """For a last call, say; the sidecar's stop was for the limit that it had before."""
    monitor = make(session_id="higher", max_tokens=1000, sidecar="http://127.0.0.1:9")
    monitor._run._begun = True  # nobody asks the sidecar: this test speaks for it
    monitor.record_operation(tokens=1000, api_call=True)
    own = ResourceState(1000, 1000, 0, 1.0, LimitStatus.EXCEEDED, "session")
    stop = heard(
        published("higher", started_at=monitor._record.started_at), resources={"tokens": own}
    )
    monitor._run._receive(stop)
    assert not monitor.should_continue()
    monitor.update_limits(max_tokens=2000)
    assert monitor.should_continue()
    theirs = own._replace(limit_from="operator")
    monitor._run._receive(replace(stop, resources={"tokens": theirs}, sequence=2))
    assert not monitor.should_continue()
    assert "all the same" not in caplog.text
    monitor.update_limits(max_tokens=3000)
    assert "the sidecar still says stop (limit_exceeded): tokens at 10" in caplog.text
    assert not monitor.should_continue()


def test_two_processes_that_resume_from_one_checkpoint_are_told_apart() -> None:
    """By their ids, also if they begin in one millisecond."""
    now, carried = 1_700_000_000.0, ResourceUsage("run", started_at=1.0, last_checkpoint_at=2e9)
    starts = set()
    for process in range(100):
        clock = Clock(time=lambda: now, mark=lambda process=process: process / 100_000)  # type: ignore[misc] # a default of its own
        record = RunRecord("run", ResourceLimits(), clock, labels={}, carried=carried)
        starts.add(record.process_began_at)
    assert len(starts) == 100
    assert 0 <= process_mark() < 0.001
    assert max(starts) - min(starts) < 0.001
