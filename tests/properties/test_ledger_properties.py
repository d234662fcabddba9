"""The invariants of the ledger that are not one run's history against a model."""

from itertools import pairwise
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from otel_budget import semconv
from otel_budget.core.observation import RunAttributes, RunObservation, shared_labels
from otel_budget.core.quantities import Number
from otel_budget.core.resources import COUNTED, FURTHER
from otel_budget.ledger.attributes import filled, strictest
from otel_budget.ledger.counter import first
from otel_budget.ledger.ledger import Ledger
from otel_budget.ledger.moments import watch_from
from otel_budget.ledger.processes import active_seconds
from otel_budget.ledger.snapshot import NO_PACE
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot
from otel_budget.sidecar.storage import codec
from tests.properties.histories import RUN, reading, restarted, restored
from tests.properties.strategies import NEAR, limits, shares, thresholds, thresholds_by_resource

T0 = 1000.0
#: Facts that are no word on what the run may do; and whose it is, which its newest process says.
_UNORDERED: dict[str, Any] = {
    "state": None, "duration": None, "carried_over": {}, "started_at": None, "incarnation_at": None,
    "unpriced_calls": None, "unknown_usage_calls": None, "estimated_calls": None, "active": None,
    "labels": None, "parent": None,
}  # fmt: skip
states = st.none() | st.sampled_from(semconv.SESSION_STATES)
counted = {name: NEAR[name] for name in COUNTED}
calls = st.none() | st.sampled_from([0.0, 1.0, 2.0])
_DRAWN: dict[str, st.SearchStrategy[Any]] = {
    "started_at": st.none() | st.just(T0),
    "incarnation_at": st.none() | st.sampled_from([T0, T0 + 1, T0 + 2]),
    "carried_over": st.fixed_dictionaries(
        {}, optional={**counted, semconv.ACTIVE_DURATION: NEAR[semconv.ACTIVE_DURATION]}
    ),
    "limits": limits,
    "thresholds": thresholds_by_resource,
    "completion_threshold": st.none() | thresholds,
    "progress": st.none() | shares,
    "duration": st.none() | st.floats(0, 100),
    "state": states,
    "unpriced_calls": calls,
    "unknown_usage_calls": calls,
    "estimated_calls": calls,
    "optional_series": st.none() | st.sampled_from([0.0, 1.0, 2.0, 9.0]),
    "active": st.none() | st.floats(0, 100),
    "progress_tokens": calls,
    "progress_api_calls": calls,
    "progress_cost": calls,
    "progress_further": st.none()
    | st.fixed_dictionaries({}, optional=dict.fromkeys(FURTHER, shares)),
    "follows_completed": st.none() | st.sampled_from([0.0, 1.0]),
    "idle_after": st.none() | st.sampled_from([1.0, 1800.0]),
    "labels": st.none()
    | st.dictionaries(st.sampled_from(["workflow", "team"]), st.sampled_from("ab")).map(
        shared_labels
    ),
    "parent": st.none() | st.sampled_from(["p", RUN]),
    "wrap_up_calls": calls,
    "waiting_since": st.none() | st.sampled_from([T0, T0 + 1]),
    "limits_from_outside": st.none() | st.sampled_from([0.0, 1.0]),
}
attributes = st.builds(RunAttributes, **_DRAWN)


@st.composite
def sessions(draw: st.DrawFn) -> RunObservation:
    """Return anything a source may show of the run."""
    values: dict[tuple[str, str], Number] = {}
    for name, amount in draw(st.fixed_dictionaries({}, optional=counted)).items():
        values[name, draw(st.sampled_from(["", "model='x'", "model='y'"]))] = amount
    return RunObservation(
        RUN,
        draw(st.sampled_from(["a", "b"])),
        T0 + draw(st.integers(0, 40)) / 4,
        values,
        draw(attributes),
        draw(st.sampled_from([(), (), ("otel_budget_tokens_total",)])),
        follows=draw(st.booleans()),
    )


steps = st.lists(st.tuples(sessions(), st.booleans()), max_size=12)


def test_whatever_is_known_of_a_run_is_drawn_as_a_source_may_show_it() -> None:
    """Hypothesis infers what is left out: any float, infinite ones that no source lets through."""
    assert _DRAWN.keys() == set(RunAttributes._fields)


def ledger_of(history: list[tuple[RunObservation, bool]]) -> Ledger:
    """Return a ledger that took it all in."""
    ledger = Ledger()
    for session, partial in history:
        ledger.apply(reading(session.sampled_at, [session], partial=partial))
    return ledger


