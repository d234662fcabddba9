"""A range of limits over one trace: each as if it were alone, a higher one never cuts more."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from otel_budget import semconv
from otel_budget.policy.bounds import bound
from otel_budget.policy.verdicts import Rules
from otel_budget.replay.comparison import Comparison, Policy
from otel_budget.replay.engine import Replay
from otel_budget.replay.limit_range import LimitRange
from otel_budget.replay.sweep import Sweep, with_limit
from tests.unit.replay.traces import lines_of, run

NO_RULES = Policy("none.yaml", Rules())
SIZES = st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=12), min_size=1, max_size=6)
LIMITS = st.lists(st.integers(1, 8000), min_size=2, max_size=5, unique=True).map(sorted)


def test_a_limit_cuts_the_runs_that_come_to_it() -> None:
    """Of three runs of 100, 200 and 300 tokens."""
    sweep = Sweep([NO_RULES], LimitRange("tokens", (50, 150, 250, 350)))
    for line in lines_of(run("a", [100]), run("b", [100, 100]), run("c", [100, 100, 100])):
        sweep.take(line)
    (curve,) = sweep.finish()
    assert [(limit, p.cut, p.resolved_kept, p.used["tokens"]) for limit, p in curve.points] == [
        (50, 3, 0, 300), (150, 2, 1, 500), (250, 1, 2, 600), (350, 0, 3, 600),
    ]  # fmt: skip
    assert [point.cut_by for _, point in curve.points][:2] == [
        {"limit_exceeded": 3}, {"limit_exceeded": 2},
    ]  # fmt: skip


def test_a_run_that_tells_its_progress_is_stopped_before_the_limit() -> None:
    """At the warning line, as the policy says: a fifth of its calls are made."""
    sweep = Sweep([NO_RULES], LimitRange("tokens", (100, 10_000)))
    for line in lines_of(run("a", [85, 85, 85, 85, 85], progress=True)):
        sweep.take(line)
    (curve,) = sweep.finish()
    assert [point.cut_by for _, point in curve.points] == [{"approaching_limit": 1}, {}]


def test_a_limit_takes_the_place_of_the_one_of_the_file_and_keeps_its_threshold() -> None:
    """What else the file says stays."""
    rules = Rules(
        {
            "tokens": bound("tokens", 10, 0.5, "sidecar"),
            "api_calls": bound("api_calls", 7, 0.8, "sidecar"),
        },
        {"tokens": 0.5},
    )
    swept = with_limit(rules, "tokens", 1000)
    assert {name: (b.limit, b.warning_at, b.origin) for name, b in swept.ceilings.items()} == {
        "tokens": (1000, 500, "sidecar"), "api_calls": (7, 6, "sidecar"),
    }  # fmt: skip


def test_a_limit_of_the_runs_own_holds_beside_each_and_is_counted() -> None:
    """The stricter one holds, so a sweep above it changes nothing."""
    sweep = Sweep([NO_RULES], LimitRange("tokens", (150, 350)))
    for line in lines_of(run("a", [100, 100, 100], limits={"max_tokens": 150})):
        sweep.take(line)
    (curve,) = sweep.finish()
    assert [point.cut for _, point in curve.points] == [1, 1]
    assert sweep.limited_themselves == 1


@given(SIZES, LIMITS)
def test_without_progress_a_higher_limit_never_cuts_more(
    sizes: list[list[int]], limits: list[int]
) -> None:
    """And it never keeps fewer, nor spends less."""
    sweep = Sweep([NO_RULES], LimitRange("tokens", tuple(limits)))
    for line in lines_of(*(run(f"r{i}", one) for i, one in enumerate(sizes))):
        sweep.take(line)
    (curve,) = sweep.finish()
    for (_, lower), (_, higher) in pairwise(curve.points):
        assert higher.cut <= lower.cut
        assert higher.resolved_kept >= lower.resolved_kept
        assert higher.used["tokens"] >= lower.used["tokens"]
        assert higher.recorded == lower.recorded


@given(SIZES, LIMITS, st.booleans())
def test_each_limit_of_a_range_is_as_if_it_were_alone(
    sizes: list[list[int]],
    limits: list[int],
    progress: bool,  # noqa: FBT001 - hypothesis gives it
) -> None:
    """It is the same replay with this limit in its configuration."""
    lines = lines_of(*(run(f"r{i}", one, progress=progress) for i, one in enumerate(sizes)))
    sweep = Sweep([NO_RULES, NO_RULES], LimitRange("tokens", tuple(limits)))
    for line in lines:
        sweep.take(line)
    one, other = sweep.finish()
    assert one == other
    for limit, point in one.points:
        alone = Replay(Rules({"tokens": bound("tokens", limit, 0.8, "sidecar")}))
        for line in lines:
            alone.take(line)
        assert alone.finish().point == point


def test_two_policies_are_compared_run_by_run_the_most_different_first() -> None:
    """Only one stops it; both do, not alike; both do the same."""
    strict = Policy("strict.yaml", with_limit(Rules(), semconv.TOKENS, 150))
    wide = Policy("wide.yaml", with_limit(Rules(), semconv.TOKENS, 250))
    comparison = Comparison([strict, wide])
    given_out = [
        (name, found.at)
        for line in lines_of(
            run("a", [50]), run("b", [60] * 9, start=1001), run("c", [90] * 2 + [1])
        )
        for name, found in comparison.take(line)
    ]
    assert {name for name, _ in given_out} == {"strict.yaml", "wide.yaml"}
    assert comparison.open_runs == ()
    summaries, pairs = comparison.finish()
    assert [summary.point.cut for summary in summaries] == [2, 1]
    assert [(pair.first.session_id, pair.distance) for pair in pairs] == [
        ("c", 2), ("b", 1), ("a", 0),
    ]  # fmt: skip
    assert pairs[0].first.stop is not None
    assert (pairs[0].first.stop.at, pairs[0].first.used["tokens"]) == (1020.0, 180)
    assert pairs[0].other.stop is None


def test_a_policy_compared_with_itself_differs_nowhere() -> None:
    """Also of runs without an end, and of one id used twice."""
    policy = Policy("a.yaml", with_limit(Rules(), semconv.TOKENS, 150))
    comparison = Comparison([policy, policy])
    for line in lines_of(
        run("a", [100]), run("a", [100, 100], start=2000), run("b", [9], end=False)
    ):
        list(comparison.take(line))
    assert comparison.open_runs == ("b",)
    _, pairs = comparison.finish()
    assert [pair.first.session_id for pair in pairs] == ["a", "a", "b"]
    assert not any(pair.distance for pair in pairs)
