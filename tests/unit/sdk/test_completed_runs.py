"""What a checkpoint says of its run's end, and which runs are taken up again."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest

from otel_budget import (
    BudgetExceeded,
    CheckpointError,
    NoCheckpointError,
    Orchestrator,
    ResourceLimits,
    ResourceMonitor,
    RunCompletedError,
)
from otel_budget.genai.call_tracker import CALL_TRACKER
from otel_budget.genai.notices import Notices
from otel_budget.sdk.checkpoints.store import CheckpointFolder
from otel_budget.sdk.lifecycle.at_exit import LEFT_BEHIND
from otel_budget.testing import FakeClock
from tests.support.monitors import Make

LIMITS = ResourceLimits(max_tokens=1000)


def resume_from(clock: FakeClock, root: Path, **options: Any) -> ResourceMonitor:
    """Take up the run if there is one, else begin it: the README's pattern."""
    try:
        return ResourceMonitor.resume("nightly", root, LIMITS, clock=clock.clock, **options)
    except NoCheckpointError:
        return ResourceMonitor(LIMITS, "nightly", root, clock=clock.clock)


def outcome(root: Path, session_id: str = "nightly") -> str | None:
    """Return what the newest checkpoint says of the end."""
    return CheckpointFolder(root, session_id).read().outcome


def night(clock: FakeClock, root: Path) -> int:
    """Do one night's work; return the tokens that the run knows of at its end."""
    with resume_from(clock, root) as monitor:
        monitor.record_operation(tokens=100, api_call=True)
        return monitor.get_usage_report().tokens


