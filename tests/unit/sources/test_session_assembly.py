"""From raw samples to sessions: what counts, what is refused, and what is not made up."""

import itertools
import math
from decimal import Decimal

import pytest

from otel_budget import semconv
from otel_budget.core.observation import RunObservation
from otel_budget.core.resources import COUNTERS
from otel_budget.core.samples import Assembled, Sample
from otel_budget.sources.session_assembly import NEEDED, assemble

TOKENS, CALLS, COST = semconv.SESSION_TOKENS, semconv.SESSION_API_CALLS, semconv.SESSION_COST


def sample(
    metric: semconv.Metric,
    value: float,
    session: str | None = "run-1",
    declared: str | None = None,
    **labels: str,
) -> Sample:
    """Return a sample of a session."""
    named = {} if session is None else {semconv.SESSION_ID: session}
    return Sample(metric.name, {**named, **labels}, value, declared)


def assembled(*samples: Sample) -> Assembled:
    """Assemble the samples of one target, and see that their order does not matter."""
    found = assemble(samples, "here", 100.0)
    if len(samples) <= 4:
        for order in itertools.permutations(samples):
            again = assemble(order, "here", 100.0)
            assert (again.dropped, set(_ids(again))) == (found.dropped, set(_ids(found)))
            by_id = {session.session_id: session for session in again.sessions}
            assert all(by_id[session.session_id] == session for session in found.sessions)
    return found


def _ids(found: Assembled) -> list[str]:
    return [session.session_id for session in found.sessions]


def only(*samples: Sample) -> RunObservation:
    """Assemble samples of which nothing is dropped and that make one session."""
    found = assembled(*samples)
    assert found.dropped == {}
    (session,) = found.sessions
    return session


def test_a_session_says_where_and_when_it_was_seen() -> None:
    """Target and time are those of the target as a whole."""
    session = only(sample(TOKENS, 5))
    assert (session.session_id, session.target, session.sampled_at) == ("run-1", "here", 100.0)


@pytest.mark.parametrize(
    ("metric", "value", "want"),
    [
        (TOKENS, 5.0, 5),
        (TOKENS, 5.000001, 6),
        (TOKENS, 2.0**53, 2**53),
        (CALLS, 0.0, 0),
        (CALLS, -0.0, 0),
        (COST, 0.1, Decimal("0.1")),
        (COST, 7, Decimal(7)),
        (COST, 1e-9, Decimal("1e-9")),
    ],
)
def test_values_come_in_the_type_of_their_resource(
    metric: semconv.Metric, value: float, want: int | Decimal
) -> None:
    """Whole tokens and calls, rounded up; exact money."""
    (number,) = only(sample(metric, value)).counters.values()
    assert (number, type(number)) == (want, type(want))
    assert not str(number).startswith("-")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 2.0**53 + 2, 10**400])
@pytest.mark.parametrize("metric", [TOKENS, CALLS, COST], ids=lambda metric: metric.name)
def test_an_implausible_counter_is_dropped_and_named(metric: semconv.Metric, value: float) -> None:
    """The session is there even if that is all there is of it."""
    found = assembled(sample(metric, value))
    assert found.dropped == {"implausible": 1}
    (session,) = found.sessions
    assert (session.counters, session.implausible) == ({}, (metric.name,))


@pytest.mark.parametrize("declared", [None, "counter", "unknown", "untyped"])
def test_a_counter_may_be_declared_one_or_not_at_all(declared: str | None) -> None:
    """Foreign agents often declare nothing."""
    assert only(sample(TOKENS, 5, declared=declared)).counters == {(semconv.TOKENS, ""): 5}


@pytest.mark.parametrize("declared", ["gauge", "histogram", "summary", "info", "widget"])
def test_a_counter_of_a_contradictory_type_is_dropped_and_is_not_0(declared: str) -> None:
    """Its use is there and cannot be read; the others count."""
    found = assembled(sample(TOKENS, 5, declared=declared), sample(CALLS, 2))
    assert found.dropped == {"type": 1}
    (session,) = found.sessions
    assert session.counters == {(semconv.API_CALLS, ""): 2}
    assert session.implausible == (TOKENS.name,)


