"""A run that is stopped in time may make its last calls, and no more than those."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from otel_budget import BudgetExceeded, ResourceLimits, ResourceMonitor, Verdict, semconv
from otel_budget.core import verdict_json
from otel_budget.core.budget import Mode, WindowSpan
from otel_budget.core.reasons import Reason
from otel_budget.core.verdict import BudgetResource, BudgetState, LimitStatus, ResourceState
from otel_budget.core.wrap_up import WrapUp
from otel_budget.sdk.metrics.collector import RUNS
from otel_budget.testing import FakeClock, stop_verdict
from tests.support.monitors import Make
from tests.unit.sdk.test_sidecar_verdicts import continued, guided

TOKENS, CALLS = semconv.TOKENS, semconv.API_CALLS


def call(monitor: ResourceMonitor, tokens: int = 100, times: int = 1) -> None:
    """Record calls."""
    for _ in range(times):
        monitor.record_operation(tokens=tokens, api_call=True)


def stopped(make: Make, **limits: Any) -> ResourceMonitor:
    """Return a run of calls of 100 tokens that is to wrap up, with 100 of 1,000 left."""
    monitor = make(**{"max_tokens": 1000, "wrap_up_calls": 1, **limits})
    call(monitor, times=9)
    assert not monitor.should_continue()
    return monitor


def outcomes(monitor: ResourceMonitor) -> dict[str, int]:
    """Return what came of the run's wrap-ups."""
    return dict(monitor._record.wrap_ups)


def is_refused(monitor: ResourceMonitor) -> bool:
    """Tell whether a call that an adapter makes now is refused."""
    try:
        monitor.usage_sink.check()
    except BudgetExceeded:
        return True
    return False


# --- when it stops -------------------------------------------------------------------------------


@pytest.mark.parametrize(("kept", "made"), [(1, 9), (2, 8), (3, 7)])
def test_a_run_stops_while_the_calls_that_it_keeps_back_still_fit(
    make: Make, kept: int, made: int
) -> None:
    monitor, number = make(max_tokens=1000, wrap_up_calls=kept), 0
    while monitor.should_continue():
        call(monitor)
        number += 1
    assert number == made
    assert monitor.verdict.reason == Reason.WRAP_UP
    assert monitor.verdict.wrap_up is not None
    assert monitor.verdict.wrap_up.calls == kept


def test_without_calls_kept_back_all_is_as_it_was(make: Make) -> None:
    monitor, number = make(max_tokens=1000), 0
    while monitor.should_continue():
        call(monitor)
        number += 1
    assert number == 10
    assert monitor.verdict.wrap_up is None


def test_tokens_that_come_after_their_call_are_noticed(make: Make) -> None:
    monitor = make(max_tokens=1000, wrap_up_calls=1)
    assert monitor.should_continue()
    monitor.record_operation(api_call=True)
    monitor.record_operation(tokens=501)
    assert not monitor.should_continue()


def test_a_progress_lifts_no_wrap_up(make: Make) -> None:
    assert not stopped(make).should_continue(1.0)


def test_a_progress_is_not_outgrown_by_the_reserve(make: Make) -> None:
    """It is as old as the last line that was crossed, and each call moves the reserve."""
    monitor = make(max_tokens=1000, wrap_up_calls=1)
    call(monitor, times=2)
    assert monitor.should_continue(0.5)
    call(monitor, times=3)
    assert monitor.verdict.progress == 0.5


def test_time_alone_reaches_the_reserve_of_a_time(make: Make, clock: FakeClock) -> None:
    """Who waits is woken then."""
    monitor = make(max_duration_seconds=100, wrap_up_calls=1)
    for _ in range(4):
        clock.advance(10)
        call(monitor)
    clock.advance(39)
    assert monitor.should_continue()
    left = monitor._guard.next_change_in()
    assert left is not None
    clock.advance(left + 0.001)
    assert not monitor.should_continue()
    assert monitor.verdict.reason == Reason.WRAP_UP
    assert monitor.wait_for_stop(0) is not None


# --- the block -----------------------------------------------------------------------------------


