"""Every source sees the same in the same sessions: one suite, run against each of them."""

import math
import time
from collections import Counter
from decimal import Decimal

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation, RunObservation
from tests.conformance.rig import Rig
from tests.support.exposition import line, page
from tests.support.processes import until

TOKENS, CALLS, COST = semconv.SESSION_TOKENS, semconv.SESSION_API_CALLS, semconv.SESSION_COST

PUSHED_TOO = True
#: Seconds of age that no run has which is scraped every fifth of one, however late it is shown.
GROWN_OLD = 8.0


def only(reading: Observation) -> RunObservation:
    """Return the one session of a reading that has one."""
    assert [session.session_id for session in reading.sessions] == ["run-1"]
    return reading.sessions[0]


def test_counters_come_in_the_type_of_their_resource(rig: Rig) -> None:
    """Tokens and calls are whole numbers, money is an exact decimal."""
    text = page(line(TOKENS, 1234567, "run-1"), line(CALLS, 17, "run-1"), line(COST, 0.1, "run-1"))
    session = only(rig.show(text))
    assert session.counters == {
        (semconv.TOKENS, ""): 1234567,
        (semconv.API_CALLS, ""): 17,
        (semconv.COST, ""): Decimal("0.1"),
    }
    assert [type(value) for value in session.counters.values()].count(int) == 2
    assert session.target == rig.ids[0]
    assert session.implausible == ()


def test_a_counter_at_0_is_a_session_at_0(rig: Rig) -> None:
    """A run that has used nothing yet is there, at 0."""
    assert only(rig.show(page(line(TOKENS, 0, "run-1")))).counters == {(semconv.TOKENS, ""): 0}


def test_a_run_says_its_limits_thresholds_and_what_it_carried_over(rig: Rig) -> None:
    """What a run says of its resources arrives, per resource."""
    session = only(
        rig.show(
            page(
                line(TOKENS, 5, "run-1"),
                line(semconv.LIMIT, 1000, "run-1", resource="tokens", unit="tokens"),
                line(semconv.LIMIT, 3600, "run-1", resource="duration", unit="seconds"),
                line(semconv.LIMIT, 2.5, "run-1", resource="cost", unit="usd"),
                line(semconv.WARNING_THRESHOLD, 0.55, "run-1", resource="tokens"),
                line(semconv.CARRIED_OVER, 300, "run-1", resource="tokens", unit="tokens"),
                line(semconv.CARRIED_OVER, 0.3, "run-1", resource="cost", unit="usd"),
            )
        )
    )
    assert session.attributes.limits == {"tokens": 1000, "duration": 3600.0, "cost": Decimal("2.5")}
    assert session.attributes.thresholds == {"tokens": 0.55}
    assert session.attributes.carried_over == {"tokens": 300, "cost": Decimal("0.3")}


def test_a_run_says_how_far_it_is_and_who_it_is(rig: Rig) -> None:
    """Progress, duration, start times, completion threshold and state arrive."""
    states = [
        line(semconv.SESSION_STATE, int(state == "paused"), "run-1", state=state)
        for state in semconv.SESSION_STATES
    ]
    attributes = only(
        rig.show(
            page(
                line(TOKENS, 5, "run-1"),
                line(semconv.PROGRESS, 0.25, "run-1"),
                line(semconv.DURATION_SECONDS, 12.5, "run-1"),
                line(semconv.SESSION_START, 1767225600.125, "run-1"),
                line(semconv.INCARNATION_START, 1767225700.5, "run-1"),
                line(semconv.COMPLETION_THRESHOLD, 0.9, "run-1"),
                *states,
            )
        )
    ).attributes
    assert (attributes.progress, attributes.duration, attributes.completion_threshold) == (
        0.25,
        12.5,
        0.9,
    )
    assert (attributes.started_at, attributes.incarnation_at) == (1767225600.125, 1767225700.5)
    assert attributes.state == "paused"


def test_a_run_says_whose_it_is(rig: Rig) -> None:
    """By the labels that say so, and no others."""
    info = line(semconv.SESSION_INFO, 1, "run-1", workflow="nightly", team="a", color="red")
    labels = only(rig.show(page(line(TOKENS, 5, "run-1"), info))).attributes.labels
    assert labels == {"workflow": "nightly", "team": "a"}


def test_what_a_run_does_not_say_is_unknown(rig: Rig) -> None:
    """An untyped counter with a session id is all a foreign agent need export."""
    session = only(rig.show(page(line(TOKENS, 5, "run-1"), typed=False)))
    assert session.counters == {(semconv.TOKENS, ""): 5}
    assert session.attributes.limits == {}
    assert session.attributes.started_at is None
    assert session.attributes.progress is None
    assert session.attributes.state is None


