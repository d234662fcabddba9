"""The orchestrator: phases in order, limits before each, and nothing done is ever lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from otel_budget import BudgetExceeded, Orchestrator, ResourceLimits, ResourceMonitor
from otel_budget.core.reasons import Reason
from otel_budget.errors import (
    CheckpointError,
    InvalidConfigError,
    InvalidValueError,
    NoCheckpointError,
)
from otel_budget.sdk.phased_run import PhaseFailedError, PhaseResult
from otel_budget.testing import FakeClock

Work = Callable[[ResourceMonitor], Any]


def using(tokens: int, value: Any = None) -> Work:
    """Return a phase that uses tokens, and returns its own value."""
    return lambda _monitor: PhaseResult(value or tokens, {"tokens": tokens, "api_call": True})


def limited(tokens: int, clock: FakeClock, **options: Any) -> Orchestrator:
    """Return an orchestrator with a limit of tokens."""
    config = {"resource_limits": {"max_tokens": tokens}}
    return Orchestrator(config, clock=clock.clock, **options)


def test_phases_run_in_order_and_their_use_is_counted_for_each(
    clock: FakeClock, session_id: str
) -> None:
    """The result has everything: values, summary, verdict."""
    orchestrator = limited(1000, clock, session_id=session_id)
    seen: list[str] = []

    def own(monitor: ResourceMonitor) -> str:
        seen.append("own")
        monitor.record_operation(5)
        return "done"

    result = orchestrator.run({"first": using(10), "own": own, "none": lambda _: None})
    assert (result.outcome, result.remaining) == ("completed", ())
    assert list(result.results.items()) == [("first", 10), ("own", "done"), ("none", None)]
    assert result.summary["tokens"]["used"] == 15
    assert result.verdict.reason == Reason.WITHIN_LIMITS
    assert result.session_id == session_id
    counters_by_phase = orchestrator.monitor._record.counters_by_phase
    tokens = {p: each.read().unspecified_tokens for (p, _), each in counters_by_phase.items()}
    assert tokens == {
        "unspecified": 0, "first": 10, "own": 5, "none": 0,
    }  # fmt: skip
    assert orchestrator.monitor._record.state == "completed"


def test_a_run_near_its_limit_stops_before_the_next_phase_with_what_it_has(
    clock: FakeClock,
) -> None:
    """Unless it is nearly done: then it may finish."""
    phases = [(name, using(30)) for name in "abcde"]
    stopped = limited(100, clock).run(phases)
    assert (stopped.outcome, list(stopped.results)) == ("stopped", ["a", "b", "c"])
    assert stopped.remaining == ("d", "e")
    assert stopped.verdict.reason == Reason.APPROACHING_LIMIT
    assert stopped.summary["tokens"]["percentage"] == 90.0
    finished = limited(140, clock).run(phases)
    assert (finished.outcome, finished.remaining) == ("completed", ())
    exceeded = limited(50, clock).run([*phases[:2], ("c", using(1))])
    assert exceeded.verdict.reason == Reason.LIMIT_EXCEEDED


def test_the_progress_is_the_share_of_phases_done(clock: FakeClock) -> None:
    """As seen from inside, and 1 at the end."""
    seen: list[float | None] = []

    def look(monitor: ResourceMonitor) -> None:
        seen.append(monitor._record.progress)

    orchestrator = limited(10, clock)
    orchestrator.run([(str(n), look) for n in range(4)])
    assert seen == [0.0, 0.25, 0.5, 0.75]
    assert orchestrator.monitor._record.progress == 1.0


def test_a_phase_that_asks_by_itself_stops_the_run(clock: FakeClock) -> None:
    """Gracefully: it is no failure."""

    def ask(monitor: ResourceMonitor) -> None:
        monitor.record_operation(100)
        monitor.raise_if_stopped(0.1)

    result = limited(100, clock).run({"a": using(1), "b": ask, "c": using(1)})
    assert (result.outcome, dict(result.results)) == ("stopped", {"a": 1})
    assert result.remaining == ("b", "c")


def test_a_phase_that_fails_keeps_what_was_done_before(clock: FakeClock) -> None:
    """In the error, with its cause."""

    def fail(_monitor: ResourceMonitor) -> None:
        raise ValueError("no answer")

    orchestrator = limited(100, clock)
    with pytest.raises(PhaseFailedError, match="'b' failed; completed before it: a") as caught:
        orchestrator.run({"a": using(1), "b": fail, "c": using(1)})
    result = caught.value.result
    assert (result.outcome, dict(result.results)) == ("failed", {"a": 1})
    assert result.remaining == ("b", "c")
    assert isinstance(caught.value.__cause__, ValueError)
    assert orchestrator.monitor._record.state == "failed"


def test_an_interrupt_is_nobody_elses_and_ends_the_run(clock: FakeClock) -> None:
    """It goes through as it is."""

    def interrupt(_monitor: ResourceMonitor) -> None:
        raise KeyboardInterrupt

    orchestrator = limited(100, clock)
    with pytest.raises(KeyboardInterrupt):
        orchestrator.run({"a": interrupt})
    assert orchestrator.monitor._record.state == "stopped"


def test_a_resumed_run_does_not_do_again_what_is_done(
    clock: FakeClock, session_id: str, tmp_path: Path
) -> None:
    """Its results come from the checkpoint; what is not JSON is done again."""
    done: list[str] = []

    def phase(name: str, value: Any) -> Work:
        def work(monitor: ResourceMonitor) -> Any:
            done.append(name)
            monitor.record_operation(30)
            return value

        return work

    phases = {"a": phase("a", {"n": 1}), "b": phase("b", object()), "c": phase("c", 3),
              "d": phase("d", 4)}  # fmt: skip
    first = limited(100, clock, session_id=session_id, project_root=tmp_path).run(phases)
    assert first.remaining == ("d",)
    config = {"resource_limits": {"max_tokens": 1000}}
    again = Orchestrator.resume(session_id, tmp_path, config, clock=clock.clock).run(phases)
    assert done == ["a", "b", "c", "b", "d"]
    assert (again.outcome, again.results["a"], again.results["c"]) == ("completed", {"n": 1}, 3)
    assert again.summary["tokens"]["used"] == 150
    with pytest.raises(CheckpointError):
        Orchestrator.resume("never", tmp_path)


def test_a_resumed_run_keeps_the_checkpoints_limits_without_a_configuration(
    clock: FakeClock, session_id: str, tmp_path: Path
) -> None:
    """They are the run's."""
    limited(100, clock, session_id=session_id, project_root=tmp_path).run({"a": using(5)})
    with pytest.raises(NoCheckpointError, match="completed=True"):
        Orchestrator.resume(session_id, tmp_path, clock=clock.clock)
    again = Orchestrator.resume(session_id, tmp_path, completed=True, clock=clock.clock)
    assert again.monitor.limits.max_tokens == 100
    again.monitor.close(timeout=0)


