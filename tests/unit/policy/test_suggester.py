"""Runs that ended, by workflow, and the ceilings that follow; bounded, whatever comes."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from otel_budget import semconv
from otel_budget.core.observation import RunAttributes, shared_labels
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.suggester import RUNS_MOST, WORKFLOWS_MOST, PastRun, Suggester
from otel_budget.policy.suggestion import EndedRun, Suggesting
from otel_budget.policy.verdicts import Rules

TOKENS = semconv.TOKENS
MOST = 1_000_000
BASE = Rules(
    ceilings=bounds_from({TOKENS: MOST, semconv.API_CALLS: 500}, {}, "sidecar"),
    suggesting=Suggesting({TOKENS: MOST}),
)


def past_run(
    number: int, tokens: int, workflow: str = "nightly", *, cut: int | None = None
) -> PastRun:
    limits = {} if cut is None else {TOKENS: cut}
    run = EndedRun({TOKENS: tokens}, cut is None, limits)
    return PastRun(workflow, f"{workflow}-{number}", None, float(number), run)


def limit(rules: Rules, workflow: str = "nightly") -> tuple[object, str]:
    attributes = RunAttributes(labels=shared_labels({"workflow": workflow} if workflow else {}))
    bound = rules.ceilings_for(attributes)[TOKENS]
    return bound.limit, bound.origin


def test_the_tenth_run_that_ended_well_brings_a_suggestion_for_its_workflow_alone() -> None:
    suggester = Suggester()
    assert suggester.rules(BASE) is BASE
    suggester.take(past_run(n, 1000) for n in range(9))
    assert limit(suggester.rules(BASE)) == (MOST, "sidecar")
    assert (suggester.runs, suggester.changes) == ({"nightly": 9}, [])
    suggester.take([past_run(9, 1000)])
    rules = suggester.rules(BASE)
    assert limit(rules) == (1300, "suggested")
    assert limit(rules, "other") == limit(rules, "") == (MOST, "sidecar")
    assert rules.ceilings_for(RunAttributes())[semconv.API_CALLS].limit == 500
    (change,) = suggester.changes
    assert (change.workflow, change.before, change.limit) == ("nightly", None, 1300)
    assert suggester.rules(BASE) is rules


def test_a_suggestion_that_is_no_stricter_than_at_most_is_none() -> None:
    suggester = Suggester(past_run(n, MOST) for n in range(20))
    assert limit(suggester.rules(BASE)) == (MOST, "sidecar")
    assert suggester.limits == {"nightly": {}}


def test_bounds_can_be_changed_and_taken_away_with_what_is_known_kept() -> None:
    suggester = Suggester(past_run(n, 1000) for n in range(20))
    assert limit(suggester.rules(BASE)) == (1300, "suggested")
    least = replace(BASE, suggesting=Suggesting({TOKENS: MOST}, {TOKENS: 5000}))
    assert limit(suggester.rules(least)) == (5000, "suggested")
    assert limit(suggester.rules(replace(BASE, suggesting=None))) == (MOST, "sidecar")
    assert limit(suggester.rules(BASE)) == (1300, "suggested")
    halved = replace(BASE, thresholds={TOKENS: 0.5})
    assert limit(suggester.rules(halved)) == (2100, "suggested")


def test_runs_that_name_no_workflow_are_one() -> None:
    suggester = Suggester(past_run(n, 1000, "") for n in range(10))
    rules = suggester.rules(BASE)
    assert limit(rules, "") == (1300, "suggested")
    assert rules.ceilings_for(RunAttributes())[TOKENS].limit == 1300


def test_a_run_that_goes_on_and_ends_again_counts_once() -> None:
    suggester = Suggester(past_run(n, 1000) for n in range(9))
    for tokens in (1000, 2000, 3000):
        suggester.take([past_run(8, tokens)])
    assert suggester.runs == {} or suggester.rules(BASE) is BASE
    moved = PastRun("other", "nightly-8", None, 9.0, EndedRun({TOKENS: 1}, ended_well=True))
    suggester.take([moved])
    suggester.rules(BASE)
    assert suggester.runs == {"nightly": 8, "other": 1}


def test_the_newest_runs_of_the_newest_workflows_are_known_and_no_more() -> None:
    suggester = Suggester()
    suggester.rules(BASE)
    gone = suggester.take(past_run(n, 1000 + n) for n in range(RUNS_MOST + 5))
    assert [one.session_id for one in gone] == [f"nightly-{n}" for n in range(5)]
    assert suggester.runs == {"nightly": RUNS_MOST}
    known = suggester.past_runs
    for number in range(5):  # as they are judged again
        assert suggester.take([past_run(number, 1000 + number)]) == []
    assert suggester.past_runs == known


def test_names_that_nothing_is_suggested_for_take_no_more_than_half_of_the_room() -> None:
    suggester = Suggester()
    suggester.rules(BASE)
    suggester.take(past_run(n, 1000) for n in range(10))
    suggester.take(past_run(500 + n, 1000, f"job-{n}") for n in range(10 * WORKFLOWS_MOST))
    assert len(suggester.runs) == WORKFLOWS_MOST
    assert limit(suggester.rules(BASE)) == (1300, "suggested")


def test_a_workflow_that_makes_room_for_others_is_said_to_have_no_suggestion_any_more() -> None:
    suggester = Suggester()
    suggester.rules(BASE)
    for workflow in range(WORKFLOWS_MOST):
        suggester.take(past_run(10 * workflow + n, 1000, f"w{workflow}") for n in range(10))
    suggester.changes.clear()
    suggester.take([past_run(1, 1000, "older")])
    assert suggester.changes == []
    gone = suggester.take([past_run(9999, 1000, "newer")])
    assert [one.session_id for one in gone] == [f"w0-{n}" for n in range(10)]
    (change,) = suggester.changes
    assert (change.workflow, change.before, change.limit) == ("w0", 1300, None)
    assert change.suggestion.reason == "runs of 200 other workflows ended later: no more are known"
    assert limit(suggester.rules(BASE), "w0") == (MOST, "sidecar")
    assert "w0" not in suggester.limits
    assert suggester.take([past_run(1, 1000, "w0")]) == []
    assert len(suggester.runs) == WORKFLOWS_MOST


def test_cut_runs_older_than_all_that_ended_well_say_nothing_any_more() -> None:
    suggester = Suggester()
    suggester.rules(BASE)
    suggester.take(past_run(n, 9_999, cut=9_000) for n in range(50))
    gone = suggester.take(past_run(100 + n, 1000) for n in range(RUNS_MOST))
    assert len(gone) == 50
    assert limit(suggester.rules(BASE)) == (1300, "suggested")


sizes = st.lists(st.tuples(st.integers(1, 2 * MOST), st.booleans()), max_size=60)


@given(sizes, st.integers(1, MOST))
def test_no_suggestion_is_ever_looser_than_at_most_nor_stricter_than_at_least(
    runs: list[tuple[int, bool]], least: int
) -> None:
    base = replace(BASE, suggesting=Suggesting({TOKENS: MOST}, {TOKENS: least}))
    suggester = Suggester()
    suggester.rules(base)
    for number, (tokens, cut) in enumerate(runs):
        suggester.take([past_run(number, tokens, cut=tokens if cut else None)])
    held = limit(suggester.rules(base))[0]
    assert isinstance(held, int)
    assert least <= held <= MOST


@given(sizes)
def test_what_is_known_after_a_restart_suggests_the_same(runs: list[tuple[int, bool]]) -> None:
    suggester = Suggester()
    suggester.rules(BASE)
    for number, (tokens, cut) in enumerate(runs):
        suggester.take([past_run(number, tokens, cut=tokens if cut else None)])
    again = Suggester(reversed(suggester.past_runs))
    assert limit(again.rules(BASE)) == limit(suggester.rules(BASE))