def test_an_infinite_limit_is_a_way_to_say_unlimited(rig: Rig) -> None:
    """It is no bad value, and says more than an absent one: that lifts nothing."""
    text = page(line(TOKENS, 5, "run-1"), line(semconv.LIMIT, "+Inf", "run-1", resource="tokens"))
    reading = rig.show(text)
    assert only(reading).attributes.limits == {semconv.TOKENS: math.inf}
    assert reading.dropped == {}


def test_a_limit_on_a_resource_nobody_knows_is_passed_over(rig: Rig) -> None:
    """A newer agent may limit more than this version judges."""
    text = page(line(TOKENS, 5, "run-1"), line(semconv.LIMIT, 9, "run-1", resource="searches"))
    assert only(rig.show(text)).attributes.limits == {}


def test_calls_of_tools_arrive_with_their_limit_and_those_at_the_last_progress(rig: Rig) -> None:
    """A further resource is in no way different; a run that shows none of it has none."""
    text = page(
        line(TOKENS, 5, "run-1"),
        line(semconv.SESSION_TOOL_CALLS, 7, "run-1"),
        line(semconv.LIMIT, 9, "run-1", resource="tool_calls", unit="calls"),
        line(semconv.CARRIED_OVER, 2, "run-1", resource="tool_calls", unit="calls"),
        line(semconv.PROGRESS, 0.5, "run-1"),
        line(semconv.PROGRESS_TOOL_CALLS, 6, "run-1"),
    )
    session = only(rig.show(text))
    assert session.counters == {(semconv.TOKENS, ""): 5, (semconv.TOOL_CALLS, ""): 7}
    said = session.attributes
    assert (said.limits, said.carried_over) == ({semconv.TOOL_CALLS: 9}, {semconv.TOOL_CALLS: 2})
    assert said.progress_further == {semconv.TOOL_CALLS: 6.0}


def test_a_fraction_of_a_token_counts_as_one(rig: Rig) -> None:
    """No use is rounded away."""
    assert only(rig.show(page(line(TOKENS, 5.25, "run-1")))).counters == {(semconv.TOKENS, ""): 6}


def test_runs_at_several_targets_are_told_apart_by_target(rig: Rig) -> None:
    """The same id at two targets is two readings, each with its place."""
    reading = rig.show(
        page(line(TOKENS, 1, "run-1"), line(TOKENS, 2, "run-2")), page(line(TOKENS, 3, "run-1"))
    )
    seen = {(s.session_id, s.target): s.counters[semconv.TOKENS, ""] for s in reading.sessions}
    first, second = rig.ids
    assert seen == {("run-1", first): 1, ("run-2", first): 2, ("run-1", second): 3}
    assert reading.problems == ()


def test_series_with_further_labels_are_kept_apart(rig: Rig) -> None:
    """They are added up later, where a reset of one of them can be seen."""
    counters = only(
        rig.show(page(line(TOKENS, 1, "run-1", model="a"), line(TOKENS, 2, "run-1", model="b")))
    ).counters
    assert {resource for resource, _ in counters} == {semconv.TOKENS}
    assert sorted(counters.values()) == [1, 2]


@pytest.mark.parametrize("value", ["nonsense", "+Inf", "-1", "18014398509481984"])
def test_an_implausible_counter_is_refused_and_its_session_stays(rig: Rig, value: str) -> None:
    """It is not 0, and its neighbour counts."""
    value = rig.backend.nonsense if value == "nonsense" else value
    reading = rig.show(page(line(TOKENS, value, "run-1"), line(CALLS, 3, "run-1")))
    session = only(reading)
    assert session.counters == {(semconv.API_CALLS, ""): 3}
    assert session.implausible == (TOKENS.name,)
    assert reading.dropped == {"implausible": 1}


def test_a_session_with_nothing_but_an_implausible_counter_is_there(rig: Rig) -> None:
    """It is seen, and nothing is known of its use."""
    session = only(rig.show(page(line(TOKENS, rig.backend.nonsense, "run-1"))))
    assert session.counters == {}
    assert session.implausible == (TOKENS.name,)


def test_a_counter_that_becomes_nan_is_never_a_sign_of_life(rig: Rig) -> None:
    """It is refused; VictoriaMetrics passes it over, so there its run grows old instead."""
    with rig.follow() as follower:
        follower.see(page(line(TOKENS, 5, "run-1"), line(CALLS, 1, "run-1")))
        after = only(follower.see(page(line(TOKENS, "NaN", "run-1"), line(CALLS, 2, "run-1"))))
        assert follower.used("run-1")[semconv.TOKENS] == 5
        if rig.backend.keeps_nan:
            assert after.implausible == (TOKENS.name,)
        else:  # what is seen of its calls goes on
            until(lambda: time.time() - only(follower.read()).sampled_at > GROWN_OLD)