def test_inside_a_call_is_let_through_and_then_no_more(make: Make) -> None:
    monitor = stopped(make)
    assert is_refused(monitor)
    with monitor.wrap_up() as allowed:
        assert allowed == monitor.verdict.wrap_up
        assert allowed is not None
        assert (allowed.calls, allowed.tokens) == (1, 100)
        assert monitor.should_continue()
        assert monitor.verdict.reason == Reason.FINISHING
        assert "it wraps up: 1 call" in monitor.verdict.message
        assert not is_refused(monitor)
        call(monitor, 90)
        assert not monitor.should_continue()
        assert monitor.verdict.reason == Reason.WRAP_UP
    assert not monitor.should_continue()
    assert outcomes(monitor) == {"done": 1}
    monitor.close()
    assert monitor._record.state == "stopped"


def test_a_run_that_closes_while_it_wraps_up_was_stopped(make: Make) -> None:
    monitor = stopped(make)
    with monitor.wrap_up():
        assert monitor.should_continue()
        monitor.close()
    assert monitor._record.state == "stopped"


def test_a_run_that_may_go_on_notices_nothing(make: Make) -> None:
    monitor = make(max_tokens=1000, wrap_up_calls=1)
    with monitor.wrap_up() as allowed:
        assert allowed is None
        call(monitor, times=3)
        assert monitor.should_continue()
    assert outcomes(monitor) == {}


def test_where_a_limit_is_reached_nothing_is_left(make: Make) -> None:
    monitor = make(max_tokens=1000)
    call(monitor, 1000)
    with pytest.raises(BudgetExceeded) as caught, monitor.wrap_up():
        pass
    assert caught.value.verdict.reason == Reason.LIMIT_EXCEEDED
    assert caught.value.verdict.wrap_up is None


def test_a_graceful_stop_allows_one_call_without_any_kept_back(make: Make) -> None:
    monitor = make(max_tokens=1000)
    call(monitor, times=8)
    assert not monitor.should_continue(0.5)
    assert monitor.verdict.reason == Reason.APPROACHING_LIMIT
    with monitor.wrap_up() as allowed:
        assert allowed is not None
        assert allowed.calls == 1
        call(monitor)
        assert is_refused(monitor)
    assert outcomes(monitor) == {"over": 1}, "a second call was asked for"


def test_a_limit_is_a_limit_in_a_wrap_up_too(make: Make) -> None:
    monitor = stopped(make, wrap_up_calls=3)
    with monitor.wrap_up() as allowed:
        assert allowed is not None
        assert allowed.calls == 3
        call(monitor)
        assert is_refused(monitor), "1,000 of 1,000"
    assert outcomes(monitor) == {"over": 1}


def test_a_second_block_has_what_the_first_one_left(make: Make) -> None:
    monitor = make(max_tokens=10_000, wrap_up_calls=2)
    call(monitor, times=98)
    with monitor.wrap_up():
        call(monitor)
    with monitor.wrap_up() as allowed:
        assert allowed is not None
        assert allowed.calls == 1
        call(monitor)
    with pytest.raises(BudgetExceeded), monitor.wrap_up():
        pass
    assert outcomes(monitor) == {"done": 2}


def test_a_block_in_a_block_is_refused_clearly(make: Make) -> None:
    monitor = stopped(make)
    with monitor.wrap_up():
        with pytest.raises(BudgetExceeded, match="wraps up already") as caught, monitor.wrap_up():
            pass
        assert caught.value.verdict.wrap_up is None
        assert monitor.should_continue(), "the outer one goes on"
        call(monitor)
    assert outcomes(monitor) == {"done": 1}


