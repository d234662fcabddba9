"""The guard's marks: the fast answer never differs from what policy says of the same numbers."""

from __future__ import annotations

import dataclasses
import math
import threading
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_budget import ResourceLimits, ResourceMonitor
from otel_budget.core.quantities import Number
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.usage import ResourceUsage
from otel_budget.core.verdict import LimitStatus, Verdict
from otel_budget.policy.bounds import Bounds, bounds_of
from otel_budget.policy.outdated import is_graceful, redecide
from otel_budget.policy.verdicts import verdict_from_usage
from otel_budget.sdk.run_record import OUTGROWN
from otel_budget.sdk.sidecar_client.lease import LISTEN
from otel_budget.testing import FakeClock
from tests.support.monitors import Make

SMALL = st.integers(0, 30)
SECONDS = st.one_of(
    st.sampled_from([0.0, 1.0, 15.0, 60.0, 80.0, 0.1]), st.floats(0, 100), st.just("to a mark")
)
PROGRESS = st.one_of(st.none(), st.sampled_from([0.0, 0.5, 0.79, 0.8, 1.0]))
LIMITS = st.builds(
    ResourceLimits,
    max_duration_seconds=st.one_of(st.none(), st.floats(0, 200), st.just(60)),
    max_tokens=st.one_of(st.none(), st.integers(0, 100)),
    max_api_calls=st.one_of(st.none(), st.integers(0, 10)),
    max_cost_usd=st.one_of(st.none(), st.decimals(0, 10, places=3)),
    duration_warning_threshold=st.sampled_from([0.1, 0.55, 0.8, 1.0]),
    token_warning_threshold=st.sampled_from([0.1, 0.55, 0.8, 1.0]),
)
THEIRS = st.fixed_dictionaries(
    {
        "action": st.sampled_from(Action),
        "status": st.sampled_from(LimitStatus),
        "reason": st.sampled_from([Reason.APPROACHING_LIMIT, Reason.OPERATOR_STOP]),
        "lease_seconds": st.sampled_from([0.0, 5.0, 15.0, None]),
        "completion_threshold": st.sampled_from([None, 0.9]),
    }
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("record"), SMALL, st.booleans(),
                  st.one_of(st.none(), st.decimals(0, 3, places=4))),
        st.tuples(st.just("advance"), SECONDS),
        st.tuples(st.just("limits"), LIMITS),
        st.tuples(st.just("hear"), THEIRS),
        st.tuples(st.just("ask"), PROGRESS),
        st.tuples(st.just("check")),
    ),
    max_size=25,
)  # fmt: skip