def test_an_implausible_limit_is_refused(rig: Rig) -> None:
    """It is neither 0 nor "unlimited": what the run may use is in doubt."""
    limit = line(semconv.LIMIT, rig.backend.nonsense, "run-1", resource="tokens")
    text = page(line(TOKENS, 5, "run-1"), limit)
    reading = rig.show(text)
    assert only(reading).attributes.limits == {}
    assert only(reading).implausible == (semconv.LIMIT.name,)
    assert reading.dropped == {"implausible": 1}


def test_invalid_session_ids_are_dropped_and_counted(rig: Rig) -> None:
    """They never become names of anything."""
    text = page(line(TOKENS, 1, "run-1"), line(TOKENS, 2, "../etc"), line(TOKENS, 3, "a" * 129))
    reading = rig.show(text)
    assert only(reading).counters == {(semconv.TOKENS, ""): 1}
    assert reading.dropped == {"session_id": 2}


def test_facts_alone_make_no_session(rig: Rig) -> None:
    """Without one of the judged counters there is nothing to judge."""
    reading = rig.show(page(line(semconv.LIMIT, 5, "run-1", resource="tokens")))
    assert reading.sessions == ()
    assert reading.problems == ()


def test_targets_without_sessions_are_no_problem(rig: Rig) -> None:
    """Nothing there is an answer."""
    reading = rig.show("")
    assert (reading.sessions, reading.problems) == ((), ())
    assert reading.ok


def test_a_target_that_vanishes_takes_its_sessions_along(rig: Rig) -> None:
    """They are absent, not at 0, and the other target's stay."""
    texts = (page(line(TOKENS, 7, "run-1")), page(line(TOKENS, 9, "run-2")))
    assert len(rig.show(*texts).sessions) == 2
    assert only(rig.show(texts[0], None)).counters == {(semconv.TOKENS, ""): 7}


def test_a_restarted_target_shows_its_lower_counter_as_it_is(rig: Rig) -> None:
    """A source measures; that it was a reset is for the ledger to say."""
    before = page(line(TOKENS, 700, "run-1"), line(semconv.INCARNATION_START, 100, "run-1"))
    after = page(line(TOKENS, 3, "run-1"), line(semconv.INCARNATION_START, 200, "run-1"))
    old, new = only(rig.show(before)), only(rig.show(after))
    assert (old.counters[semconv.TOKENS, ""], old.attributes.incarnation_at) == (700, 100.0)
    assert (new.counters[semconv.TOKENS, ""], new.attributes.incarnation_at) == (3, 200.0)
    assert new.sampled_at > old.sampled_at


def test_samples_are_dated_on_the_readers_clock(rig: Rig) -> None:
    """A sample is never younger than the reading, and here not older than some scrapes."""
    reading = rig.show(page(line(TOKENS, 1, "run-1")))
    age = reading.read_at - only(reading).sampled_at
    assert 0 <= age < 3
    assert reading.spacing > 0


#: Labels that a query marks rows with, and those by which series are told apart or joined.
MARKS = ("otel_budget_sampled", "otel_budget_target_answers", "otel_budget_idle")
OTHERS = ("replica", "prometheus_replica", "exported_session_id", "resource", "state", "le")


def test_labels_that_a_target_makes_up_break_nothing_of_another(rig: Rig) -> None:
    """Not even those of the query's own marks; and what bears such a label counts."""
    lines, odd = [], [(label, value) for label in (*MARKS, *OTHERS) for value in ("x", "1", "11")]
    for number, (label, value) in enumerate(odd):
        made_up = {label: value}
        lines += [line(TOKENS, 1, f"both-{number}"), line(TOKENS, 2, f"both-{number}", **made_up)]
        lines += [line(TOKENS, 4, f"odd-{number}", **made_up)]
        lines += [f'up{{{label}="{value}"}} 0', f'{TOKENS.name}{{{label}="{value}"}} 5']
    lines += [line(TOKENS, 2, "long", **{label: "y" * 2000}) for label in MARKS]
    reading = rig.show(page(*lines, typed=False), page(line(TOKENS, 7, "run-2")))
    assert reading.problems == ()
    used = Counter[str]()
    for session in reading.sessions:
        used[session.session_id] += sum(map(int, session.counters.values()))
        assert session.implausible == ()
    assert used["run-2"] == 7
    for number, (label, _) in enumerate(odd):
        assert used[f"odd-{number}"] == 4, label
        assert used[f"both-{number}"] >= 2, label
        if label in MARKS:
            assert used[f"both-{number}"] == 3, label
    assert reading.dropped.keys() == {"session_id"}
    if rig.through_server:
        assert reading.targets == frozenset(rig.ids)
        assert reading.down == frozenset()