def test_what_came_of_it_is_counted_once_for_each_block(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = stopped(make, max_tokens=100_000, max_api_calls=12, wrap_up_calls=3)
    with caplog.at_level(logging.INFO):
        with monitor.wrap_up():
            pass
        with pytest.raises(ValueError, match="no"), monitor.wrap_up():
            raise ValueError("no")
        with monitor.wrap_up():
            call(monitor)
        with monitor.wrap_up():
            call(monitor, times=3)
    assert outcomes(monitor) == {"unused": 1, "failed": 1, "done": 1, "over": 1}
    said = [r.getMessage() for r in caplog.records if "wrapped up: " in r.getMessage()]
    assert [line.split(": ")[2] for line in said] == ["unused", "failed", "done", "over"]
    shown = Counter[str]()  # of all the owners that runs of this process have had
    for labels, number in RUNS.process.sums(semconv.WRAP_UPS):
        shown[labels["outcome"]] += int(number)
    assert {name: shown[name] > 0 for name in semconv.WRAP_UP_OUTCOMES} == dict.fromkeys(
        semconv.WRAP_UP_OUTCOMES, True
    )


def test_the_last_calls_are_in_a_phase_of_their_own(make: Make) -> None:
    monitor = stopped(make)
    with monitor.wrap_up():
        call(monitor, 90)
    phases = {phase: c.read().tokens for (phase, _), c in monitor._record.counters_by_phase.items()}
    assert phases == {"": 900, "wrap_up": 90} or phases.get("wrap_up") == 90


def test_a_run_that_wrapped_up_stays_stopped_until_a_limit_is_raised(make: Make) -> None:
    """A last call is small, and what is left may be more than is kept back again."""
    monitor = make(max_tokens=1000, wrap_up_calls=1)
    call(monitor, 150, times=5)
    assert monitor.verdict.reason == Reason.WRAP_UP
    with monitor.wrap_up():
        call(monitor, 1)
    assert not monitor.should_continue()
    assert not monitor.should_continue(1.0)
    monitor.update_limits(max_tokens=2000)
    assert monitor.should_continue()
    call(monitor, 200, times=5)
    assert not monitor.should_continue()
    with monitor.wrap_up() as allowed:
        assert allowed is not None, "another stop, another allowance"
        call(monitor, 10)


def test_a_limit_that_is_raised_inside_lets_the_run_go_on(make: Make) -> None:
    monitor = stopped(make)
    with monitor.wrap_up():
        call(monitor)
        monitor.update_limits(max_tokens=100_000)
        assert monitor.should_continue()
    assert monitor.should_continue()
    monitor.close()
    assert monitor._record.state == "completed"


def test_threads_share_what_is_allowed(make: Make) -> None:
    monitor = stopped(make)
    answers: list[bool] = []

    def ask() -> None:
        answers.append(is_refused(monitor))

    with monitor.wrap_up():
        for _ in range(2):
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()
            call(monitor, 50)
    assert answers == [False, True]


def test_who_waits_inside_is_woken_when_it_is_used_up(make: Make) -> None:
    monitor = stopped(make)
    told: list[Verdict | None] = []
    with monitor.wrap_up():
        waiting = threading.Event()
        monitor._guard.listeners.add(waiting.set)  # nobody is woken before somebody listens
        thread = threading.Thread(target=lambda: told.append(monitor.wait_for_stop(60)))
        thread.start()
        while len(monitor._guard.listeners) < 2:
            waiting.wait(0.01)
        call(monitor)
        thread.join(60)
    assert [verdict.reason for verdict in told if verdict is not None] == [Reason.LIMIT_EXCEEDED]


def test_it_is_an_asynchronous_context_too(make: Make) -> None:
    monitor = stopped(make)

    async def finish() -> None:
        async with monitor.wrap_up() as allowed:
            assert allowed is not None
            call(monitor, 90)

    asyncio.run(finish())
    assert outcomes(monitor) == {"done": 1}


def test_its_time_is_bounded_too(make: Make, clock: FakeClock) -> None:
    monitor = make(max_tokens=1000, wrap_up_calls=1)
    for _ in range(9):
        clock.advance(2)
        call(monitor)
    with monitor.wrap_up() as allowed:
        assert allowed is not None
        assert allowed.seconds is not None
        clock.advance(allowed.seconds)
        assert not monitor.should_continue()


def test_who_hears_of_verdicts_hears_of_one_stop(make: Make) -> None:
    heard: list[tuple[str, str]] = []
    monitor = make(
        max_tokens=1000, wrap_up_calls=1, on_verdict=lambda v: heard.append((v.action, v.reason))
    )
    call(monitor, times=9)
    assert not monitor.should_continue()
    with monitor.wrap_up():
        assert monitor.should_continue()
        call(monitor, 50)
    monitor.close()
    assert [said for said in heard if said[1] != "approaching_limit_progress_unknown"] == [
        ("stop", "wrap_up")
    ]


def test_the_children_of_a_run_that_wraps_up_are_stopped(make: Make) -> None:
    lead = make(max_tokens=1000, wrap_up_calls=1)
    child = make(parent=lead, max_tokens=1000, wrap_up_calls=1)
    call(lead, times=9)
    assert not child.should_continue()
    with lead.wrap_up():
        assert lead.should_continue()
        assert not child.should_continue()
        assert child.verdict.reason == Reason.PARENT_STOPPED
        with pytest.raises(BudgetExceeded), child.wrap_up():
            pass


def test_the_last_calls_of_a_child_fit_in_what_its_parent_has(make: Make) -> None:
    lead = make(max_tokens=10_000)
    child = make(parent=lead, max_tokens=1000, wrap_up_calls=1)
    call(lead, 9050)
    call(child, times=9)
    assert not child.should_continue()
    assert child.verdict.wrap_up is not None
    assert child.verdict.wrap_up.tokens == 50


# --- with a sidecar ------------------------------------------------------------------------------


def tokens(used: int, limit: int, origin: str, status: LimitStatus) -> dict[str, ResourceState]:
    """Return the tokens of a verdict."""
    left = max(0, limit - used)
    return {
        TOKENS: ResourceState(used, limit, left, used / limit, status, origin, warning_at=limit)
    }


def hear(monitor: ResourceMonitor, **fields: Any) -> Verdict:
    """Let the sidecar say stop, an operator's if nothing else is said."""
    values = {
        "reason": Reason.OPERATOR_STOP, "status": LimitStatus.OK, "resources": {},
        "wrap_up": WrapUp(1, 150, None, 90.0), "started_at": monitor._record.started_at, **fields,
    }  # fmt: skip
    verdict = stop_verdict(monitor.session_id, **values)
    monitor._run._receive(verdict)
    return verdict


@pytest.mark.parametrize(
    "reason",
    [Reason.OPERATOR_STOP, Reason.BUDGET_LOW, Reason.APPROACHING_LIMIT, Reason.WRAP_UP],
)
def test_after_a_graceful_stop_of_the_sidecar_a_run_may_finish(make: Make, reason: Reason) -> None:
    monitor = guided(make, wrap_up_calls=1)
    call(monitor, times=3)
    hear(monitor, reason=reason, status=LimitStatus.APPROACHING)
    assert not monitor.should_continue()
    with monitor.wrap_up() as allowed:
        assert allowed == WrapUp(1, 150, None, 90.0)
        assert monitor.should_continue()
        call(monitor)
        assert not monitor.should_continue()
    assert monitor.verdict.reason == reason
    assert outcomes(monitor) == {"done": 1}


def test_an_operator_may_allow_nothing(make: Make) -> None:
    monitor = guided(make)
    call(monitor, times=3)
    hear(monitor, wrap_up=None)
    with pytest.raises(BudgetExceeded) as caught, monitor.wrap_up():
        pass
    assert caught.value.verdict.wrap_up is None


@pytest.mark.parametrize("reason", [Reason.OPERATOR_STOP, Reason.LIMIT_EXCEEDED])
def test_another_word_of_the_sidecar_ends_it(make: Make, reason: Reason) -> None:
    """Also where it is the run's own stop that it wraps up after."""
    monitor = guided(make, max_tokens=1000, wrap_up_calls=1)
    call(monitor, times=9)
    assert not monitor.should_continue()
    with monitor.wrap_up():
        assert monitor.should_continue()
        hear(monitor, reason=reason, status=LimitStatus.EXCEEDED, wrap_up=None, sequence=7)
        assert not monitor.should_continue()
        assert is_refused(monitor)
    assert outcomes(monitor) == {"over": 1}


def test_of_an_older_sidecar_it_is_worked_out_here(make: Make) -> None:
    monitor = guided(make)
    call(monitor, times=5)
    verdict = hear(monitor, wrap_up=None)
    data = verdict_json.to_dict(verdict)
    del data["wrap_up"]
    monitor._run._receive(replace(verdict_json.from_dict(data), sequence=9))
    allowed = monitor.verdict.wrap_up
    assert allowed is not None
    assert allowed.calls == 1
    assert allowed.tokens is not None
    assert 100 <= allowed.tokens < 200


def test_what_was_used_since_the_sidecar_looked_is_off_what_it_allows(make: Make) -> None:
    monitor = guided(make, max_tokens=1000)
    call(monitor, times=9)
    hear(monitor, wrap_up=WrapUp(1, 300, Decimal(1), 90.0))
    assert monitor.verdict.wrap_up == WrapUp(1, 100, Decimal(1), 90.0)


def test_the_reserve_is_held_against_the_sidecars_ceilings(make: Make) -> None:
    """Which knew of 600 when it looked."""
    monitor = guided(make, wrap_up_calls=1)
    call(monitor, times=6)
    state = tokens(600, 1000, "sidecar", LimitStatus.OK)
    monitor._run._receive(continued(monitor, resources=state))
    assert monitor.should_continue()
    call(monitor, times=2)
    assert monitor.should_continue()
    call(monitor)
    assert not monitor.should_continue()
    verdict = monitor.verdict
    assert (verdict.reason, verdict.limit_from) == (Reason.WRAP_UP, "sidecar")
    assert verdict.wrap_up is not None
    assert verdict.wrap_up.tokens == 100


def pool(used: int, limit: int, mode: Mode = Mode.ENFORCE) -> BudgetState:
    """Return a budget on tokens with a warning line at its limit."""
    resource = BudgetResource(
        used, limit, limit - used, used / limit, LimitStatus.OK, limit, 0, 0, limit
    )
    return BudgetState("team", {}, mode, WindowSpan(0.0, 9e9), {TOKENS: resource}, "budget:team")


def test_the_reserve_is_held_against_budgets_that_are_shared(make: Make) -> None:
    monitor = guided(make, wrap_up_calls=1)
    call(monitor, times=3)
    state = tokens(300, 1_000_000, "session", LimitStatus.OK)
    monitor._run._receive(continued(monitor, resources=state, budgets=(pool(9700, 10_000),)))
    call(monitor)
    assert monitor.should_continue()
    call(monitor)
    assert not monitor.should_continue()
    verdict = monitor.verdict
    assert (verdict.reason, verdict.limit_from) == (Reason.WRAP_UP, "budget:team")
    assert "budget team: tokens at 99.0% (9,900 of 10,000)" in verdict.message
    assert verdict.wrap_up is not None
    assert verdict.wrap_up.tokens == 100
    with monitor.wrap_up():
        call(monitor, 100)
        assert not monitor.should_continue()


def test_a_budget_in_shadow_keeps_nothing_back(make: Make) -> None:
    monitor = guided(make, wrap_up_calls=1)
    call(monitor, times=3)
    state = tokens(300, 1_000_000, "session", LimitStatus.OK)
    shadow = pool(9700, 10_000, Mode.SHADOW)
    monitor._run._receive(continued(monitor, resources=state, budgets=(shadow,)))
    call(monitor, times=2)
    assert monitor.should_continue()


def test_a_wrap_up_of_the_sidecar_gives_way_to_a_run_that_keeps_nothing_back(make: Make) -> None:
    monitor = guided(make, wrap_up_calls=1)
    call(monitor)
    hear(monitor, reason=Reason.WRAP_UP, status=LimitStatus.APPROACHING)
    assert not monitor.should_continue()
    monitor.update_limits(wrap_up_calls=0)
    assert monitor.should_continue()


def test_limits_with_calls_kept_back_survive_a_checkpoint(make: Make, tmp_path: Any) -> None:
    monitor = make(ResourceLimits(max_tokens=1000, wrap_up_calls=2), "kept", tmp_path)
    call(monitor)
    monitor.close("stopped")
    again = ResourceMonitor.resume("kept", tmp_path)
    assert again.limits.wrap_up_calls == 2
    again.close()