class Watched:
    """A monitor, and beside it everything that policy needs to answer for it, kept by hand."""

    def __init__(self, limits: ResourceLimits, before: float, *, stop_when_lost: bool) -> None:
        """Begin; before: seconds the run lasted in an incarnation before this one."""
        self.fake = FakeClock(now=1_700_000_000.1)
        carried = ResourceUsage(
            "marks", started_at=1_699_000_000.7, duration_seconds=before, tokens=3, api_calls=1,
            cost_usd=Decimal("0.25"),
        )  # fmt: skip
        self.monitor = ResourceMonitor(
            limits, "marks", clock=self.fake.clock, sidecar="http://127.0.0.1:9",
            on_sidecar_loss="stop" if stop_when_lost else "local", _carried=carried,
        )  # fmt: skip
        self.monitor._run._predecessor = None  # the sidecar has seen this process
        self.monitor._run._begun = True  # nothing in the background: the steps are all there is
        self.limits, self.stop_when_lost = limits, stop_when_lost
        self.tokens, self.calls, self.cost = 3, 1, Decimal("0.25")
        self.theirs: Verdict | None = None
        self.until = 15.0
        self.lost_from = math.inf

    def do(self, name: str, *arguments: Any) -> None:
        """Take one step."""
        if name == "record":
            tokens, call, cost = arguments
            self.monitor.record_operation(tokens, call, cost_usd=cost)
            self.tokens += tokens
            self.calls += call
            self.cost += cost or 0
        elif name == "advance":
            (seconds,) = arguments
            self.fake.advance(self.seconds_to_a_mark() if seconds == "to a mark" else seconds)
        elif name == "limits":
            (self.limits,) = arguments
            self.monitor.update_limits(self.limits)
        elif name == "hear":
            self.hear(arguments[0])
        elif name == "ask":
            self.agree(*arguments)
        else:
            self.monitor.check_limits()
        self.monitor._run._not_answered()  # as the client does again and again
        if self.fake.elapsed >= self.until:
            self.lost_from = min(self.lost_from, self.fake.elapsed + LISTEN)

    def hear(self, fields: dict[str, Any]) -> None:
        """Let the sidecar speak."""
        verdict = Verdict("marks", message="", resources={}, evaluated_at=0.0, sequence=1, **fields)
        self.monitor._run._receive(verdict)
        lease = verdict.lease_seconds
        self.theirs, self.until = verdict, self.fake.elapsed + (15.0 if lease is None else lease)
        self.lost_from = math.inf

    def seconds_to_a_mark(self) -> float:
        """Return the seconds to just before, at, or just past the next mark of the duration."""
        bound = bounds_of(self.limits).get("duration")
        ahead = [] if bound is None else [float(bound.warning_at), float(bound.limit)]
        left = [mark - self.duration() for mark in ahead if mark > self.duration()]
        return math.nextafter(left[0], 0) if left else 0.0

    def duration(self) -> float:
        """Return the duration as the record measures it."""
        return self.fake.elapsed - self.monitor._record.began_at

    def answer(self, progress: float | None) -> bool:
        """Return what policy says."""
        used: dict[str, Number] = {
            "duration": self.duration(),
            "tokens": self.tokens,
            "api_calls": self.calls,
            "cost": self.cost,
        }
        own = verdict_from_usage(
            "marks", used, bounds_of(self.limits), progress=progress,
            completion_threshold=self.limits.completion_threshold, now=0.0,
        )  # fmt: skip
        if not own.should_continue:
            return False
        if self.theirs is None or self.fake.elapsed >= self.until:
            return not (self.stop_when_lost and self.fake.elapsed >= self.lost_from)
        if progress is None and self.monitor._record.report is OUTGROWN:
            # A count has crossed a line since the run said how far it is: that word is as old.
            return self.theirs.should_continue or is_graceful(self.theirs)
        return redecide(self.theirs, progress, self.limits.completion_threshold)

    def agree(self, *more: float | None) -> None:
        """Hold the monitor's answer against policy's, at every kind of progress."""
        for progress in (*more, None, 0.3, 1.0, None):
            assert self.monitor.should_continue(progress) is self.answer(progress), progress


@given(limits=LIMITS, steps=STEPS, before=st.sampled_from([0.0, 0.1, 1e6 + 0.3]),
       stop_when_lost=st.booleans())  # fmt: skip
@settings(max_examples=400)
@example(  # a line is crossed after the progress that a sidecar's stop gave way to
    limits=ResourceLimits.only(max_tokens=31, token_warning_threshold=0.1),
    before=0.0, stop_when_lost=False,
    steps=[("hear", {"action": Action.STOP, "status": LimitStatus.APPROACHING,
                     "reason": Reason.APPROACHING_LIMIT, "lease_seconds": 5.0}),
           ("record", 1, False, None)],
)  # fmt: skip
@example(  # a sidecar's stop gave way to the progress, and was forgotten with it
    limits=ResourceLimits(), before=0.0, stop_when_lost=False,
    steps=[("hear", {"action": Action.STOP, "status": LimitStatus.APPROACHING,
                     "reason": Reason.APPROACHING_LIMIT, "lease_seconds": 15.0})],
)  # fmt: skip
def test_after_any_sequence_the_fast_answer_is_policys(
    limits: ResourceLimits, steps: list[Any], before: float, *, stop_when_lost: bool
) -> None:
    """Records, time to the last float before a mark, other limits, the sidecar, its silence."""
    if before > 1:  # the run is old, and its limit near or far past that
        longer = (limits.max_duration_seconds or 0) + before
        limits = dataclasses.replace(limits, max_duration_seconds=longer)
    watched = Watched(limits, before, stop_when_lost=stop_when_lost)
    try:
        for step in steps:
            watched.do(*step)
            watched.agree()
    finally:
        watched.monitor.close(timeout=0)