def test_the_configuration_is_a_file_or_a_mapping(tmp_path: Path) -> None:
    """Its other keys are the caller's; without the section, the defaults hold."""
    path = tmp_path / "run.yaml"
    path.write_text("resource_limits:\n  max_tokens: 7\nmine: [1]\n")
    from_file = Orchestrator(path)
    assert from_file.monitor.limits == ResourceLimits(max_tokens=7)
    assert from_file.config["mine"] == [1]
    plain = [Orchestrator(config) for config in (None, {}, {"resource_limits": None})]
    assert {orchestrator.monitor.limits for orchestrator in plain} == {ResourceLimits()}
    for orchestrator in (from_file, *plain):
        orchestrator.monitor.close(timeout=0)


@pytest.mark.parametrize("section", [0, "", [], "max_tokens", False])
def test_a_section_that_is_no_mapping_is_refused(section: Any) -> None:
    """Not taken for one with nothing in it."""
    with pytest.raises(InvalidValueError, match="resource_limits"):
        Orchestrator({"resource_limits": section})


def test_a_wrong_key_is_refused_with_its_name(tmp_path: Path) -> None:
    """In a mapping and in a file, there with the line."""
    with pytest.raises(InvalidValueError, match="max_token"):
        Orchestrator({"resource_limits": {"max_token": 1}})
    path = tmp_path / "run.yaml"
    path.write_text("resource_limits:\n  max_token: 7\n")
    with pytest.raises((InvalidValueError, InvalidConfigError), match=r"run\.yaml:2"):
        Orchestrator(path)


def test_two_phases_of_one_name_are_refused(clock: FakeClock) -> None:
    """One's result would be taken for the other's; nothing has run then."""
    orchestrator = limited(100, clock)
    with pytest.raises(InvalidValueError, match=r"phases: \('a', "):
        orchestrator.run([("a", using(1)), ("b", using(1)), ("a", using(1))])
    assert orchestrator.monitor.get_usage_report().tokens == 0
    orchestrator.monitor.close(timeout=0)


@pytest.mark.parametrize("phases", [[using(1)], [("a", 1)], {"": using(1)}, [("a", using(1), 2)]])
def test_what_is_no_phase_is_refused_before_any_runs(phases: Any, clock: FakeClock) -> None:
    """With what there is, and what there should be."""
    orchestrator = limited(100, clock)
    with pytest.raises(InvalidValueError, match="a mapping of names to functions"):
        orchestrator.run(phases)
    orchestrator.monitor.close(timeout=0)