def totals(ledger: Ledger) -> dict[str, Number]:
    """Return what the run used so far, time left aside."""
    return ledger.runs[RUN].totals() if RUN in ledger.runs else {}


@st.composite
def interleavings(draw: st.DrawFn) -> tuple[list[RunObservation], list[RunObservation]]:
    """Return the readings of several processes in two orders, each process's in its own."""
    queues = []
    for number in range(draw(st.integers(1, 4))):
        named = draw(st.booleans())
        stated = draw(attributes)
        stated = stated._replace(
            started_at=T0,
            incarnation_at=T0 + number if named else None,
            state="running",
            optional_series=None,  # of what is missing, those that were seen before have to say
        )
        values = draw(st.lists(st.integers(0, 30), min_size=1, max_size=4))
        queues.append([
            RunObservation(RUN, f"t{number}", T0 + step, {(semconv.TOKENS, ""): value}, stated)
            for step, value in enumerate(values)
        ])  # fmt: skip
    orders = []
    for _ in range(2):
        tickets = [number for number, queue in enumerate(queues) for _ in queue]
        order = draw(st.permutations(tickets))
        taken = [iter(queue) for queue in queues]
        orders.append([next(taken[number]) for number in order])
    return orders[0], orders[1]


@given(interleavings())
def test_the_order_in_which_processes_are_seen_does_not_matter(
    orders: tuple[list[RunObservation], list[RunObservation]],
) -> None:
    """For what was used, for what the run says of itself, and so for the verdict.

    But for the pace of its calls: that is of the order in which they were seen.
    """
    results = []
    for order in orders:
        ledger = ledger_of([(session, False) for session in order])
        account = ledger.runs[RUN]
        said = account.attributes._replace(state=None)
        known = ledger.snapshot(account, T0 + 100)
        known = known._replace(rates={}, pace=NO_PACE, gap=1.0, active=known.active_when_shown)
        verdict = verdict_from_snapshot(known, Rules(), T0 + 100)
        results.append((totals(ledger), said, known.used, known.silent_for, verdict))
    assert results[0] == results[1]


_SILENT_SINCE = [  # the one target that says how long it was active is not heard any more
    (RunObservation(RUN, "a", T0, {}, RunAttributes()), False),
    (RunObservation(RUN, "a", T0 + 4.25, {}, RunAttributes(incarnation_at=T0)), False),
    (RunObservation(RUN, "b", T0, {}, RunAttributes(incarnation_at=T0, active=0.0)), False),
    (RunObservation(RUN, "a", T0 + 5.25, {}, RunAttributes()), False),
]


@given(steps)
@example(_SILENT_SINCE)
def test_no_reading_of_any_kind_lowers_a_total(history: list[tuple[RunObservation, bool]]) -> None:
    """Nor makes a known resource unknown; late, partial, implausible and contradictory ones too."""
    ledger, before = Ledger(), dict[str, Number]()
    for session, partial in history:
        ledger.apply(reading(session.sampled_at, [session], partial=partial))
        after = totals(ledger)
        known = ledger.snapshot(ledger.runs[RUN], T0, [semconv.ACTIVE_DURATION])
        active = known.active_when_shown
        if active is not None:
            after = {**after, semconv.ACTIVE_DURATION: active}
        assert after.keys() >= before.keys()
        assert all(after[name] >= value for name, value in before.items())
        before = after


@given(steps, sessions())
def test_a_reading_with_nothing_in_it_lowers_nothing_and_loosens_nothing(
    history: list[tuple[RunObservation, bool]], last: RunObservation
) -> None:
    """Every series is lost but the run's own: partial, later than all, and said by nobody new."""
    ledger = ledger_of([*history, (last, False)])
    account = ledger.runs[RUN]
    before, used = account.attributes, totals(ledger)
    empty = RunObservation(RUN, last.target, T0 + 50, {}, RunAttributes())
    ledger.apply(reading(T0 + 50, [empty], partial=True))
    assert totals(ledger) == used
    after = account.attributes
    # It may show that an older process is alive beside a newer one: then its word counts, too.
    assert strictest(before, after)._replace(**_UNORDERED) == after._replace(**_UNORDERED)
    assert after.state not in semconv.ENDED_STATES or before.state in semconv.ENDED_STATES


