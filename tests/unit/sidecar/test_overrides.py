"""Operators' orders: what one may say, how long it holds, and what it changes of a verdict."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget import semconv
from otel_budget.core.observation import Observation
from otel_budget.core.override import (
    LONGEST,
    NO_OVERRIDES,
    Override,
    OverrideKind,
    Overrides,
    override_from,
)
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import LimitStatus
from otel_budget.errors import InvalidValueError
from otel_budget.ledger.ledger import Ledger
from otel_budget.ledger.snapshot import RunSnapshot
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.override_effect import effect_of
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot
from otel_budget.sidecar.storage import codec
from tests.support.sidecar_fixtures import START, session

NOW = START


def ordered(kind: str, **data: Any) -> Override:
    """Read an order that says why."""
    return override_from(OverrideKind(kind), {"reason": "because", **data}, NOW)


def test_an_order_is_read_as_it_was_said() -> None:
    order = ordered(
        "limits", by="ann", for_seconds=60, max_tokens=5, max_cost_usd="2.50", max_api_calls=None
    )
    assert (order.reason, order.by, order.at, order.until) == ("because", "ann", NOW, NOW + 60)
    assert order.limits == {semconv.TOKENS: 5, semconv.COST: Decimal("2.50"),
                            semconv.API_CALLS: None}  # fmt: skip
    assert ordered("stop") == Override(OverrideKind.STOP, "because", at=NOW)
    assert ordered("stop", now=True) == Override(OverrideKind.STOP, "because", at=NOW, now=True)
    assert ordered("stop", now=False) == ordered("stop")
    assert ordered("limits").limits == {}


@pytest.mark.parametrize(
    ("kind", "data", "named"),
    [
        ("stop", [], "JSON object"),
        ("stop", {"by": "ann"}, "reason"),
        *(("stop", {"reason": bad}, "reason")
          for bad in ("", " ", "x" * 201, "a\nb", "\x1b[31mred", "a\u202eb", 5, None, "\ud800")),
        ("stop", {"reason": "x", "by": ""}, "by"),
        ("stop", {"reason": "x", "by": None}, "by"),
        ("stop", {"reason": "x", "by": "x" * 65}, "by"),
        *(("stop", {"reason": "x", "for_seconds": bad}, "for_seconds")
          for bad in (0, -1, "1h", True, None, float("inf"), float("nan"), LONGEST + 1)),
        ("stop", {"reason": "x", "max_tokens": 1}, "max_tokens"),
        *(("stop", {"reason": "x", "now": bad}, "now") for bad in (1, "true", None)),
        ("release", {"reason": "x", "now": True}, "now"),
        ("limits", {"reason": "x", "now": True}, "now"),
        ("release", {"reason": "x", "for_seconds": 1}, "for_seconds"),
        ("limits", {"reason": "x", "max_tokens": 1}, "for_seconds"),
        *(("limits", {"reason": "x", "for_seconds": 1, "max_tokens": bad}, "max_tokens")
          for bad in (-1, 1.5, "5", True, 2**53 + 1, float("nan"))),
        *(("limits", {"reason": "x", "for_seconds": 1, "max_cost_usd": bad}, "max_cost_usd")
          for bad in (-1, "", "1e5", "-1", "nan", " 1", "1_0", "\u0661", True, float("inf"))),
        ("limits", {"reason": "x", "for_seconds": 1, "max_things": 1}, "max_things"),
    ],
)  # fmt: skip
def test_what_is_not_an_order_is_refused_by_name(kind: str, data: object, named: str) -> None:
    with pytest.raises(InvalidValueError, match=named):
        override_from(OverrideKind(kind), data, NOW)


def test_an_order_takes_the_place_of_one_of_its_kind() -> None:
    stop, again = ordered("stop"), ordered("stop", by="bob")
    more = ordered("limits", for_seconds=9, max_tokens=9)
    both = NO_OVERRIDES.after(stop).after(more)
    assert both == Overrides(stop, more)
    assert both.after(again) == Overrides(again, more)
    assert both.after(ordered("release")) == Overrides(None, more)
    assert both.after(ordered("limits")) == Overrides(stop, None)


def test_an_order_holds_until_its_time_is_over() -> None:
    for_a_while, for_good = ordered("limits", for_seconds=60, max_tokens=9), ordered("stop")
    orders = Overrides(for_good, for_a_while)
    assert orders.holding(NOW + 59.9) == orders
    assert orders.holding(NOW + 60) == Overrides(for_good, None)
    assert not Overrides(None, for_a_while).holding(NOW + 61)


def snapshot(tokens: int, *orders: Override, own: int | None = None) -> RunSnapshot:
    """Return a run that has used tokens, under orders. own: its own limit."""
    ledger = Ledger()
    limits = {} if own is None else {semconv.TOKENS: own}
    seen = session(tokens=tokens, at=NOW, limits=limits)
    ledger.apply(Observation("scrape", NOW, sessions=(seen,)))
    held = NO_OVERRIDES
    for order in orders:
        held = held.after(order)
    return ledger.snapshot(ledger.runs["run-1"], NOW)._replace(overrides=held)


def rules(tokens: int) -> Rules:
    """Return the configuration of a sidecar with a ceiling."""
    return Rules(ceilings=bounds_from({semconv.TOKENS: tokens}, {}, "sidecar"))


@pytest.mark.parametrize(
    ("used", "own", "ceiling", "expected"),
    [
        (1500, None, 2000, (Action.CONTINUE, 2000, "operator")),  # raised from 1000
        (1500, None, None, (Action.CONTINUE, None, None)),  # lifted
        (500, None, 400, (Action.STOP, 400, "operator")),  # lowered
        (1500, 1200, 2000, (Action.STOP, 1200, "session")),  # the run's own stays its own
        (1500, 1200, None, (Action.STOP, 1200, "session")),
        (500, 5000, 400, (Action.STOP, 400, "operator")),
    ],
)
def test_ceilings_of_an_operator(
    used: int, own: int | None, ceiling: int | None, expected: tuple[object, ...]
) -> None:
    order = ordered("limits", for_seconds=60, max_tokens=ceiling)
    verdict = verdict_from_snapshot(snapshot(used, order, own=own), rules(1000), NOW)
    state = verdict.resources[semconv.TOKENS]
    assert (verdict.action, state.limit, state.limit_from) == expected
    later = verdict_from_snapshot(snapshot(used, order, own=own), rules(1000), NOW + 60)
    state = later.resources[semconv.TOKENS]
    assert (state.limit, state.limit_from) == (1000, "sidecar")  # its time is over


def test_a_ceiling_that_is_not_named_stays() -> None:
    order = ordered("limits", for_seconds=60, max_api_calls=5)
    verdict = verdict_from_snapshot(snapshot(1500, order), rules(1000), NOW)
    assert (verdict.action, verdict.reason) == (Action.STOP, Reason.LIMIT_EXCEEDED)
    assert verdict.resources[semconv.API_CALLS].limit_from == "operator"


def test_a_stop_stands_above_the_numbers_and_hides_none() -> None:
    stop = ordered("stop", by="ann")
    verdict = verdict_from_snapshot(snapshot(10, stop), rules(1000), NOW)
    assert (verdict.action, verdict.reason) == (Action.STOP, Reason.OPERATOR_STOP)
    assert (verdict.status, verdict.message) == (LimitStatus.OK, "stopped by ann: because")
    assert verdict.resources[semconv.TOKENS].used == 10
    exceeded = verdict_from_snapshot(snapshot(2000, stop), rules(1000), NOW)
    assert (exceeded.reason, exceeded.status) == (Reason.OPERATOR_STOP, LimitStatus.EXCEEDED)
    silent = verdict_from_snapshot(snapshot(10, stop), rules(1000), NOW + 10_000)
    assert silent.reason == Reason.OPERATOR_STOP
    released = verdict_from_snapshot(snapshot(10, stop, ordered("release")), rules(1000), NOW)
    assert released.action is Action.CONTINUE


amounts = st.one_of(st.none(), st.integers(0, 3000))


def with_permission(found: RunSnapshot) -> RunSnapshot:
    """Return a run that lets limits come from outside."""
    return found._replace(attributes=found.attributes._replace(limits_from_outside=1.0))


@pytest.mark.parametrize(
    ("used", "own", "ceiling", "expected"),
    [
        (1500, 1200, 2000, (Action.CONTINUE, 2000, "operator")),
        (1500, 1200, None, (Action.CONTINUE, None, None)),
        (500, 5000, 400, (Action.STOP, 400, "operator")),
        (1500, None, 2000, (Action.CONTINUE, 2000, "operator")),
    ],
)
def test_where_the_run_lets_limits_come_from_outside_an_operators_takes_the_place_of_its_own(
    used: int, own: int | None, ceiling: int | None, expected: tuple[object, ...]
) -> None:
    """Higher or lower, or none at all; said in the verdict, until the order's time is over."""
    order = ordered("limits", for_seconds=60, max_tokens=ceiling)
    run = with_permission(snapshot(used, order, own=own))
    verdict = verdict_from_snapshot(run, rules(1000), NOW)
    state = verdict.resources[semconv.TOKENS]
    assert (verdict.action, state.limit, state.limit_from) == expected
    assert verdict.own_limits_replaced == (semconv.TOKENS,)
    later = verdict_from_snapshot(run, rules(1000), NOW + 60)
    assert later.resources[semconv.TOKENS].limit == 1000
    assert later.own_limits_replaced == ()


