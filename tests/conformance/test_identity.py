"""Whose counter it is: restarts, twins, flapping targets and wrong clocks, through every source."""

from __future__ import annotations

import itertools
import time

import pytest

from otel_budget import semconv
from otel_budget.core.reasons import Action, Reason
from otel_budget.ledger.findings import FindingKind
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.verdicts import Rules
from tests.conformance.rig import PUSHED, Rig
from tests.support.exposition import line, page
from tests.support.figures import note

PUSHED_TOO = True
_numbers = itertools.count(1)
HOUR = 3600.0
RULES = Rules(ceilings=bounds_from({semconv.TOKENS: 1_000_000}, {}, "sidecar"))


@pytest.fixture
def run() -> str:
    """The id of a run that no other test has: one Prometheus serves them all."""
    return f"identity-{next(_numbers)}"


@pytest.fixture
def began() -> float:
    """When the run began, by the agent's clock."""
    return round(time.time() - 100, 3)  # in milliseconds, as our agents export it


def agent(
    run: str, tokens: int, began: float, process: float | None = None, carried: int = 0,
    *others: str,
) -> str:  # fmt: skip
    """Return what a process shows. process: when it began; that of the run, if it is the first."""
    start = began if process is None else process
    return page(
        line(semconv.SESSION_TOKENS, tokens, run),
        line(semconv.SESSION_START, repr(began), run),
        line(semconv.INCARNATION_START, repr(start), run),
        line(semconv.CARRIED_OVER, carried, run, resource="tokens", unit="tokens"),
        *others,
    )


def noted(done: str, seen: str, rig: Rig) -> None:
    """Write a figure down, once for each source."""
    note("Resets and identity", f"{done} ({rig.called})", seen)


def test_resumed_it_counts_from_0_and_brings_what_it_had(rig: Rig, run: str, began: float) -> None:
    """Once from a checkpoint that is older than the last scrape, once from a newer one."""
    with rig.follow() as follower:
        follower.see(agent(run, 100, began))
        follower.see(agent(run, 5, began, began + 50, 80))
        assert follower.used(run)["tokens"] == 105
        follower.see(agent(run, 7, began, began + 60, 150))
        assert follower.used(run)["tokens"] == 157
        assert follower.ledger.resets == {semconv.NEW_INCARNATION: 2}
    noted("a run resumed twice: 100, then 80 + 5, then 150 + 7 tokens shown", "105, then 157", rig)


def test_a_new_run_under_an_old_id_owes_nothing(rig: Rig, run: str, began: float) -> None:
    with rig.follow() as follower:
        follower.see(agent(run, 900_000, began))
        follower.see(agent(run, 10, began + 50))
        assert follower.used(run)["tokens"] == 10
        assert follower.ledger.runs[run].started_at == began + 50
        (old,) = follower.ledger.superseded
        assert old.totals()["tokens"] == 900_000
        assert follower.verdict(run, RULES).action is Action.CONTINUE
    noted("a new run under the id of one that used 900,000 tokens", "10; the old is kept", rig)


def test_a_counter_that_is_above_the_old_one_already_is_a_new_one(
    rig: Rig, run: str, began: float
) -> None:
    """By its value alone it would look as if it had gone on."""
    with rig.follow() as follower:
        follower.see(agent(run, 100, began))
        follower.see(agent(run, 130, began, began + 50, 100))
        assert follower.used(run)["tokens"] == 230
    noted("restarted so fast that it shows 130 after 100 (100 carried over)", "230", rig)


