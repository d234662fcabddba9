"""What is proposed as a limit, from the runs that ended well, and from those that it cut."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget import semconv
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import LimitStatus, ResourceState, Verdict
from otel_budget.policy.bounds import bound
from otel_budget.policy.suggestion import (
    LEAST_RUNS,
    EndedRun,
    ended_run,
    quantile,
    resources_of,
    suggestion,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_budget.core.quantities import Number

TOKENS = semconv.TOKENS
sizes = st.lists(st.integers(1, 2**40), min_size=LEAST_RUNS, max_size=60)


def good(*used: Number, resource: str = TOKENS) -> list[EndedRun]:
    return [EndedRun({resource: amount}, ended_well=True) for amount in used]


def cut(*limits: int) -> list[EndedRun]:
    return [EndedRun({TOKENS: limit + 7}, False, {TOKENS: limit}) for limit in limits]


def proposed(runs: Iterable[EndedRun], threshold: float = 0.8) -> Number | None:
    return suggestion(TOKENS, runs, threshold).proposed


def test_a_quantile_is_the_use_of_a_run_and_never_between_two() -> None:
    tens = list(range(10, 110, 10))
    assert [quantile(tens, share) for share in (1, 10, 11, 50, 75, 90, 95, 100)] == [
        10, 10, 20, 50, 80, 90, 100, 100,
    ]  # fmt: skip


def test_the_warning_line_of_a_proposal_is_above_the_95th_percentile() -> None:
    runs = good(*range(10_000, 210_000, 10_000))  # of twenty, the nineteenth used 190,000
    found = suggestion(TOKENS, runs, 0.8)
    assert found.proposed == 240_000  # 190,000 of 237,500 is 80%; rounded up to two digits
    assert (found.quantiles[50], found.quantiles[95], found.largest) == (100_000, 190_000, 200_000)
    assert found.reason == (
        "95% of 20 runs that ended well used no more than 190,000: the warning line, at 80% of "
        "it, is above that"
    )


@pytest.mark.parametrize(
    ("resource", "used", "limit"),
    [
        (semconv.TOKENS, 1, 2),
        (semconv.TOKENS, 80_001, 110_000),
        (semconv.TOKENS, 80_000, 110_000),
        (semconv.COST, Decimal("0.0101"), Decimal("0.013")),
        (semconv.COST, Decimal(98), Decimal(130)),
        (semconv.DURATION, 1000.5, 1300.0),
        (semconv.API_CALLS, 40, 51),
    ],
)
def test_a_proposal_is_rounded_up_to_two_digits(resource: str, used: Number, limit: Number) -> None:
    found = suggestion(resource, good(*[used] * 10, resource=resource), 0.8)
    assert (found.proposed, type(found.proposed)) == (limit, type(limit))


def test_below_ten_runs_that_ended_well_nothing_is_proposed_and_it_is_said_how_many_there_are() -> (
    None
):
    runs = [*good(*range(1, 10)), *[EndedRun({TOKENS: 5}, ended_well=False)] * 50]
    found = suggestion(TOKENS, runs, 0.8)
    assert (found.proposed, found.runs) == (None, 9)
    assert found.reason == "9 runs ended well and say what they used; it takes 10"
    assert found.quantiles[95] == 9


def test_what_runs_do_not_use_or_do_not_say_is_not_limited_to_nothing() -> None:
    assert suggestion(TOKENS, good(*[0] * 20), 0.8).proposed is None
    assert suggestion(TOKENS, good(*[0] * 39, 5), 0.8).proposed is None
    assert suggestion(TOKENS, good(*[Decimal(1)] * 20, resource=semconv.COST), 0.8).runs == 0


def test_runs_that_ended_otherwise_are_not_used() -> None:
    runs = good(*[100] * 10)
    assert proposed([*runs, EndedRun({TOKENS: 10**9}, ended_well=False)]) == proposed(runs)


def test_what_a_suggestion_cuts_neither_pushes_it_down_nor_lets_it_creep_up() -> None:
    runs = good(*range(1_000, 101_000, 1_000))
    limit = proposed(runs)
    assert limit == 120_000
    for _ in range(20):  # each time, the largest are cut: those that end well are smaller
        survivors = [run for run in runs if run.used[TOKENS] < 96_000]
        runs = [*survivors, *cut(*[120_000] * (100 - len(survivors)))]
        assert proposed(runs) == limit
    assert proposed([*good(*[1_000] * 10), *cut(*[120_000] * 90)]) == limit


def test_more_runs_near_the_limit_that_end_well_raise_it() -> None:
    runs = [*good(*[50_000] * 10), *cut(*[120_000] * 10)]
    assert proposed(runs) == 120_000
    assert proposed([*runs, *good(*[110_000] * 10)]) == 140_000


def verdict(
    reason: Reason, states: dict[str, ResourceState], run_state: str = semconv.STOPPED
) -> Verdict:
    stops = Action.STOP if Action.STOP in reason.actions else Action.CONTINUE
    worst = max((state.status for state in states.values()), key=list(LimitStatus).index)
    return Verdict(
        session_id="run", action=stops, status=worst, reason=reason, message="",
        resources=states, evaluated_at=0.0, run_state=run_state,
    )  # fmt: skip


def state(used: int, limit: int, limit_from: str, *, at_least: bool = False) -> ResourceState:
    ratio = used / limit
    status = LimitStatus.EXCEEDED if ratio >= 1 else LimitStatus.APPROACHING
    if ratio < 0.8:
        status = LimitStatus.OK
    return ResourceState(used, limit, max(0, limit - used), ratio, status, limit_from,
                         at_least=at_least)  # fmt: skip


def test_a_run_is_cut_by_a_suggestion_if_that_alone_stopped_it() -> None:
    over = state(120, 100, "suggested")
    assert ended_run(verdict(Reason.LIMIT_EXCEEDED, {TOKENS: over})).cut == {TOKENS: 100}
    near = {TOKENS: state(90, 100, "suggested"), semconv.API_CALLS: state(1, 10, "session")}
    assert ended_run(verdict(Reason.APPROACHING_LIMIT, near)).cut == {TOKENS: 100}
    both = {TOKENS: over, semconv.API_CALLS: state(11, 10, "session")}
    assert ended_run(verdict(Reason.LIMIT_EXCEEDED, both)).cut == {}
    assert ended_run(verdict(Reason.OPERATOR_STOP, {TOKENS: over})).cut == {}
    assert ended_run(verdict(Reason.WITHIN_LIMITS, near, semconv.COMPLETED)).cut == {}


def test_a_run_ended_well_if_it_completed_uncut_and_was_not_judged_a_failure() -> None:
    fine = verdict(Reason.WITHIN_LIMITS, {TOKENS: state(5, 100, "session")}, semconv.COMPLETED)
    assert ended_run(fine) == EndedRun({TOKENS: 5}, ended_well=True)
    assert not ended_run(fine, resolved=False).ended_well
    assert ended_run(fine, resolved=True).ended_well
    over = verdict(Reason.LIMIT_EXCEEDED, {TOKENS: state(120, 100, "suggested")}, "completed")
    assert not ended_run(over).ended_well
    part = verdict(Reason.WITHIN_LIMITS, {TOKENS: state(5, 9, "session", at_least=True)})
    assert ended_run(part).used == {}


@given(sizes, st.integers(1, 4), st.randoms())
def test_the_same_runs_again_in_any_order_propose_the_same(
    used: list[int], times: int, chance: object
) -> None:
    runs = good(*used) * times
    chance.shuffle(runs)  # type: ignore[attr-defined] # a random.Random
    assert proposed(runs) == proposed(good(*used))


@given(sizes, st.floats(0.01, 1))
def test_95_percent_of_good_runs_stay_below_the_warning_line(
    used: list[int], threshold: float
) -> None:
    limit = proposed(good(*used), threshold)
    assert isinstance(limit, int)
    line = bound(TOKENS, limit, threshold, "suggested").warning_at
    assert sum(size < line for size in used) * 100 >= 95 * len(used)


@pytest.mark.parametrize(
    ("resource", "use", "threshold", "limit"),
    [
        (semconv.API_CALLS, 8, 0.8, 11), (semconv.API_CALLS, 1, 1.0, 2), (TOKENS, 1000, 1.0, 1100),
        (TOKENS, 9900, 1.0, 10_000), (semconv.DURATION, 2.0, 0.8, 2.6),
        (semconv.COST, Decimal("0.08"), 0.8, Decimal("0.11")),
    ],
)  # fmt: skip
def test_runs_that_all_use_the_same_do_not_come_to_the_warning_line(
    resource: str, use: Number, threshold: float, limit: Number
) -> None:
    runs = [EndedRun({resource: use}, ended_well=True)] * LEAST_RUNS
    assert suggestion(resource, runs, threshold).proposed == limit


@given(sizes)
def test_a_limit_that_is_applied_to_the_runs_it_came_from_proposes_itself_again(
    used: list[int],
) -> None:
    limit = proposed(good(*used))
    assert isinstance(limit, int)
    below = [size for size in used if size < limit]
    applied = [*good(*below), *cut(*[limit] * (len(used) - len(below)))]
    if len(below) >= LEAST_RUNS:
        assert proposed(applied) == limit


@given(sizes, st.lists(st.integers(0, 2**40), max_size=40))
def test_runs_that_a_proposal_cut_never_lower_it_nor_raise_it_above_their_own_limits(
    used: list[int], more: list[int]
) -> None:
    alone = proposed(good(*used))
    assert isinstance(alone, int)
    limits = [alone + extra for extra in more]
    together = proposed([*good(*used), *cut(*limits)])
    assert together is not None
    assert together >= alone
    largest = proposed(good(*[max(used)] * LEAST_RUNS))
    assert together <= max(largest or 0, *(1.1 * limit + 1 for limit in limits), 0)


@given(
    st.none() | st.integers(1, 100), st.none() | st.integers(1, 100), st.none() | st.integers(1, 99)
)
def test_a_suggestion_is_never_above_at_most(
    limit: int | None, most: int | None, least: int | None
) -> None:
    least = None if least is None or (most is not None and least >= most) else least
    found = within(limit, least, most)
    if found is not None:
        assert most is None or found < most
        assert least is None or found >= least


def test_what_calls_used_and_nobody_knows_is_named() -> None:
    """A limit on tokens is not left out unsaid where no run says its tokens."""
    runs = [EndedRun({semconv.API_CALLS: 1}, ended_well=True)] * 20
    assert resources_of(runs) == (semconv.TOKENS, semconv.API_CALLS, semconv.COST)
    found = suggestion(semconv.TOKENS, runs, 0.8)
    assert found.proposed is None
    assert found.reason.startswith("0 runs ended well and say what they used")