@pytest.mark.parametrize(
    ("lets", "workflow", "replaced"),
    [
        (True, None, True),
        (frozenset({"nightly"}), "nightly", True),
        (frozenset({"nightly"}), "other", False),
        (frozenset({"nightly"}), None, False),
        (frozenset(), None, False),
        (False, "nightly", False),
    ],
)
def test_the_sidecars_file_may_say_so_for_workflows(
    lets: bool | frozenset[str],  # noqa: FBT001 - as the file has it
    workflow: str | None,
    replaced: bool,  # noqa: FBT001 - a case
) -> None:
    """Of a run that says nothing itself; one without a workflow is none of them."""
    order = ordered("limits", for_seconds=60, max_tokens=2000)
    run = snapshot(1500, order, own=1200)
    labels = None if workflow is None else {semconv.WORKFLOW: workflow}
    run = run._replace(attributes=run.attributes._replace(labels=labels))
    verdict = verdict_from_snapshot(run, replace(rules(1000), limits_from_outside=lets), NOW)
    assert verdict.should_continue == replaced
    assert bool(verdict.own_limits_replaced) == replaced


def test_an_operators_limit_keeps_the_warning_line_that_comes_first() -> None:
    """The run's own threshold, or the sidecar's."""
    order = ordered("limits", for_seconds=60, max_tokens=2000)
    run = with_permission(snapshot(1300, order, own=1200))
    run = run._replace(attributes=run.attributes._replace(thresholds={semconv.TOKENS: 0.6}))
    verdict = verdict_from_snapshot(run, rules(1000), NOW)
    assert verdict.resources[semconv.TOKENS].warning_at == 1200
    assert verdict.resources[semconv.TOKENS].limit_from == "operator"