def test_two_processes_that_claim_one_run_are_both_counted_and_flagged(
    rig: Rig, run: str, began: float
) -> None:
    with rig.follow() as follower:
        for step in range(1, 4):
            follower.see(agent(run, 100 * step, began), agent(run, 10 * step, began, began + 50))
        if rig.backend.name == PUSHED:  # a run belongs to who pushed it first
            assert follower.used(run)["tokens"] == 300
            assert [flag.kind for flag in follower.ledger.findings] == [
                FindingKind.CARRIED_ELSEWHERE
            ]
            return
        assert follower.used(run)["tokens"] == 330
        assert [flag.session_id for flag in follower.ledger.findings] == [run]
        assert follower.ledger.resets == {semconv.NEW_INCARNATION: 1}
    noted("two processes claim one run at once: 300 and 30 tokens", "330, flagged once", rig)


def test_a_series_that_two_processes_write_in_turn_counts_each_of_them(rig: Rig, run: str) -> None:
    """What a page shows that has whatever was written last: a session, and its twin."""
    with rig.follow() as follower:
        for step in range(9):
            tokens = 1_200_000 + 100 * step if step % 2 else 1_000_000 + 100 * step
            follower.see(page(line(semconv.SESSION_TOKENS, tokens, run)))
        assert follower.used(run)["tokens"] == 2_401_400
        assert [flag.kind for flag in follower.ledger.findings] == [FindingKind.ALTERNATING]
        verdict = follower.verdict(run, RULES)
        assert (verdict.resources["tokens"].estimated, verdict.action) == (True, Action.STOP)
    noted(
        "two processes write one series in turn: 1,000,800 and 1,200,700 tokens", "2,401,600", rig
    )


def test_a_target_that_flaps_resets_nothing(rig: Rig, run: str, began: float) -> None:
    with rig.follow() as follower:
        known = 0
        for step in range(1, 6):
            follower.see(agent(run, 100 * step, began))
            known = 100 * step
            assert follower.used(run)["tokens"] == known
            follower.see(None)
            assert follower.used(run)["tokens"] == known
            verdict = follower.verdict(run, RULES)
            assert (verdict.action, verdict.reason) == (Action.CONTINUE, Reason.WITHIN_LIMITS)
        assert follower.ledger.resets == {}
        assert follower.ledger.findings == []
    noted("a target that hangs up every second time, 5 times over", f"{known}, no reset", rig)


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_an_agents_clock_that_jumps_an_hour_changes_no_count(
    rig: Rig, run: str, began: float, jump: float
) -> None:
    """The process goes on; then it is resumed by the wrong clock, and goes on again."""
    with rig.follow() as follower:
        follower.see(agent(run, 100, began))
        follower.see(
            agent(run, 120, began, None, 0, line(semconv.DURATION_SECONDS, 100 + jump, run))
        )
        assert follower.used(run)["tokens"] == 120
        # Whatever its clock says, an agent begins after the checkpoint it begins from.
        resumed_at = max(began + 101 + jump, began + 100.001)
        for tokens in (5, 8):
            follower.see(agent(run, tokens, began, resumed_at, 120))
        assert follower.used(run)["tokens"] == 128
        verdict = follower.verdict(run, RULES)
        assert (verdict.action, verdict.reason) == (Action.CONTINUE, Reason.WITHIN_LIMITS)
    noted(f"the agent's clock jumps by {jump / HOUR:+.0f} h, then it is resumed", "128 of 128", rig)


@pytest.mark.parametrize("offset", [HOUR, -HOUR])
def test_a_sidecar_whose_clock_is_an_hour_off_sees_fresh_data(
    rig: Rig, run: str, began: float, offset: float
) -> None:
    """Samples are dated by its own clock; those of other machines may say what they like."""
    with rig.follow(lambda: time.time() + offset) as follower:
        for tokens in (100, 120):
            follower.see(agent(run, tokens, began))
            verdict = follower.verdict(run, RULES)
            assert (verdict.action, verdict.reason) == (Action.CONTINUE, Reason.WITHIN_LIMITS)
            assert verdict.resources["tokens"].used == tokens
            assert verdict.data_at is not None
            assert abs(verdict.data_at - follower.clock()) < 10
    noted(f"the sidecar's clock is off by {offset / HOUR:+.0f} h", "fresh, exact", rig)