def test_a_coroutine_function_is_refused_and_not_taken_for_done(clock: FakeClock) -> None:
    """Its work would not have been done."""

    async def work(_monitor: ResourceMonitor) -> str:
        return "done"

    with pytest.raises(PhaseFailedError) as caught:
        limited(100, clock).run({"later": work})
    assert caught.value.result.outcome == "failed"
    assert "AsyncOrchestrator" in str(caught.value.__cause__)


@pytest.mark.parametrize("config", [{"max_tokens": 5}, {"resource_limit": {"max_tokens": 5}}])
def test_limits_outside_their_section_are_refused(config: Any, tmp_path: Path) -> None:
    """They would silently be the defaults, 5 a million."""
    with pytest.raises(InvalidValueError, match="resource_limits"):
        Orchestrator(config)
    file = tmp_path / "limits.yaml"
    file.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InvalidValueError, match=r"limits\.yaml:1: .*resource_limits"):
        ResourceLimits.from_yaml(file)


def test_no_phases_are_soon_done(clock: FakeClock) -> None:
    """Also under limits that permit nothing."""
    result = limited(0, clock).run({})
    assert (result.outcome, dict(result.results)) == ("completed", {})


def test_a_budget_error_from_elsewhere_stops_too(clock: FakeClock) -> None:
    """A phase may have a run of its own."""

    def inner(_monitor: ResourceMonitor) -> None:
        with ResourceMonitor(ResourceLimits(max_tokens=0), clock=clock.clock) as monitor:
            monitor.raise_if_stopped()

    assert limited(100, clock).run({"a": inner}).outcome == "stopped"
    assert issubclass(BudgetExceeded, Exception)


def test_a_stopped_run_does_its_last_step_while_something_is_left(clock: FakeClock) -> None:
    """With the results so far, once, in a phase of its own; the outcome stays stopped."""
    orchestrator = limited(1000, clock)
    asked: list[tuple[str | None, dict[str, Any]]] = []

    def last(monitor: ResourceMonitor, results: Mapping[str, Any]) -> PhaseResult:
        asked.append((monitor._recorder.current_phase().name, dict(results)))
        assert monitor.should_continue()
        return PhaseResult("what there is", {"tokens": 50, "api_call": True})

    phases = {f"part {number}": using(85) for number in range(20)}
    result = orchestrator.run(phases, wrap_up=last)
    assert (result.outcome, len(result.results)) == ("stopped", 10)
    assert result.wrapped_up == "what there is"
    assert asked == [("wrap_up", dict(result.results))]
    assert result.summary["tokens"]["used"] == 900
    assert orchestrator.monitor._record.state == "stopped"


def test_a_last_step_that_there_is_no_room_for_is_not_begun(clock: FakeClock) -> None:
    """A limit that is reached leaves nothing."""
    result = limited(1000, clock).run(
        {"one": using(2000), "two": using(1)}, wrap_up=lambda *_: pytest.fail("it was begun")
    )
    assert (result.outcome, result.wrapped_up) == ("stopped", None)


def test_a_last_step_of_a_run_that_completes_is_not_done(clock: FakeClock) -> None:
    result = limited(1000, clock).run({"one": using(1)}, wrap_up=lambda *_: pytest.fail("no"))
    assert (result.outcome, result.wrapped_up) == ("completed", None)


def test_a_last_step_that_fails_keeps_what_was_done_before(clock: FakeClock) -> None:
    def last(_monitor: ResourceMonitor, _results: Mapping[str, Any]) -> None:
        raise ValueError("no")

    phases = {f"part {number}": using(85) for number in range(20)}
    with pytest.raises(PhaseFailedError, match="wrap_up") as caught:
        limited(1000, clock).run(phases, wrap_up=last)
    assert len(caught.value.result.results) == 10


def test_a_last_step_that_is_refused_a_call_is_none(clock: FakeClock) -> None:
    """It asked for more than its allowance: what was done before is all there is."""

    def last(monitor: ResourceMonitor, _results: Mapping[str, Any]) -> None:
        for _ in range(3):
            monitor.raise_if_stopped()
            monitor.record_operation(50, api_call=True)

    phases = {f"part {number}": using(85) for number in range(20)}
    result = limited(1000, clock).run(phases, wrap_up=last)
    assert (result.outcome, result.wrapped_up) == ("stopped", None)
    assert result.summary["tokens"]["used"] == 900