def test_what_an_order_changes_is_told_by_what_holds_then() -> None:
    """With permission, a raise of the run's own limit does change something."""
    order = limits(3000)
    run = with_permission(snapshot(500, order, own=900))
    verdict = verdict_from_snapshot(run, rules(1000), NOW)
    assert effect_of(order, NO_OVERRIDES, run, verdict, rules(1000)) == (True, ())


def test_a_stop_of_a_run_that_waits_is_an_answer_and_always_changes_something() -> None:
    """Also one that was stopped before, and waits for its release."""
    stop = ordered("stop", by="ann")
    run = snapshot(1500, stop)
    waits = run.attributes._replace(state=semconv.WAITING, waiting_since=NOW - 5)
    run = run._replace(attributes=waits)
    verdict = verdict_from_snapshot(run, rules(1000), NOW)
    assert (verdict.waiting_since, verdict.ordered_at) == (NOW - 5, NOW)
    refused = "the run waits until it may go on: it is refused"
    assert effect_of(stop, NO_OVERRIDES, run, verdict, rules(1000)) == (True, (refused,))
    again = effect_of(stop, Overrides(stop), run, verdict, rules(1000))
    assert again == (True, ("the run was stopped by ann: because", refused))


@given(used=st.integers(0, 3000), own=amounts, configured=st.integers(0, 3000), ordered_to=amounts)
def test_nobody_loosens_the_limit_of_somebody_else(
    used: int, own: int | None, configured: int, ordered_to: int | None
) -> None:
    """A run cannot loosen the sidecar's ceiling, nor an operator the run's own limit."""
    alone = verdict_from_snapshot(snapshot(used, own=own), rules(configured), NOW)
    limits = [configured] if own is None else [configured, own]
    assert alone.resources[semconv.TOKENS].limit == min(limits)
    order = ordered("limits", for_seconds=60, max_tokens=ordered_to)
    under_order = verdict_from_snapshot(snapshot(used, order, own=own), rules(configured), NOW)
    given_limits = [limit for limit in (own, ordered_to) if limit is not None]
    expected = min(given_limits, default=None)
    assert under_order.resources[semconv.TOKENS].limit == expected
    if own is not None and used > own:
        assert under_order.action is Action.STOP