@pytest.mark.parametrize("session", [None, "", "-a", "a b", "a" * 129, "ü", "a\n"])
def test_an_invalid_session_id_is_dropped_and_counted(session: str | None) -> None:
    """Also a counter without one: it is of no session."""
    found = assembled(sample(TOKENS, 5, session))
    assert (found.sessions, found.dropped) == ((), {"session_id": 1})


def test_series_are_kept_apart_by_their_further_labels_in_any_order() -> None:
    """The same labels in another order are the same series."""
    labels = {"model": "a", "phase": "b"}
    swapped = dict(reversed(labels.items()))
    found = assembled(sample(TOKENS, 1), sample(TOKENS, 2, **labels), sample(TOKENS, 3, **swapped))
    assert sorted(found.sessions[0].counters.values()) == [1, 3]
    assert found.dropped == {"duplicate": 1}


def test_labels_cannot_be_made_to_look_like_others() -> None:
    """Quotes and commas in a value stay in it."""
    one = sample(TOKENS, 1, model="a',phase='b")
    other = sample(TOKENS, 2, model="a", phase="b")
    assert len(only(one, other).counters) == 2


def test_of_a_limit_said_twice_the_smaller_counts_and_of_use_the_larger() -> None:
    """Whichever is stricter."""
    found = assembled(
        sample(TOKENS, 9),
        sample(TOKENS, 7),
        sample(semconv.LIMIT, 50, resource="tokens"),
        sample(semconv.LIMIT, 40, resource="tokens"),
    )
    assert found.sessions[0].counters == {(semconv.TOKENS, ""): 9}
    assert found.sessions[0].attributes.limits == {"tokens": 40}
    assert found.dropped == {"duplicate": 2}


@pytest.mark.parametrize(
    ("metric", "value", "labels"),
    [
        (semconv.LIMIT, math.nan, {"resource": "tokens"}),
        (semconv.LIMIT, -1, {"resource": "tokens"}),
        (semconv.CARRIED_OVER, math.inf, {"resource": "tokens"}),
        (semconv.WARNING_THRESHOLD, 0, {"resource": "tokens"}),
        (semconv.WARNING_THRESHOLD, 1.5, {"resource": "tokens"}),
        (semconv.COMPLETION_THRESHOLD, 0, {}),
        (semconv.PROGRESS, 1.01, {}),
        (semconv.PROGRESS, math.nan, {}),
        (semconv.DURATION_SECONDS, -0.5, {}),
        (semconv.SESSION_START, math.inf, {}),
        (semconv.INCARNATION_START, math.nan, {}),
        (semconv.SESSION_STATE, 0.5, {"state": "running"}),
    ],
)
def test_an_implausible_fact_is_dropped_and_puts_the_run_in_doubt(
    metric: semconv.Metric, value: float, labels: dict[str, str]
) -> None:
    """As if it had not been said, it would loosen: no limit is "unlimited"."""
    found = assembled(sample(TOKENS, 5), sample(metric, value, **labels))
    assert found.dropped == {"implausible": 1}
    assert found.sessions[0] == only(sample(TOKENS, 5))._replace(implausible=(metric.name,))


def test_implausible_facts_alone_make_no_run() -> None:
    """Without a judged counter there is nothing to judge."""
    found = assembled(sample(semconv.PROGRESS, math.nan))
    assert (found.sessions, found.dropped) == ((), {"implausible": 1})


def test_an_infinite_limit_is_a_way_to_say_unlimited() -> None:
    """And nothing is wrong with it; an absent one says nothing."""
    infinite = sample(semconv.LIMIT, math.inf, resource="tokens")
    session = only(sample(TOKENS, 5), infinite)
    assert (session.attributes.limits, session.implausible) == ({"tokens": math.inf}, ())


@pytest.mark.parametrize("metric", [semconv.LIMIT, semconv.CARRIED_OVER, semconv.WARNING_THRESHOLD])
def test_a_resource_nobody_knows_is_passed_over(metric: semconv.Metric) -> None:
    """A newer agent may know more of them."""
    session = only(sample(TOKENS, 5), sample(metric, 0.5, resource="searches"))
    assert session == only(sample(TOKENS, 5))


