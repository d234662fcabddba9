"""What a run makes of a stop that a budget caused: no limit of its own overrides it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otel_budget import semconv
from otel_budget.core import verdict_json
from otel_budget.core.budget import Budget, WhenLow, Window, WindowKind, WindowSpan
from otel_budget.core.observation import RunAttributes
from otel_budget.core.verdict import Verdict
from otel_budget.ledger.snapshot import RunSnapshot
from otel_budget.policy.bounds import bounds_from, bounds_in
from otel_budget.policy.budgets import Pools, budget_state
from otel_budget.policy.outdated import is_graceful, redecide, relaxed
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot
from otel_budget.sdk.verdict_filter import Predecessor

NOW = 1_767_268_800.0


def told(
    used: int, *, own: int = 10, progress: float | None = 0.1, low: WhenLow = WhenLow.STOP
) -> Verdict:
    """Return the verdict on a run with a limit of 100, read back; the budget's is 1000."""
    budget = Budget("team", Window(WindowKind.TOTAL), {semconv.TOKENS: 1000}, when_low=low)
    state = budget_state(budget, (), {semconv.TOKENS: used}, WindowSpan(NOW - 60))
    run = RunSnapshot(
        session_id="run", started_at=None, used={semconv.TOKENS: own},
        attributes=RunAttributes(limits={semconv.TOKENS: 100}, progress=progress), rates={},
        sampled_at=NOW, silent_for=0.0, gap=1.0, trouble=None, implausible_for=None, ended=False,
    )  # fmt: skip
    verdict = verdict_from_snapshot(run, Rules(), NOW, Pools([(budget, state)]))
    return verdict_json.from_json(verdict_json.to_json(verdict))


@pytest.mark.parametrize("own", [10, 100])
def test_higher_limits_of_its_own_do_not_lift_the_stop_of_a_budget(own: int) -> None:
    """Also where the run's own limit, which it raised since, was exceeded as well."""
    stop = told(1000, own=own)
    assert not stop.should_continue
    assert not relaxed(stop, bounds_from({semconv.TOKENS: 10**6}, {}, "session"))
    assert not relaxed(stop, {})


def test_a_graceful_stop_gives_way_to_a_progress_and_a_budget_that_is_low_does_not() -> None:
    """As a stop near a limit of the run's own does."""
    near = told(800)
    assert near.reason == "approaching_limit"
    assert is_graceful(near)
    assert redecide(near, 0.9, 0.8)
    assert not redecide(near, 0.5, 0.8)
    low = told(800, low=WhenLow.FINISH_MOST)
    assert low.reason == "budget_low"
    assert not is_graceful(low)
    assert not redecide(low, 1.0, 0.8)


def test_a_resumed_run_is_bound_by_a_budget_at_once_and_not_by_its_old_own_limits() -> None:
    """Until the sidecar has seen the process that goes on."""
    assert not Predecessor().is_meant(told(1000, own=100))
    assert not Predecessor().is_meant(told(1000))
    assert Predecessor().is_meant(told(10, own=100))


def test_what_is_limited_by_a_budget_alone_is_no_bound_of_the_run() -> None:
    """Its own use is not held against what all use together."""
    assert bounds_in(told(1000)) == {}


def test_what_decided_is_read_back_as_it_was_written() -> None:
    stop = told(1000)
    assert stop.limit_from == "budget:team"
    assert stop.origins == {"budget:team"}
    assert replace(stop, budgets=()).limit_from is None