def test_orders_are_stored_with_the_account() -> None:
    ledger = Ledger()
    ledger.apply(Observation("scrape", NOW, sessions=(session(tokens=1, at=NOW),)))
    account = ledger.runs["run-1"]
    orders = Overrides(
        ordered("stop", by="ann", now=True),
        ordered("limits", for_seconds=60, max_cost_usd="2.50", max_tokens=None),
    )
    account.overrides = orders
    assert codec.from_json(codec.to_json(account)).overrides == orders


OWN_LIMIT = (
    "only the run's code can raise its own limit, by update_limits or by resuming with a higher "
    "one, unless it lets limits come from outside: ResourceMonitor(limits_from_outside=True), or "
    "limits_from_outside in the sidecar's file"
)


def effect(
    order: Override, *before: Override, used: int = 500, own: int | None = None, at: float = NOW
) -> tuple[bool, str]:
    """Return what an order changes of a run under a ceiling of 1000, and what is said of it."""
    held = NO_OVERRIDES
    for one in before:
        held = held.after(one)
    since = snapshot(used, *before, order, own=own)
    since = since._replace(silent_for=at - NOW)
    verdict = verdict_from_snapshot(since, rules(1000), at)
    found = effect_of(order, held.holding(at), since, verdict, rules(1000))
    return found.changes, "; ".join(found.notes)


def limits(tokens: int | None, seconds: float = 60) -> Override:
    return ordered("limits", for_seconds=seconds, max_tokens=tokens)


def test_a_ceiling_above_the_runs_own_limit_changes_nothing_and_says_what_would() -> None:
    own = f"the run's own limit on tokens, 900, is stricter than 3,000; {OWN_LIMIT}"
    assert effect(limits(3000), own=900) == (False, own)
    assert effect(limits(None), own=900) == (False, own.replace("3,000", "no ceiling"))
    assert effect(limits(900), own=900)[0] is False
    assert effect(limits(800), own=900) == (True, "")
    assert effect(limits(3000)) == (True, "")
    assert effect(limits(3000), own=2000) == (True, ""), "from the configured 1000 to its own 2000"