def test_a_completed_run_is_not_taken_up_by_the_next_night(
    clock: FakeClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each night is a run of its own, with its own start, and nothing has to be warned of."""
    for _ in range(3):
        assert night(clock, tmp_path) == 100
        clock.advance(86_400)
    folder = CheckpointFolder(tmp_path, "nightly")
    starts = {folder.read(path).started_at for path in folder.path.glob("*.json")}
    assert len(starts) == 3
    assert caplog.text == ""


def test_the_refusal_says_when_it_completed_and_how_to_go_on_all_the_same(
    clock: FakeClock, tmp_path: Path
) -> None:
    """Both ways on, and the fields to choose by."""
    night(clock, tmp_path)
    with pytest.raises(RunCompletedError) as caught:
        ResourceMonitor.resume("nightly", tmp_path)
    assert caught.value.path.endswith("nightly/000001.json")
    assert caught.value.completed_at == clock.clock.time()
    assert "its run completed at 2023-11-14T22:13:20+00:00" in str(caught.value)
    assert "start a new run, or pass completed=True to resume this one" in str(caught.value)
    monitor = ResourceMonitor.resume("nightly", tmp_path, completed=True, clock=clock.clock)
    monitor.record_operation(tokens=1)
    assert monitor.get_usage_report().tokens == 101
    monitor.close("failed", timeout=0)
    assert outcome(tmp_path) == "failed"
    assert resume_from(clock, tmp_path).get_usage_report().tokens == 101


def test_a_checkpoint_that_is_named_is_no_way_around_it(clock: FakeClock, tmp_path: Path) -> None:
    """One from before the end is: whoever names it wants to go back."""
    with resume_from(clock, tmp_path) as monitor:
        monitor.record_operation(tokens=100)
        middle = monitor.checkpoint()
    newest = CheckpointFolder(tmp_path, "nightly").newest()
    with pytest.raises(RunCompletedError):
        ResourceMonitor.resume("nightly", tmp_path, checkpoint=newest)
    back = ResourceMonitor.resume("nightly", tmp_path, checkpoint=middle, clock=clock.clock)
    assert back.get_usage_report().tokens == 100
    back.close(timeout=0)


def stopped_by_a_break(monitor: ResourceMonitor) -> None:
    """Leave the block because the answer was no."""
    monitor.record_operation(tokens=900)
    assert not monitor.should_continue(0.1)


def stopped_by_a_raise(monitor: ResourceMonitor) -> None:
    """Leave the block by the exception of a limit."""
    monitor.record_operation(tokens=1000)
    monitor.raise_if_stopped()


def interrupted(_monitor: ResourceMonitor) -> None:
    """Leave the block by Ctrl-C."""
    raise KeyboardInterrupt


def failed(monitor: ResourceMonitor) -> None:
    """Leave the block by an error."""
    monitor.record_operation(tokens=100)
    raise RuntimeError


def went_over_with_its_last_call(monitor: ResourceMonitor) -> None:
    """Come to the end without having been told to stop."""
    monitor.record_operation(tokens=1200)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (stopped_by_a_break, "stopped"),
        (stopped_by_a_raise, "stopped"),
        (interrupted, "stopped"),
        (failed, "failed"),
        (went_over_with_its_last_call, "completed"),
    ],
)
def test_a_run_that_was_stopped_or_failed_is_taken_up(
    body: Any, said: str, clock: FakeClock, tmp_path: Path
) -> None:
    """However it left its block; the checkpoint says how it ended."""
    with resume_from(clock, tmp_path) as monitor:
        monitor.record_operation(tokens=1)
        begun_at = monitor._record.started_at
        try:
            body(monitor)
        except (BudgetExceeded, KeyboardInterrupt, RuntimeError) as exc:
            monitor.__exit__(type(exc), exc, None)
    assert outcome(tmp_path) == said
    clock.advance(5)
    again = resume_from(clock, tmp_path)
    assert again._record.resumed == (said != "completed")
    assert (again._record.started_at == begun_at) == (said != "completed")
    again.close(timeout=0)


@pytest.mark.parametrize("said", ["stopped", "completed"])
def test_closing_without_a_word_says_what_the_run_was_told(
    said: str, clock: FakeClock, tmp_path: Path
) -> None:
    """As leaving a ``with`` does; a run that broke off has not completed."""
    monitor = resume_from(clock, tmp_path)
    monitor.record_operation(tokens=900 if said == "stopped" else 100)
    assert monitor.should_continue(0.1) == (said == "completed")
    monitor.close(timeout=0)
    assert (outcome(tmp_path), monitor._record.state) == (said, said)


def test_a_run_that_was_killed_is_taken_up(clock: FakeClock, tmp_path: Path) -> None:
    """No end is in its checkpoints."""
    first = resume_from(clock, tmp_path)
    first.record_operation(tokens=100)
    path = first.checkpoint()
    assert path is not None
    assert "outcome" not in json.loads(path.read_text())
    assert resume_from(clock, tmp_path).get_usage_report().tokens == 100


def test_a_run_whose_monitor_an_exception_took_along_is_taken_up(
    clock: FakeClock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody said that it completed: its next attempt must not begin at 0."""
    monkeypatch.setattr(CALL_TRACKER, "notices", Notices())

    def attempt() -> None:
        resume_from(clock, tmp_path).record_operation(tokens=100)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        attempt()
    gc.collect()
    LEFT_BEHIND.finish()
    assert resume_from(clock, tmp_path).get_usage_report().tokens == 100
    assert "does not say that it completed" in caplog.text
    assert "use 'with monitor:', or call close() (said once)" in caplog.text


def test_the_last_checkpoint_is_written_even_if_nothing_changed(
    make: Make, clock: FakeClock, tmp_path: Path
) -> None:
    """A checkpoint just before the end does not say how the run ended; the one at the end does."""
    monitor = make(session_id="same", project_root=tmp_path)
    monitor.record_operation(tokens=1)
    monitor.checkpoint()
    monitor.close(timeout=0)
    assert outcome(tmp_path, "same") == "completed"
    for name, cost, call in (("cost", 1, False), ("call", 0, True)):
        one = make(session_id=name, project_root=tmp_path)
        one.record_operation(tokens=0, cost_usd=cost, api_call=call)
        one.close(timeout=0)
        assert outcome(tmp_path, name) == "completed"


def test_a_new_run_that_used_nothing_is_not_taken_for_the_stopped_one_before_it(
    clock: FakeClock, tmp_path: Path
) -> None:
    """It leaves its end behind if there is something to be mixed up with, and else no file."""
    ResourceMonitor(LIMITS, "nightly", tmp_path).close(timeout=0)
    assert CheckpointFolder(tmp_path, "nightly").newest() is None
    first = resume_from(clock, tmp_path)
    first.record_operation(tokens=900)
    first.close("stopped", timeout=0)
    clock.advance(10)
    ResourceMonitor(LIMITS, "nightly", tmp_path, clock=clock.clock).close(timeout=0)
    assert not resume_from(clock, tmp_path)._record.resumed


def test_a_checkpoint_during_the_end_does_not_take_the_end_back(make: Make, tmp_path: Path) -> None:
    """An automatic one may come after the last."""
    monitor = make(session_id="nightly", project_root=tmp_path)
    monitor.record_operation(tokens=1)
    monitor.close(timeout=0)
    monitor.checkpoint({"late": True})
    assert outcome(tmp_path) == "completed"


def test_an_older_run_that_ends_late_is_not_taken_for_the_newer_one(
    clock: FakeClock, tmp_path: Path
) -> None:
    """Its process hung, another run began under the id: that one is to go on."""
    old = ResourceMonitor(LIMITS, "nightly", tmp_path, clock=clock.clock)
    old.record_operation(tokens=500)
    clock.advance(60)
    new = ResourceMonitor(LIMITS, "nightly", tmp_path, clock=clock.clock)
    new._record.started_at = clock.clock.time()  # a process of its own
    new.record_operation(tokens=7)
    new.checkpoint()
    clock.advance(60)
    old.close(timeout=0)
    assert resume_from(clock, tmp_path).get_usage_report().tokens == 7


def test_after_a_clock_was_put_back_the_newest_file_is_the_newest_run(
    clock: FakeClock, tmp_path: Path
) -> None:
    """Its start lies before the other's, and so does the moment it was written."""
    first = ResourceMonitor(LIMITS, "nightly", tmp_path, clock=clock.clock)
    first.record_operation(tokens=500)
    first.close("stopped", timeout=0)
    clock.jump(-5000)
    second = ResourceMonitor(LIMITS, "nightly", tmp_path, clock=clock.clock)
    second.record_operation(tokens=7)
    second.close("stopped", timeout=0)
    assert resume_from(clock, tmp_path).get_usage_report().tokens == 7


def test_an_orchestrator_that_completed_begins_anew(tmp_path: Path) -> None:
    """Its phases would be done already, and none would run."""
    config = {"resource_limits": {"max_tokens": 1000}}
    runs: list[str] = []
    for _ in range(2):
        try:
            orchestrator = Orchestrator.resume("report", tmp_path, config)
        except NoCheckpointError:
            orchestrator = Orchestrator(config, session_id="report", project_root=tmp_path)
        orchestrator.monitor.record_operation(tokens=1)
        orchestrator.run({"a": lambda _: runs.append("a")})
    assert runs == ["a", "a"]


@pytest.mark.parametrize("wrong", ["running", "", None, 1, ["completed"]])
def test_an_outcome_that_is_none_is_refused(wrong: Any, tmp_path: Path) -> None:
    """The file was made by something else; the digest is right."""
    from otel_budget.sdk.checkpoints import format as module

    monitor = ResourceMonitor(LIMITS, "nightly", tmp_path)
    path = monitor.checkpoint()
    assert path is not None
    body = json.loads(path.read_text())
    del body["sha256"]
    body["outcome"] = wrong
    path.write_text(json.dumps({**body, "sha256": module._digest(body)}))
    with pytest.raises(CheckpointError, match=r"outcome: .* is not allowed"):
        ResourceMonitor.resume("nightly", tmp_path)
    monitor.close(timeout=0)


def test_downtime_that_leaves_no_room_is_said_at_once(
    clock: FakeClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the figures, and which limit to use."""
    limits = ResourceLimits(max_tokens=1000, max_duration_seconds=3600)
    with ResourceMonitor(limits, "nightly", tmp_path, clock=clock.clock) as monitor:
        clock.advance(600)
        monitor.record_operation(tokens=900)
        monitor.should_continue(0.1)
    clock.advance(3000)
    caplog.clear()
    ResourceMonitor.resume("nightly", tmp_path, clock=clock.clock).close(timeout=0)
    assert (
        "resumed, and has to stop at once: duration at 100.0% (3,600 s of 3,600 s), since that "
        "includes the 3,000 s between the checkpoint and now; to limit only the time it works, "
        "resume it with max_duration_seconds=None and max_active_seconds"
    ) in caplog.text


def test_a_run_that_used_its_time_up_itself_is_not_told_of_downtime(
    clock: FakeClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing was missed."""
    first = ResourceMonitor(None, "nightly", tmp_path, clock=clock.clock)
    clock.advance(3600)
    first.checkpoint()
    ResourceMonitor.resume("nightly", tmp_path, clock=clock.clock).close(timeout=0)
    assert "since that includes" not in caplog.text
