"""What the sidecar says of a run's last calls: when they begin, and what may be used in them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.core import verdict_json
from otel_budget.core.budget import Budget, Mode, WhenLow, Window, WindowKind, WindowSpan
from otel_budget.core.observation import RunAttributes
from otel_budget.core.override import Override, OverrideKind, Overrides
from otel_budget.core.quantities import Number
from otel_budget.core.reasons import Reason
from otel_budget.core.uncertainty import UsageUncertainty
from otel_budget.core.verdict import LimitStatus, Verdict
from otel_budget.core.wrap_up import WrapUp
from otel_budget.ledger.call_pace import CallPace
from otel_budget.ledger.snapshot import RunSnapshot
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.budgets import NO_POOLS, Pools, budget_state
from otel_budget.policy.families import NOTHING_ABOVE, Above, above_children
from otel_budget.policy.reserve import larger
from otel_budget.policy.unknown_usage import OnUnknown
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot
from otel_budget.sidecar.verdict_cache import CachedVerdict

NOW = 1_767_268_800.0
TOKENS, CALLS = semconv.TOKENS, semconv.API_CALLS
#: Of every call.
SIZE = 100


def run(calls: int, *, kept: int = 1, **more: Any) -> RunSnapshot:
    """Return a run that made so many calls of 100 tokens, and reports no progress.

    more: of its attributes; limits by resource.
    """
    pace = CallPace()
    for number in range(1, calls + 1):
        pace.observe({TOKENS: SIZE * number, CALLS: number}, NOW - 10 * (calls - number))
    attributes = RunAttributes(wrap_up_calls=float(kept) or None, **more)
    return RunSnapshot(
        session_id="run", started_at=None, used={TOKENS: SIZE * calls, CALLS: calls},
        attributes=attributes, rates={}, sampled_at=NOW, silent_for=0.0, gap=1.0, trouble=None,
        implausible_for=None, ended=False, pace=pace,
    )  # fmt: skip


def pools(used: int, limit: int = 10_000, **more: Any) -> Pools:
    """Return a budget of tokens that the run shares, with what all of them used."""
    budget = Budget("team", Window(WindowKind.TOTAL), {TOKENS: limit}, **more)
    return Pools([(budget, budget_state(budget, (), {TOKENS: used}, WindowSpan(NOW - 60)))])


def said(
    snapshot: RunSnapshot,
    rules: Rules | None = None,
    shared: Pools = NO_POOLS,
    above: Above = NOTHING_ABOVE,
) -> Verdict:
    """Return the verdict as a client reads it."""
    verdict = verdict_from_snapshot(snapshot, rules or Rules(), NOW, shared, above)
    return verdict_json.from_json(verdict_json.to_json(verdict))


def ceiling(**limits: Number) -> Rules:
    """Return rules with ceilings."""
    return Rules(ceilings=bounds_from(limits, {}, "sidecar"))


def allows_one(verdict: Verdict) -> bool:
    """Tell whether a verdict allows one call, as large as such calls hardly ever are."""
    allowed = verdict.wrap_up
    assert allowed is not None
    return allowed.calls == 1 and allowed.tokens in range(SIZE, SIZE + 10)


@pytest.mark.parametrize("calls", [8, 9])
@pytest.mark.parametrize("origin", ["session", "sidecar"])
def test_a_run_stops_where_after_one_more_call_its_last_ones_would_not_fit(
    calls: int, origin: str
) -> None:
    """Room for two is enough for one that is kept back and one before; room for one is not."""
    own = origin == "session"
    snapshot = run(calls, limits={TOKENS: 1000} if own else {})
    verdict = said(snapshot, None if own else ceiling(tokens=1000))
    if calls == 8:
        assert verdict.reason == Reason.APPROACHING_LIMIT_PROGRESS_UNKNOWN
        assert verdict.wrap_up is None
        return
    assert (verdict.reason, verdict.should_continue) == (Reason.WRAP_UP, False)
    assert verdict.limit_from == origin
    assert allows_one(verdict)


def test_calls_kept_back_are_near_before_the_warning_line() -> None:
    """Ten of a limit of twelve calls: the line is where they begin, and the room ends there."""
    attributes: dict[str, Any] = {"limits": {CALLS: 100}}
    early = said(run(39, kept=60, **attributes))
    assert (early.status, early.reason) == (LimitStatus.OK, Reason.WITHIN_LIMITS)
    assert early.headroom == {CALLS: 1}
    near = said(run(40, kept=60, **attributes))
    assert (near.status, near.reason) == (LimitStatus.APPROACHING, Reason.WRAP_UP)
    assert near.resources[CALLS].warning_at == 40
    assert near.wrap_up is not None
    assert near.wrap_up.calls == 60


@pytest.mark.parametrize("progress", [0.1, 0.95])
def test_no_progress_lifts_what_is_kept_for_the_last_calls(progress: float) -> None:
    assert said(run(9, limits={TOKENS: 1000}, progress=progress)).reason == Reason.WRAP_UP


def test_a_run_that_keeps_none_back_is_told_what_it_may_use_where_it_stops_gracefully() -> None:
    """One call; and nothing is said of a run that goes on, or is past a limit."""
    stopped = said(run(8, kept=0, limits={TOKENS: 1000}, progress=0.1))
    assert stopped.reason == Reason.APPROACHING_LIMIT
    assert allows_one(stopped)
    assert said(run(8, kept=0, limits={TOKENS: 1000})).wrap_up is None
    assert said(run(10, kept=0, limits={TOKENS: 1000}, progress=0.1)).wrap_up is None


def ordered(*, now: bool = False) -> Overrides:
    """Return what holds once an operator stopped a run."""
    return Overrides(Override(OverrideKind.STOP, "because", at=NOW - 1, now=now))


def test_a_run_that_an_operator_stops_may_wrap_up_unless_it_is_told_now() -> None:
    """Or nothing is left, or what it used is not known and it stops for that."""
    snapshot = run(5, limits={TOKENS: 1000})
    graceful = said(snapshot._replace(overrides=ordered()))
    assert (graceful.reason, graceful.limit_from) == (Reason.OPERATOR_STOP, "operator")
    assert graceful.wrap_up is not None
    at_once = said(snapshot._replace(overrides=ordered(now=True)))
    assert at_once.wrap_up is None
    assert at_once.message == "stopped at once by an operator: because"
    assert at_once.decision_id != graceful.decision_id
    over = run(10, limits={TOKENS: 1000})._replace(overrides=ordered())
    assert said(over).wrap_up is None
    unknown = snapshot._replace(overrides=ordered(), uncertainty=UsageUncertainty(0, 1))
    assert said(unknown, Rules(on_unknown=OnUnknown(usage="stop"))).wrap_up is None


def test_a_run_below_one_that_is_stopped_may_use_nothing_more() -> None:
    """Whatever it is stopped for itself."""
    above = Above("parent", "stopped")
    for snapshot in (run(5), run(9, limits={TOKENS: 1000}), run(5)._replace(overrides=ordered())):
        verdict = said(snapshot, above=above)
        assert (verdict.should_continue, verdict.wrap_up) == (False, None)


def test_what_may_still_be_used_fits_in_what_the_run_above_has_left() -> None:
    parent = verdict_from_snapshot(run(9, kept=0, limits={TOKENS: 960}), Rules(), NOW)
    above = above_children(parent, NOTHING_ABOVE)
    assert above.remaining == {TOKENS: 60}
    assert said(run(5)._replace(overrides=ordered()), above=above).wrap_up is None
    roomy = above_children(
        verdict_from_snapshot(run(9, kept=0, limits={TOKENS: 1000}), Rules(), NOW), NOTHING_ABOVE
    )
    assert allows_one(said(run(5)._replace(overrides=ordered()), above=roomy))


def test_what_is_kept_back_is_kept_back_of_a_shared_budget_too() -> None:
    """It decides, and is named, though others used it and its own warning line is far."""
    enough = said(run(5), shared=pools(800, 1000))
    assert enough.reason == Reason.APPROACHING_LIMIT_PROGRESS_UNKNOWN
    short = said(run(5), shared=pools(850, 1000))
    assert (short.reason, short.status) == (Reason.WRAP_UP, LimitStatus.APPROACHING)
    assert short.limit_from == "budget:team"
    assert [budget.binds for budget in short.budgets] == [True]
    assert allows_one(short)
    far = said(run(5, kept=9), shared=pools(450, 1000, warning_threshold=0.9))
    assert (far.reason, far.limit_from) == (Reason.WRAP_UP, "budget:team")
    assert said(run(5), shared=pools(850, 1000, mode=Mode.SHADOW)).should_continue
    assert said(run(5, kept=0), shared=pools(850, 1000)).should_continue


def test_a_limit_of_its_own_is_named_before_a_budget_that_is_short_too() -> None:
    verdict = said(run(9, limits={TOKENS: 1000}), shared=pools(850, 1000))
    assert (verdict.reason, verdict.limit_from) == (Reason.WRAP_UP, "session")
    assert [budget.binds for budget in verdict.budgets] == [False]


def test_a_run_that_makes_room_for_others_may_wrap_up_within_what_is_left() -> None:
    """Where not even one call fits, there is none."""
    low = said(run(5, kept=0), shared=pools(850, 1000, when_low=WhenLow.FINISH_MOST))
    assert low.reason == Reason.BUDGET_LOW
    assert allows_one(low)
    last = said(run(5, kept=0), shared=pools(950, 1000, when_low=WhenLow.FINISH_MOST))
    assert (last.reason, last.wrap_up) == (Reason.BUDGET_LOW, None)


def test_ceilings_in_shadow_keep_nothing_back_and_say_what_they_would() -> None:
    verdict = said(run(9), replace(ceiling(tokens=1000), shadow=True))
    assert verdict.should_continue
    assert verdict.would is not None
    assert (verdict.would.reason, verdict.would.limit_from) == ("wrap_up", "sidecar")


def test_a_stop_for_want_of_data_allows_nothing() -> None:
    silent = run(5, limits={TOKENS: 1000})._replace(silent_for=1000.0)
    verdict = said(silent, Rules(hold=0.0))
    assert (verdict.reason, verdict.should_continue) == ("stale_data", False)
    assert verdict.wrap_up is None


def test_that_nothing_may_be_used_any_more_is_news() -> None:
    """Where the last call was made, those who follow the run hear of it; of its amounts, not."""
    stopped = run(5, limits={TOKENS: 1000})._replace(overrides=ordered())
    first = verdict_from_snapshot(stopped, Rules(), NOW)
    assert first.wrap_up is not None
    smaller = replace(first, wrap_up=first.wrap_up._replace(tokens=1))
    over = replace(first, wrap_up=None)
    same, other, news = (CachedVerdict(one).fingerprint for one in (first, smaller, over))
    assert same == other
    assert same != news


def test_of_two_allowances_the_larger_amounts_hold() -> None:
    """A sidecar knows what was scraped, a run each call: of the same call they say two sizes."""
    theirs, own = WrapUp(1, 470, None, 90.0), WrapUp(2, 540, Decimal(1), None)
    assert larger(theirs, own) == WrapUp(1, 540, None, 90.0)