def test_ceilings_that_held_already_change_nothing_unless_they_hold_for_longer() -> None:
    assert effect(limits(1000)) == (False, "the ceiling on tokens was already 1,000")
    assert effect(limits(800), limits(800)) == (False, "the ceiling on tokens was already 800")
    assert effect(limits(800, 99), limits(800)) == (True, "")
    assert effect(limits(3000, 99), limits(3000), own=900)[0] is False
    calls = ordered("limits", for_seconds=60, max_tokens=1000, max_api_calls=None)
    said = "the ceiling on tokens was already 1,000; api_calls had no ceiling"
    assert effect(calls) == (False, said)
    both = ordered("limits", for_seconds=60, max_tokens=3000, max_api_calls=5)
    changes, note = effect(both, own=900)
    assert changes
    assert note.startswith("the run's own limit on tokens, 900, is stricter than 3,000")


def test_going_back_to_the_configured_ceilings_changes_something_if_others_held() -> None:
    assert effect(ordered("limits")) == (False, "only the configured ceilings were in force")
    assert effect(ordered("limits"), limits(3000)) == (True, "")
    assert effect(ordered("limits"), limits(3000), at=NOW + 61)[0] is False, "its time was over"


def test_a_release_of_a_run_that_nobody_stopped_changes_nothing() -> None:
    assert effect(ordered("release")) == (False, "no operator has stopped the run")
    changes, said = effect(ordered("release"), used=1500)
    assert not changes
    assert said == (
        "no operator has stopped the run; the run must still stop: tokens at 150.0% "
        "(1,500 of 1,000): stop"
    )
    assert effect(ordered("release"), ordered("stop")) == (True, "")
    changes, said = effect(ordered("release"), ordered("stop"), used=1500)
    assert changes
    assert said.startswith("the run must still stop: tokens at 150.0%")
    for_a_while = ordered("stop", for_seconds=60)
    assert effect(ordered("release"), for_a_while, at=NOW + 61)[0] is False


def test_a_second_stop_changes_nothing_but_its_end_and_the_last_calls() -> None:
    first = ordered("stop", by="ann")
    assert effect(first) == (True, "")
    assert effect(ordered("stop"), first) == (False, "the run was stopped by ann: because")
    assert effect(ordered("stop", for_seconds=5), first)[0] is True
    assert effect(ordered("stop", now=True), first)[0] is True
    at_once = ordered("stop", by="ann", now=True)
    assert effect(ordered("stop"), at_once) == (
        True, "the run was stopped at once by ann: because"
    )  # fmt: skip


def test_a_run_that_is_not_heard_of_may_not_hear_its_order() -> None:
    changes, said = effect(ordered("stop"), at=NOW + 100)
    assert changes
    assert said == "the run may never receive it: it was last seen 100 s ago"


def test_a_raised_ceiling_does_not_take_back_a_stop() -> None:
    changes, said = effect(limits(3000), ordered("stop", by="ann"))
    assert changes
    assert said == "the run must still stop: stopped by ann: because"


@given(own=amounts, first=amounts, second=amounts, used=st.integers(0, 3000))
def test_what_is_said_to_change_nothing_changes_no_limit(
    own: int | None, first: int | None, second: int | None, used: int
) -> None:
    """And what is said to change something does: the limit that counts is another one."""
    one, other = limits(first), limits(second)
    was = verdict_from_snapshot(snapshot(used, one, own=own), rules(1000), NOW)
    now = verdict_from_snapshot(snapshot(used, one, other, own=own), rules(1000), NOW)
    was_limit, now_limit = (v.resources[semconv.TOKENS].limit for v in (was, now))
    assert effect(other, one, used=used, own=own)[0] == (was_limit != now_limit)


@given(limit=st.integers(0, 3000))
def test_of_equal_limits_the_runs_own_is_named(limit: int) -> None:
    """Whoever set the other: it is the one that stays."""
    for order in ((), (limits(limit),)):
        verdict = verdict_from_snapshot(snapshot(1, *order, own=limit), rules(limit), NOW)
        assert verdict.resources[semconv.TOKENS].limit_from == "session"