def test_a_count_that_crosses_a_mark_while_limits_are_lowered_is_seen() -> None:
    """Whatever order two threads take, the answer after both is policy's."""
    for _ in range(200):
        monitor = ResourceMonitor(ResourceLimits(max_tokens=1000))
        monitor.should_continue(0.0)
        go = threading.Barrier(2)

        def record(monitor: ResourceMonitor = monitor, go: threading.Barrier = go) -> None:
            go.wait()
            for _ in range(10):
                monitor.record_operation(5)

        thread = threading.Thread(target=record)
        thread.start()
        go.wait()
        monitor.update_limits(max_tokens=50)
        thread.join()
        assert not monitor.should_continue(0.0)
        monitor.close(timeout=0)


def test_a_count_between_the_look_and_the_new_marks_is_looked_at_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one moment in which no mark can catch it: the old one is too high, the new not there."""
    monitor = make(max_tokens=1000)
    monitor.should_continue(0.0)
    guard = monitor._guard
    counted = guard.local.used
    late = [60, 0]  # after the second of the two times that it is counted

    def used(bounds: Bounds | None = None) -> dict[str, Number]:
        found = counted(bounds)
        if late:
            monitor.record_operation(late.pop())
        return found

    monkeypatch.setattr(guard.local, "used", used)
    monitor.update_limits(max_tokens=50)
    assert monitor.should_continue(0.0) is False


@pytest.mark.parametrize("resource", ["tokens", "api_calls", "cost"])
def test_what_was_carried_over_is_in_the_marks(resource: str, clock: FakeClock) -> None:
    """A resumed run stops where its predecessor would have."""
    carried = ResourceUsage("c", clock.now, tokens=70, api_calls=70, cost_usd=Decimal("0.7"))
    limits = {"tokens": {"max_tokens": 100}, "api_calls": {"max_api_calls": 100},
              "cost": {"max_cost_usd": 1}}[resource]  # fmt: skip
    monitor = ResourceMonitor(
        ResourceLimits(**limits),  # type: ignore[arg-type] # each is checked there
        "c", clock=clock.clock, _carried=carried,
    )  # fmt: skip
    for step in range(11):
        assert monitor.should_continue(0.0) is (step < 10), step
        monitor.record_operation(1, api_call=True, cost_usd=Decimal("0.01"))
    monitor.close(timeout=0)


def test_while_all_is_well_policy_is_not_asked() -> None:
    """That is what the marks are for: the answer costs no more than a look at the clock."""
    fake = FakeClock()
    monitor = ResourceMonitor(ResourceLimits(max_duration_seconds=100), clock=fake.clock)
    monitor.should_continue(0.0)
    calm = monitor._guard.unchanged_until
    assert 79.9 < calm < 80
    fake.advance(79)
    assert monitor.should_continue(0.5)
    assert monitor._guard.unchanged_until == calm
    monitor.close(timeout=0)


def test_nobody_is_told_to_go_on_while_the_marks_are_being_set_after_a_limit(
    monkeypatch: pytest.MonkeyPatch, make: Make
) -> None:
    """From then on no count crosses one, so whoever asks in between must look, too."""
    monitor = make(max_tokens=100, max_duration_seconds=None)
    guard = monitor._guard
    seen: list[tuple[int, float]] = []
    plain = guard._set_call_marks

    def in_between() -> None:
        seen.append((guard.tokens_watermark, guard.unchanged_until))
        plain()

    monkeypatch.setattr(guard, "_set_call_marks", in_between)
    assert monitor.should_continue()
    monitor.record_operation(80)
    assert monitor.should_continue()
    assert guard.unchanged_until == math.inf
    monitor.record_operation(20)
    assert not monitor.should_continue()
    assert {mark for mark, _ in seen} >= {80, 100, seen[-1][0]}
    assert {until for _, until in seen} == {-math.inf}


def test_a_guard_shares_the_table_of_its_attributes_with_all_others(make: Make) -> None:
    """CPython does so up to 30 of them; past that each question and each record takes longer."""
    monitor = make(max_tokens=100)
    monitor.should_continue(0.1)
    monitor.should_continue()
    monitor.record_operation(90, api_call=True)
    assert len(vars(monitor._guard)) <= 30