@given(steps)
def test_an_account_comes_back_from_its_storage_exactly(
    history: list[tuple[RunObservation, bool]],
) -> None:
    """Through real JSON text; and what is written of it then is the same text."""
    for account in ledger_of(history).runs.values():
        text = codec.to_json(account)
        again = codec.from_json(text)
        assert codec.to_json(again) == text
        assert again.totals() == account.totals()
        same = ("attributes", "targets", "implausible_since", "sampled_at", "ended_at", "began_at")
        assert all(getattr(again, name) == getattr(account, name) for name in same)
        assert (again.duration(T0 + 99), again.gap()) == (account.duration(T0 + 99), account.gap())
        assert active_seconds(again.processes.values(), again.gap(), T0 + 99) == active_seconds(
            account.processes.values(), account.gap(), T0 + 99
        )


@given(steps, steps)
def test_a_restart_in_the_middle_changes_no_total(
    one: list[tuple[RunObservation, bool]], other: list[tuple[RunObservation, bool]]
) -> None:
    """Readings go on as if nothing had happened."""
    through, straight = ledger_of(one), ledger_of(one)
    through = restarted(through, T0 + 20)
    for session, partial in other:
        for ledger in (through, straight):
            ledger.apply(reading(session.sampled_at, [session], partial=partial))
    assert totals(through) == totals(straight)


@given(steps, st.floats(0, 2000))
def test_a_clock_set_back_while_the_sidecar_was_down_lowers_nothing(
    history: list[tuple[RunObservation, bool]], back: float
) -> None:
    """No moment lies ahead, and the duration is at least what it was at the last sample.

    But where it follows from a start that the run's own host states: that clock was not set.
    """
    for account in ledger_of(history).runs.values():
        target_series = [
            series for i in account.processes.values() for series in i.target_series.values()
        ]
        then = max([account.first_seen_at, *(series.seen_at for series in target_series)])
        again = restored(account)
        watch_from(again, then - back)
        assert again.totals() == account.totals()
        if not any(i.begins_as_stated(back) for i in account.processes.values()):
            assert again.duration(then - back) >= account.duration(then) - 1e-9
        moved = [series for i in again.processes.values() for series in i.target_series.values()]
        assert all(series.seen_at <= then - back + 1e-9 for series in moved)
        assert again.sampled_at is None or again.sampled_at <= then - back + 1e-9


@given(st.lists(st.integers(0, 100), min_size=1))
def test_a_counter_adds_up_like_increase_in_promql(values: list[int]) -> None:
    """Every rise, and all of a value after a drop."""
    state = first(values[0])
    drops = 0
    for value in values[1:]:
        state, dropped = state.observe(value)
        drops += dropped
    rises = [b - a if b >= a else b for a, b in pairwise([0, *values])]
    assert state.total == sum(rises)
    assert drops == sum(b < a for a, b in pairwise(values))


@given(attributes, attributes, attributes)
def test_the_stricter_word_counts_in_any_order(
    one: RunAttributes, two: RunAttributes, three: RunAttributes
) -> None:
    """Neither order nor grouping nor saying it twice changes anything, and nothing is loosened."""
    joined = strictest(one, two)
    assert joined == strictest(two, one)
    assert strictest(joined, three) == strictest(one, strictest(two, three))
    assert strictest(joined, one) == joined
    for stated in (one, two):
        assert all(joined.limits[name] <= limit for name, limit in stated.limits.items())
        assert all(joined.thresholds[name] <= line for name, line in stated.thresholds.items())


@given(attributes, attributes)
def test_what_a_reading_leaves_unsaid_stays_as_it_was(
    newer: RunAttributes, older: RunAttributes
) -> None:
    """And what it says counts."""
    both: Any = filled(newer, older, whole=False)
    for name in ("limits", "thresholds", "carried_over"):
        assert getattr(both, name) == {**getattr(older, name), **getattr(newer, name)}
    for name in ("progress", "completion_threshold", "duration", "state", "started_at"):
        said = getattr(newer, name)
        assert getattr(both, name) == (getattr(older, name) if said is None else said)


@given(attributes, attributes)
def test_a_limit_is_lifted_by_a_whole_reading_that_shows_as_many_as_it_says(
    newer: RunAttributes, older: RunAttributes
) -> None:
    """Beside that, they, progress and calls kept back are what they are without their number."""
    shown = len(newer.limits) + (newer.progress is not None) + (newer.wrap_up_calls is not None)
    both = filled(newer, older, whole=True)
    told = newer if newer.optional_series == shown else filled(newer, older, whole=False)
    assert (both.limits, both.progress) == (told.limits, told.progress)
    assert both.wrap_up_calls == told.wrap_up_calls