def test_progress_of_0_and_duration_of_0_are_known() -> None:
    """0 is a value, None is none."""
    attributes = only(
        sample(TOKENS, 5), sample(semconv.PROGRESS, 0), sample(semconv.DURATION_SECONDS, 0)
    ).attributes
    assert (attributes.progress, attributes.duration) == (0.0, 0.0)


def test_the_state_is_the_one_at_1() -> None:
    """The others are at 0; a state nobody knows is passed over."""
    states = {"running": 0, "completed": 1, "dreaming": 1}
    samples = [sample(semconv.SESSION_STATE, v, state=name) for name, v in states.items()]
    assert only(sample(TOKENS, 5), *samples).attributes.state == "completed"


def test_a_run_in_two_states_has_not_surely_ended() -> None:
    """As long as one of them is a living one."""
    states = [sample(semconv.SESSION_STATE, 1, state=s) for s in ("completed", "running")]
    assert only(sample(TOKENS, 5), *states).attributes.state == "running"


def test_facts_and_foreign_metrics_make_no_session() -> None:
    """Only what is judged does."""
    foreign = Sample("python_info", {semconv.SESSION_ID: "run-1"}, 1.0)
    found = assembled(sample(semconv.PROGRESS, 0.5), sample(semconv.SESSION_INFO, 1), foreign)
    assert (found.sessions, found.dropped) == ((), {})


def test_every_metric_the_assembly_needs_is_one_of_the_contract() -> None:
    """A source asks for these and no others."""
    assert set(NEEDED) <= {metric.name for metric in semconv.SESSION_METRICS}
    assert set(COUNTERS) <= set(NEEDED)


def test_the_labels_say_whose_a_run_is_and_equal_ones_are_one_object() -> None:
    told = sample(semconv.SESSION_INFO, 1, workflow="nightly", team="a", agent="", pod="x")
    labels = only(sample(TOKENS, 5), told).attributes.labels
    assert labels == {"workflow": "nightly", "team": "a"}
    other = sample(semconv.SESSION_INFO, 1, "run-2", team="a", workflow="nightly")
    assert only(sample(TOKENS, 5, "run-2"), other).attributes.labels is labels
    assert only(sample(TOKENS, 5)).attributes.labels is None


def test_a_label_that_a_server_renamed_is_the_runs_own() -> None:
    told = sample(semconv.SESSION_INFO, 1, team="of-the-server", exported_team="own")
    assert only(sample(TOKENS, 5), told).attributes.labels == {"team": "own"}


def test_labels_that_no_page_can_hold_or_not_said_cost_a_run_nothing_else() -> None:
    for text in ("x" * 257, "half of a pair \ud800"):
        told = sample(semconv.SESSION_INFO, 1, workflow=text, team="\U0001f600")
        assert only(sample(TOKENS, 5), told).attributes.labels == {"team": "\U0001f600"}
    for value in (0, math.nan):
        found = only(sample(TOKENS, 5), sample(semconv.SESSION_INFO, value, workflow="nightly"))
        assert found.attributes.labels is None


def test_of_two_that_say_whose_a_run_is_one_is_taken_whatever_their_order() -> None:
    one = sample(semconv.SESSION_INFO, 1, workflow="a")
    other = sample(semconv.SESSION_INFO, 1, workflow="b")
    (session,) = assembled(sample(TOKENS, 5), one, other).sessions
    assert session.attributes.labels == {"workflow": "a"}


def test_a_run_says_whose_descendant_it_is_and_a_parent_that_is_no_session_id_is_dropped() -> None:
    found = only(sample(TOKENS, 5), sample(semconv.SESSION_INFO, 1, parent_session_id="lead"))
    assert found.attributes.parent == "lead"
    assert not found.attributes.labels
    assert only(sample(TOKENS, 5), sample(semconv.SESSION_INFO, 1)).attributes.parent is None
    wrong = assembled(sample(TOKENS, 5), sample(semconv.SESSION_INFO, 1, parent_session_id="a/b"))
    assert wrong.sessions[0].attributes.parent is None
    assert wrong.dropped == {semconv.BAD_SESSION_ID: 1}
